//! Key exchange methods: Curve25519, three ECP groups and the MODP groups (RFC 8031, RFC 5903, `modp`).
//!
//! A peer's public value is checked before it meets our private key (RFC 6989, T23).

mod modp;

use crate::ike::types::{Group, Secret};
use crypto_bigint::U512;
use modp::Modp;
use p256::elliptic_curve::sec1::ToSec1Point;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// Our half of one key exchange.
pub struct PrivateKey {
    group: Group,
    secret: Exponent,
    public: Vec<u8>,
}

/// How a group is computed with.
enum Kind {
    Curve25519,
    Ecp256,
    Ecp384,
    Ecp521,
    Modp(&'static dyn Modp),
}

impl Kind {
    fn of(group: Group) -> Self {
        match group {
            Group::Curve25519 => Self::Curve25519,
            Group::Ecp256 => Self::Ecp256,
            Group::Ecp384 => Self::Ecp384,
            Group::Ecp521 => Self::Ecp521,
            Group::Modp768 => Self::Modp(&*modp::MODP_768),
            Group::Modp1024 => Self::Modp(&*modp::MODP_1024),
            Group::Modp1536 => Self::Modp(&*modp::MODP_1536),
            Group::Modp2048 => Self::Modp(&*modp::MODP_2048),
            Group::Modp2048Subgroup256 => Self::Modp(&*modp::MODP_2048_256),
        }
    }
}

/// Private values; each kind wipes itself.
enum Exponent {
    Curve25519(Zeroizing<[u8; 32]>),
    Ecp256(p256::SecretKey),
    Ecp384(p384::SecretKey),
    Ecp521(p521::SecretKey),
    Modp(&'static dyn Modp, Zeroizing<U512>),
}

/// Why a peer's public value is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GroupError {
    /// It has not the length that the group prescribes (RFC 7296 section 3.4).
    #[error("public value of {length} octets for group {group}, {expected} expected")]
    Length {
        /// IANA number of the group.
        group: u16,
        /// Octets received.
        length: usize,
        /// Octets expected.
        expected: usize,
    },
    /// It is 0, 1, p - 1 or more, no point of the curve, or one that gives an all-zero secret.
    #[error("invalid public value for group {0}")]
    Value(u16),
}

impl Group {
    /// Octets of a public value.
    #[must_use]
    pub const fn public_len(self) -> usize {
        match self {
            Self::Modp768 => 96,
            Self::Modp1024 => 128,
            Self::Modp1536 => 192,
            Self::Modp2048 | Self::Modp2048Subgroup256 => 256,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Ecp521 => 132,
            Self::Curve25519 => 32,
        }
    }
}

/// An uncompressed point starts with this octet in SEC 1; IKE leaves it out (RFC 5903 section 7).
const UNCOMPRESSED: u8 = 4;

impl PrivateKey {
    /// A fresh key of `group`.
    #[must_use]
    pub fn generate(group: Group, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        match Kind::of(group) {
            Kind::Curve25519 => {
                let mut secret = Zeroizing::new([0; 32]);
                rng.fill_bytes(&mut secret[..]);
                Self::curve25519(secret)
            }
            Kind::Ecp256 => loop {
                // A draw above the order is thrown away, so that the key is uniform.
                let mut octets = Zeroizing::new([0; 32]);
                rng.fill_bytes(&mut octets[..]);
                if let Ok(secret) = p256::SecretKey::from_slice(&octets[..]) {
                    return Self::ecp256(secret);
                }
            },
            Kind::Ecp384 => loop {
                let mut octets = Zeroizing::new([0; 48]);
                rng.fill_bytes(&mut octets[..]);
                if let Ok(secret) = p384::SecretKey::from_slice(&octets[..]) {
                    return Self::ecp384(secret);
                }
            },
            Kind::Ecp521 => loop {
                let mut octets = Zeroizing::new([0; 66]);
                rng.fill_bytes(&mut octets[..]);
                // 521 bits: with seven more, one draw in 128 would do.
                octets[0] &= 1;
                if let Ok(secret) = p521::SecretKey::from_slice(&octets[..]) {
                    return Self::ecp521(secret);
                }
            },
            Kind::Modp(field) => {
                // RFC 3526 section 8: 220 to 320 bits match group 14; 512 leave room and cost milliseconds.
                let mut octets = Zeroizing::new([0; 64]);
                rng.fill_bytes(&mut octets[..]);
                octets[0] |= 0x80;
                Self::modp(group, field, Zeroizing::new(U512::from_be_slice(&octets[..])))
            }
        }
    }

