//! Offers of the policy as suites, and which of them was agreed on.
//!
//! Comparing with what a peer sent is `wire::suite`'s business; here the rules' order and the words for the operator.

use super::rules::{ChildOffer, ChildRule, ExchangeRule, IkeOffer};
use super::types::Group;
use super::wire::payload::{Proposal, Sa};
use super::wire::{ChildSuite, IkeSuite, ProtocolId, SuiteFault, TransformType};
use std::fmt::Write as _;
use std::time::Duration;

/// How much of a peer's offer is repeated in a reason.
const SHOWN: usize = 4;

impl IkeOffer {
    /// The suite without the lifetime.
    pub(crate) const fn suite(&self) -> IkeSuite {
        let Self { encryption, integrity, prf, group, .. } = *self;
        IkeSuite { encryption, integrity, prf, group }
    }
}

impl ExchangeRule {
    /// Suites, most preferred first. An offer that is no suite (an AEAD with integrity, or a cipher without) is none.
    pub(crate) fn suites(&self) -> Vec<IkeSuite> {
        self.offers.iter().map(IkeOffer::suite).filter(IkeSuite::is_sound).collect()
    }

    /// Lifetime that goes with a suite.
    pub(crate) fn lifetime(&self, suite: &IkeSuite) -> Option<Duration> {
        self.offers.iter().find(|offer| offer.suite() == *suite).map(|offer| offer.lifetime)
    }
}

impl ChildOffer {
    fn is_sound(&self) -> bool {
        let Self { encryption, integrity, .. } = *self;
        ChildSuite { encryption, integrity, group: None, esn: false }.is_sound()
    }

    fn suites(&self, group: Option<Group>) -> impl Iterator<Item = ChildSuite> {
        let Self { encryption, integrity, .. } = *self;
        let esn: &[bool] = if self.esn { &[true, false] } else { &[false] };
        esn.iter().map(move |&esn| ChildSuite { encryption, integrity, group, esn })
    }
}

impl ChildRule {
    /// Suites, most preferred first, each with every one of `groups`.
    pub(crate) fn suites(&self, groups: &[Option<Group>]) -> Vec<ChildSuite> {
        let with = |offer: &ChildOffer| groups.iter().flat_map(|g| offer.suites(*g)).collect::<Vec<_>>();
        self.offers.iter().filter(|offer| offer.is_sound()).flat_map(with).collect()
    }

    /// The offer that a suite was taken of.
    pub(crate) fn offer(&self, suite: &ChildSuite) -> Option<&ChildOffer> {
        self.offers.iter().find(|o| o.encryption == suite.encryption && o.integrity == suite.integrity)
    }

    /// What this side offers as initiator, receiving on `spi`.
    pub(crate) fn proposals(&self, spi: u32, group: Option<Group>) -> Sa {
        let proposal = |(number, offer): (u8, &ChildOffer)| {
            let esn: Vec<bool> = offer.suites(group).map(|suite| suite.esn).collect();
            offer.suites(group).next().map(|suite| Proposal::child(number, spi, &suite, &esn))
        };
        let sound = self.offers.iter().filter(|offer| offer.is_sound());
        Sa { proposals: (1..=u8::MAX).zip(sound).filter_map(proposal).collect() }
    }
}

/// What this side offers for an IKE SA; `spi` is its own SPI, in a rekey only.
pub(crate) fn ike_proposals(suites: &[IkeSuite], spi: Option<u64>) -> Sa {
    let proposal = |(number, suite): (u8, &IkeSuite)| Proposal::ike(number, spi, suite);
    Sa { proposals: (1..=u8::MAX).zip(suites).map(proposal).collect() }
}

/// An offer made in IKE_AUTH without the groups that some peers name there: the first child takes its keys from the
/// IKE SA's exchange (RFC 7296 section 1.2).
pub(crate) fn without_groups(sa: &Sa) -> Sa {
    let mut sa = sa.clone();
    for proposal in &mut sa.proposals {
        proposal.transforms.retain(|transform| transform.kind != TransformType::KE);
    }
    sa
}

