//! Authentication of an IKE SA by a pre-shared key (RFC 7296 section 2.15).

use crate::ike::types::{Prf, Secret};
use subtle::ConstantTimeEq;

/// What one side signs: `its first message | the other's nonce | prf(its SK_p, body of its ID payload)`.
#[derive(Debug, Clone, Copy)]
pub struct AuthInput<'a> {
    /// PRF of the IKE SA.
    pub prf: Prf,
    /// The signer's IKE_SA_INIT message, octet for octet, the last one where a cookie made it send several.
    pub message: &'a [u8],
    /// The nonce of the other side.
    pub nonce: &'a [u8],
    /// The signer's SK_pi or SK_pr.
    pub sk_p: &'a Secret,
    /// The body of the signer's ID payload ([`crate::ike::wire::payload::Id::body`]).
    pub id: &'a [u8],
}

impl AuthInput<'_> {
    /// The octets that are signed.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        [self.message, self.nonce, &self.prf.compute(&self.sk_p.0, &[self.id]).0].concat()
    }
}

/// What a key is made of first, so that a store may hold that instead (section 2.15).
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// The AUTH payload's data for a pre-shared key.
#[must_use]
pub fn psk_auth(shared_key: &Secret, input: &AuthInput<'_>) -> Vec<u8> {
    let padded = input.prf.compute(&shared_key.0, &[KEY_PAD]);
    input.prf.compute(&padded.0, &[&input.octets()]).0.clone()
}

/// Whether `received` is the AUTH data of a peer that knows the pre-shared key; in time that does not tell how wrong it is.
#[must_use]
pub fn verify_psk_auth(shared_key: &Secret, input: &AuthInput<'_>, received: &[u8]) -> bool {
    psk_auth(shared_key, input).ct_eq(received).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t17_only_the_whole_right_code_is_taken() {
        let sk_p = Secret(vec![5; 32]);
        let input =
            AuthInput { prf: Prf::HmacSha256, message: b"message", nonce: b"nonce", sk_p: &sk_p, id: b"id" };
        let key = Secret(b"secret".to_vec());
        let right = psk_auth(&key, &input);
        assert!(verify_psk_auth(&key, &input, &right));
        assert!(!verify_psk_auth(&key, &input, &[]));
        assert!(!verify_psk_auth(&key, &input, &[0; 32]));
        assert!(!verify_psk_auth(&key, &input, &right[..31]));
        assert!(!verify_psk_auth(&key, &input, &[&right[..], &[0]].concat()));
        assert!(!verify_psk_auth(&Secret(b"other".to_vec()), &input, &right));
        for other in [
            AuthInput { message: b"massage", ..input },
            AuthInput { nonce: b"nunce", ..input },
            AuthInput { id: b"it", ..input },
            AuthInput { sk_p: &Secret(vec![6; 32]), ..input },
        ] {
            assert!(!verify_psk_auth(&key, &other, &right));
        }
    }
}