    fn curve25519(secret: Zeroizing<[u8; 32]>) -> Self {
        let public = x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES).to_vec();
        Self { group: Group::Curve25519, secret: Exponent::Curve25519(secret), public }
    }

    fn ecp256(secret: p256::SecretKey) -> Self {
        let public = secret.public_key().to_sec1_point(false).as_bytes()[1..].to_vec();
        Self { group: Group::Ecp256, secret: Exponent::Ecp256(secret), public }
    }

    fn ecp384(secret: p384::SecretKey) -> Self {
        let public = secret.public_key().to_sec1_point(false).as_bytes()[1..].to_vec();
        Self { group: Group::Ecp384, secret: Exponent::Ecp384(secret), public }
    }

    fn ecp521(secret: p521::SecretKey) -> Self {
        let public = secret.public_key().to_sec1_point(false).as_bytes()[1..].to_vec();
        Self { group: Group::Ecp521, secret: Exponent::Ecp521(secret), public }
    }

    fn modp(group: Group, field: &'static dyn Modp, secret: Zeroizing<U512>) -> Self {
        let public = field.public(&secret);
        Self { group, secret: Exponent::Modp(field, secret), public }
    }

    /// The private value, for a process that goes on with this exchange.
    #[must_use]
    pub(crate) fn exponent(&self) -> Secret {
        Secret(match &self.secret {
            Exponent::Curve25519(secret) => secret.to_vec(),
            Exponent::Ecp256(secret) => secret.to_bytes().to_vec(),
            Exponent::Ecp384(secret) => secret.to_bytes().to_vec(),
            Exponent::Ecp521(secret) => secret.to_bytes().to_vec(),
            Exponent::Modp(_, secret) => secret.to_be_bytes().to_vec(),
        })
    }

    /// The key with this private value; `None` if the group has none such.
    #[must_use]
    pub(crate) fn from_exponent(group: Group, exponent: &Secret) -> Option<Self> {
        let octets = exponent.0.as_slice();
        Some(match Kind::of(group) {
            Kind::Curve25519 => Self::curve25519(Zeroizing::new(octets.try_into().ok()?)),
            Kind::Ecp256 => Self::ecp256(p256::SecretKey::from_slice(octets).ok()?),
            Kind::Ecp384 => Self::ecp384(p384::SecretKey::from_slice(octets).ok()?),
            Kind::Ecp521 => Self::ecp521(p521::SecretKey::from_slice(octets).ok()?),
            Kind::Modp(field) if octets.len() == U512::BYTES => {
                Self::modp(group, field, Zeroizing::new(U512::from_be_slice(octets)))
            }
            Kind::Modp(_) => return None,
        })
    }

    /// Its group.
    #[must_use]
    pub const fn group(&self) -> Group {
        self.group
    }

    /// The public value, as the Key Exchange payload carries it.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret g^ir with a peer's public value.
    ///
    /// The key stays usable: an unauthenticated answer with a bad value must not end an exchange that the true peer
    /// may still answer.
    ///
    /// # Errors
    /// The value is refused.
    pub fn agree(&self, peer: &[u8]) -> Result<Secret, GroupError> {
        let group = self.group;
        let invalid = GroupError::Value(group.number());
        let expected = group.public_len();
        if peer.len() != expected {
            return Err(GroupError::Length { group: group.number(), length: peer.len(), expected });
        }
        match &self.secret {
            Exponent::Curve25519(secret) => {
                let point: [u8; 32] = peer.try_into().map_err(|_| invalid)?;
                let shared = Secret(x25519_dalek::x25519(**secret, point).to_vec());
                // RFC 8031 section 2: a low-order point gives zeros; refuse it, looking at every octet.
                let any = shared.0.iter().fold(0, |any, octet| any | octet);
                if any == 0 { Err(invalid) } else { Ok(shared) }
            }
            Exponent::Ecp256(secret) => {
                let point = p256::PublicKey::from_sec1_bytes(&sec1(peer)).map_err(|_| invalid)?;
                let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
                Ok(Secret(shared.raw_secret_bytes().to_vec()))
            }
            Exponent::Ecp384(secret) => {
                let point = p384::PublicKey::from_sec1_bytes(&sec1(peer)).map_err(|_| invalid)?;
                let shared = p384::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
                Ok(Secret(shared.raw_secret_bytes().to_vec()))
            }
            Exponent::Ecp521(secret) => {
                let point = p521::PublicKey::from_sec1_bytes(&sec1(peer)).map_err(|_| invalid)?;
                let shared = p521::ecdh::diffie_hellman(secret.to_nonzero_scalar(), point.as_affine());
                Ok(Secret(shared.raw_secret_bytes().to_vec()))
            }
            Exponent::Modp(field, secret) => field.agree(secret, peer).ok_or(invalid),
        }
    }
}

