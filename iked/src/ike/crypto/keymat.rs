//! Key derivation for IKE SAs and child SAs (RFC 7296 sections 2.14, 2.17 and 2.18).

use super::sk::{IvCounter, Opener, Sealer};
use crate::ike::types::{Prf, Secret};
use crate::ike::wire::{ChildSuite, IkeSuite};
use zeroize::ZeroizeOnDrop;

/// Which side of an SA this one is: who sent the request that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The initiator of this SA.
    Initiator,
    /// The responder.
    Responder,
}

impl Role {
    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// The seven keys of an IKE SA (section 2.14).
#[derive(Debug, Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct IkeKeys {
    /// SK_d: from it come the keys of child SAs and of the next IKE SA.
    pub d: Secret,
    /// SK_ai; empty with an AEAD.
    pub ai: Secret,
    /// SK_ar; empty with an AEAD.
    pub ar: Secret,
    /// SK_ei, with its salt.
    pub ei: Secret,
    /// SK_er, with its salt.
    pub er: Secret,
    /// SK_pi.
    pub pi: Secret,
    /// SK_pr.
    pub pr: Secret,
}

impl IkeKeys {
    /// The keys of a first IKE SA: `shared` is g^ir, nonces and SPIs those of IKE_SA_INIT.
    #[must_use]
    pub fn initial(suite: &IkeSuite, ni: &[u8], nr: &[u8], shared: &Secret, spi_i: u64, spi_r: u64) -> Self {
        // SKEYSEED = prf(Ni | Nr, g^ir); of a PRF with keys of 128 bits, the first 64 bits of each.
        let key = match suite.prf {
            Prf::AesXcbc => [half(ni), half(nr)].concat(),
            _ => [ni, nr].concat(),
        };
        let seed = suite.prf.compute(&key, &[&shared.0]);
        Self::expand(suite, &seed, ni, nr, spi_i, spi_r)
    }

    /// The keys of an IKE SA that replaces another, made with the old one's PRF and SK_d (section 2.18); nonces and SPIs
    /// are those of the CREATE_CHILD_SA exchange.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "they are the inputs of one formula of the RFC")]
    pub fn rekeyed(
        suite: &IkeSuite,
        old_prf: Prf,
        old_d: &Secret,
        shared: &Secret,
        ni: &[u8],
        nr: &[u8],
        spi_i: u64,
        spi_r: u64,
    ) -> Self {
        // SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr)
        let seed = old_prf.compute(&old_d.0, &[&shared.0, ni, nr]);
        Self::expand(suite, &seed, ni, nr, spi_i, spi_r)
    }

    /// `prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)`, cut into keys.
    fn expand(suite: &IkeSuite, seed: &Secret, ni: &[u8], nr: &[u8], spi_i: u64, spi_r: u64) -> Self {
        let parts: [&[u8]; 4] = [ni, nr, &spi_i.to_be_bytes(), &spi_r.to_be_bytes()];
        Self::cut(suite, &suite.prf.plus(&seed.0, &parts, Self::len(suite)))
    }

    /// Octets of all seven.
    const fn len(suite: &IkeSuite) -> usize {
        let auth = match suite.integrity {
            Some(integrity) => integrity.key_len(),
            None => 0,
        };
        3 * suite.prf.output_len() + 2 * auth + 2 * suite.encryption.key_len()
    }

    fn cut(suite: &IkeSuite, all: &Secret) -> Self {
        let prf = suite.prf.output_len();
        let auth = suite.integrity.map_or(0, |integrity| integrity.key_len());
        let encr = suite.encryption.key_len();
        let mut cut = Cut(&all.0);
        Self {
            d: cut.next(prf),
            ai: cut.next(auth),
            ar: cut.next(auth),
            ei: cut.next(encr),
            er: cut.next(encr),
            pi: cut.next(prf),
            pr: cut.next(prf),
        }
    }

    /// All seven in one, for a process that goes on with this SA.
    #[must_use]
    pub(crate) fn joined(&self) -> Secret {
        let Self { d, ai, ar, ei, er, pi, pr } = self;
        let parts = [d, ai, ar, ei, er, pi, pr];
        // Of its final size from the start, so that no copy is left behind.
        let mut all = Vec::with_capacity(parts.iter().map(|key| key.0.len()).sum());
        for key in parts {
            all.extend_from_slice(&key.0);
        }
        Secret(all)
    }

    /// What [`Self::joined`] gave, of an SA with this suite; `None` if it is not as long as that.
    #[must_use]
    pub(crate) fn parted(suite: &IkeSuite, all: &Secret) -> Option<Self> {
        (all.0.len() == Self::len(suite)).then(|| Self::cut(suite, all))
    }

    /// What seals the messages of the side that is `own` in this IKE SA.
    #[must_use]
    pub fn sealer(&self, suite: &IkeSuite, own: Role, ivs: IvCounter) -> Sealer {
        let (encryption, authentication) = self.of_sender(own);
        Sealer::new(suite, encryption, authentication, ivs)
    }

    /// What opens the messages of the peer of the side that is `own` in this IKE SA.
    #[must_use]
    pub fn opener(&self, suite: &IkeSuite, own: Role) -> Opener {
        let (encryption, authentication) = self.of_sender(own.peer());
        Opener::new(suite, encryption, authentication)
    }

    /// SK_pi or SK_pr.
    #[must_use]
    pub const fn p(&self, of: Role) -> &Secret {
        match of {
            Role::Initiator => &self.pi,
            Role::Responder => &self.pr,
        }
    }

    const fn of_sender(&self, sender: Role) -> (&Secret, &Secret) {
        match sender {
            Role::Initiator => (&self.ei, &self.ai),
            Role::Responder => (&self.er, &self.ar),
        }
    }
}

/// The keying material of a pair of child SAs, per direction: encryption key, salt of an AEAD, integrity key.
#[derive(Debug, Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct ChildKeys {
    /// For what the initiator of the exchange sends.
    pub initiator: Secret,
    /// For what the responder of the exchange sends.
    pub responder: Secret,
}

impl ChildKeys {
    /// `prf+(SK_d, [g^ir (new)] | Ni | Nr)` (section 2.17); `shared` is there with a fresh key exchange.
    #[must_use]
    pub fn derive(
        prf: Prf,
        d: &Secret,
        suite: &ChildSuite,
        shared: Option<&Secret>,
        ni: &[u8],
        nr: &[u8],
    ) -> Self {
        let one = suite.encryption.key_len() + suite.integrity.map_or(0, |integrity| integrity.key_len());
        let shared = shared.map_or(&[][..], |shared| &shared.0);
        let all = prf.plus(&d.0, &[shared, ni, nr], 2 * one);
        let mut cut = Cut(&all.0);
        Self { initiator: cut.next(one), responder: cut.next(one) }
    }

    /// (inbound, outbound) for the side that is `own` in the exchange.
    #[must_use]
    pub fn split(&self, own: Role) -> (Secret, Secret) {
        match own {
            Role::Initiator => (self.responder.clone(), self.initiator.clone()),
            Role::Responder => (self.initiator.clone(), self.responder.clone()),
        }
    }
}

/// What of a nonce goes into a key of 128 bits.
fn half(nonce: &[u8]) -> &[u8] {
    &nonce[..nonce.len().min(8)]
}

/// What is left of the key stream.
struct Cut<'a>(&'a [u8]);

impl Cut<'_> {
    fn next(&mut self, len: usize) -> Secret {
        let (key, rest) = self.0.split_at(len);
        self.0 = rest;
        Secret(key.to_vec())
    }
}