/// `AES_GCM_16_128/…, …`: the first few proposals of an offer.
pub(crate) fn shown(sa: &Sa) -> String {
    let mut out = String::new();
    for (index, proposal) in sa.proposals.iter().take(SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Each transform has a bounded name; their number is bounded by the parser, and by this.
        let text: String = proposal.to_string().chars().take(400).collect();
        let _ = write!(out, "{separator}{text}");
    }
    if sa.proposals.len() > SHOWN {
        let _ = write!(out, " and {} more", sa.proposals.len() - SHOWN);
    }
    out
}

/// Why none of `ours` was found in an offer: "peer offers …; rule R allows … (proposal 1: no ENCR that is allowed)".
pub(crate) fn mismatch<S: std::fmt::Display>(
    sa: &Sa,
    rule: &str,
    ours: &[S],
    faults: &[(u8, SuiteFault)],
) -> String {
    let mut out = format!("peer offers {}; rule {rule} allows ", shown(sa));
    for (index, suite) in ours.iter().take(SHOWN).enumerate() {
        let _ = write!(out, "{}{suite}", if index == 0 { "" } else { ", " });
    }
    if ours.len() > SHOWN {
        let _ = write!(out, " and {} more", ours.len() - SHOWN);
    }
    for (index, (number, fault)) in faults.iter().take(SHOWN).enumerate() {
        let _ = write!(out, "{}proposal {number}: {fault}", if index == 0 { " (" } else { "; " });
    }
    if !faults.is_empty() {
        out.push(')');
    }
    out
}

/// The protocol of the first proposal, for a log line.
pub(crate) fn protocol(sa: &Sa) -> ProtocolId {
    sa.proposals.first().map_or(ProtocolId::NONE, |proposal| proposal.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ike::sim;
    use crate::ike::types::{Encryption, Integrity};
    use crate::ike::wire::choose_ike;

    fn rules() -> crate::ike::rules::Rules {
        sim::rules(sim::ADDRESS_A, sim::ADDRESS_B)
    }

    #[test]
    fn an_offer_that_is_no_suite_is_never_offered_nor_taken() {
        let mut rules = rules();
        let mut cbc_alone = rules.exchange[0].offers[0];
        cbc_alone.encryption = Encryption::AesCbc(128);
        let mut gcm_and_more = rules.exchange[0].offers[0];
        gcm_and_more.integrity = Some(Integrity::HmacSha256);
        rules.exchange[0].offers.extend([cbc_alone, gcm_and_more]);
        assert_eq!(rules.exchange[0].suites().len(), 1);
        let child = &mut rules.child[0];
        child.offers[0].integrity = Some(Integrity::HmacSha256);
        assert!(child.suites(&[None]).is_empty() && child.proposals(300, None).proposals.is_empty());
    }

    #[test]
    fn both_kinds_of_sequence_numbers_are_one_proposal() {
        let rules = rules();
        let sa = rules.child[0].proposals(300, None);
        assert_eq!(sa.proposals.len(), 1);
        assert_eq!(sa.to_string(), "ESP: AES_GCM_16_128/ESN+NO_ESN");
        assert_eq!(without_groups(&rules.child[0].proposals(300, Some(Group::Ecp256))), sa);
    }

    #[test]
    fn a_mismatch_names_what_each_side_has() {
        let rules = rules();
        let mut theirs = rules.exchange[0].suites();
        theirs[0].encryption = Encryption::AesCbc(256);
        theirs[0].integrity = Some(Integrity::HmacSha512);
        let (offer, ours) = (ike_proposals(&theirs, None), rules.exchange[0].suites());
        let faults = choose_ike(&offer, &ours).unwrap_err();
        let text = mismatch(&offer, "kxPeer", &ours, &faults);
        assert_eq!(
            text,
            "peer offers IKE: AES_CBC_256/PRF_HMAC_SHA2_256/HMAC_SHA2_512_256/CURVE25519; rule kxPeer allows \
             IKE: AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE25519 (proposal 1: no ENCR that is allowed)"
        );
    }

    #[test]
    fn t06_a_huge_offer_is_shown_in_few_words() {
        let suite = rules().exchange[0].suites()[0];
        let many = ike_proposals(&vec![suite; 200], None);
        assert!(shown(&many).len() < 2000 && shown(&many).ends_with("and 196 more"));
    }
}