fn sec1(point: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + point.len());
    out.push(UNCOMPRESSED);
    out.extend_from_slice(point);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const GROUPS: [Group; 9] = [
        Group::Modp768,
        Group::Modp1024,
        Group::Modp1536,
        Group::Modp2048,
        Group::Modp2048Subgroup256,
        Group::Ecp256,
        Group::Ecp384,
        Group::Ecp521,
        Group::Curve25519,
    ];

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    fn rng() -> rand::rngs::StdRng {
        rand::rngs::StdRng::seed_from_u64(7)
    }

    #[test]
    fn both_sides_agree() {
        let mut rng = rng();
        for group in GROUPS {
            let (ours, theirs) =
                (PrivateKey::generate(group, &mut rng), PrivateKey::generate(group, &mut rng));
            assert_eq!(ours.public().len(), group.public_len());
            assert_eq!(ours.agree(theirs.public()), theirs.agree(ours.public()));
            assert_ne!(ours.public(), theirs.public());
        }
    }

    /// Own private key, own public value, peer's public value, shared secret.
    fn check(key: PrivateKey, own: &str, peer: &str, shared: &str) {
        assert_eq!(key.public(), hex(own));
        assert_eq!(key.agree(&hex(peer)), Ok(Secret(hex(shared))));
    }

    // RFC 7748 section 6.1.
    #[test]
    fn rfc_7748() {
        let key = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        check(
            PrivateKey::curve25519(Zeroizing::new(key.try_into().unwrap())),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        );
    }

    // RFC 5903 section 8.1.
    #[test]
    fn rfc_5903_group_19() {
        let key = hex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433");
        check(
            PrivateKey::ecp256(p256::SecretKey::from_slice(&key).unwrap()),
            "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180\
             5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
            "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63\
             56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
            "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        );
    }

    // RFC 5903 section 8.2.
    #[test]
    fn rfc_5903_group_20() {
        let key = hex(
            "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
        );
        check(
            PrivateKey::ecp384(p384::SecretKey::from_slice(&key).unwrap()),
            "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa\
             9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
            "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571\
             dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
            "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
        );
    }

    // RFC 5903 section 8.3.
    #[test]
    fn rfc_5903_group_21() {
        let key = hex("0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a0\
             95aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52");
        check(
            PrivateKey::ecp521(p521::SecretKey::from_slice(&key).unwrap()),
            "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e\
             017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582",
            "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f\
             015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae49cb57091f4732296579ab44fcd17f0fc56a",
            "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea",
        );
    }

    #[test]
    fn t07_t23_wrong_lengths() {
        let mut rng = rng();
        for group in GROUPS {
            let key = PrivateKey::generate(group, &mut rng);
            for length in [0, 1, group.public_len() - 1, group.public_len() + 1, 65_000] {
                let expected = group.public_len();
                let error = GroupError::Length { group: group.number(), length, expected };
                assert_eq!(key.agree(&vec![9; length]), Err(error));
            }
        }
    }

    #[test]
    fn t23_points_off_the_curve() {
        let mut rng = rng();
        for group in [Group::Ecp256, Group::Ecp384, Group::Ecp521] {
            let (key, peer) = (PrivateKey::generate(group, &mut rng), PrivateKey::generate(group, &mut rng));
            let half = group.public_len() / 2;
            let mut off = peer.public().to_vec();
            off[group.public_len() - 1] ^= 1;
            let invalid = Err(GroupError::Value(group.number()));
            assert_eq!(key.agree(&off), invalid);
            assert_eq!(key.agree(&vec![0; 2 * half]), invalid, "no encoding of infinity");
            assert_eq!(key.agree(&vec![0xff; 2 * half]), invalid, "coordinates beyond p");
        }
    }

    #[test]
    fn t23_low_order_points_of_curve25519() {
        let key = PrivateKey::generate(Group::Curve25519, &mut rng());
        let p = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
        for point in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            p,
        ] {
            assert_eq!(key.agree(&hex(point)), Err(GroupError::Value(31)), "{point}");
        }
    }
}
