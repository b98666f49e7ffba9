//! Both ends replace the same SA at once: which of the two new ones stays (RFC 7296 sections 2.8.1 and 2.8.2).

use crate::ike::view::Role;

/// Nonces of an exchange, initiator's and responder's.
pub(crate) type Nonces<'n> = (&'n [u8], &'n [u8]);

/// The new SA that the peer's exchange made while ours was under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rival<Id> {
    /// The SA.
    pub(crate) sa: Id,
    /// The lower nonce of the exchange that made it.
    pub(crate) lowest: Vec<u8>,
}

impl<Id> Rival<Id> {
    /// The SA made by an exchange with these nonces.
    pub(crate) fn new(sa: Id, nonces: Nonces<'_>) -> Self {
        Self { sa, lowest: lowest(nonces).to_vec() }
    }

    /// Whether this one stays: "the SA created with the lowest of the four nonces" goes, deleted by the end that created
    /// it. Both ends see the same four nonces and so decide alike.
    pub(crate) fn stays(&self, ours: Nonces<'_>) -> bool {
        lowest(ours) < self.lowest.as_slice()
    }
}

/// How the first of a line of IKE SAs was made, each of which replaced the one before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Origin {
    /// Our role in its IKE_SA_INIT.
    pub(crate) role: Role,
    lowest: Vec<u8>,
}

impl Origin {
    /// Made by an IKE_SA_INIT with these nonces.
    pub(crate) fn new(role: Role, nonces: Nonces<'_>) -> Self {
        Self { role, lowest: lowest(nonces).to_vec() }
    }

    /// Whether `self` is the one that goes when both ends have started at the same time: RFC 7296 has no rule for that, and
    /// the one of section 2.8.1 serves as well. The end that started it deletes it.
    pub(crate) fn yields_to(&self, other: &Self) -> bool {
        self.role == Role::Initiator && other.role == Role::Responder && self.lowest < other.lowest
    }
}

/// The lower of two nonces, compared octet by octet.
fn lowest<'n>(nonces: Nonces<'n>) -> &'n [u8] {
    nonces.0.min(nonces.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t18_both_ends_keep_the_same_one() {
        let one: Nonces<'_> = (&[5, 0], &[9, 9]);
        let other: Nonces<'_> = (&[7, 0], &[6, 0]);
        // One end made `one` and sees `other` as the rival; the other end the other way round.
        assert!(Rival::new((), other).stays(one));
        assert!(!Rival::new((), one).stays(other));
    }

    #[test]
    fn a_prefix_is_lower() {
        assert!(!Rival::new((), (&[1, 2], &[9])).stays((&[1, 2, 0], &[9])));
        assert!(Rival::new((), (&[1, 2, 0], &[9])).stays((&[1, 2], &[9])));
    }
}
