//! IANA's IKEv2 numbers as open enums: unknown values survive a round trip and print as numbers.

macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident($repr:ty) { $($(#[$vmeta:meta])* $variant:ident = $value:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$vmeta])* #[doc = concat!("`", $text, "` (", stringify!($value), ").")] pub const $variant: Self = Self($value);)*

            /// IANA's name, if it is one we know.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}({})", stringify!($name), self.0),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

open_enum! {
    /// Payload types (RFC 7296 section 3.2).
    PayloadType(u8) {
        NONE = 0 "header",
        SA = 33 "SA",
        KE = 34 "KE",
        ID_I = 35 "IDi",
        ID_R = 36 "IDr",
        CERT = 37 "CERT",
        CERTREQ = 38 "CERTREQ",
        AUTH = 39 "AUTH",
        NONCE = 40 "Nonce",
        NOTIFY = 41 "Notify",
        DELETE = 42 "Delete",
        VENDOR = 43 "Vendor ID",
        TS_I = 44 "TSi",
        TS_R = 45 "TSr",
        ENCRYPTED = 46 "Encrypted",
        CONFIG = 47 "Configuration",
        EAP = 48 "EAP",
        FRAGMENT = 53 "Encrypted Fragment",
    }
}

impl PayloadType {
    /// RFC 7296 or RFC 7383 defines it, so its critical bit means nothing (section 2.5).
    #[must_use]
    pub const fn is_known(self) -> bool {
        (self.0 >= Self::SA.0 && self.0 <= Self::EAP.0) || self.0 == Self::FRAGMENT.0
    }

    /// No exchange carries it twice in one message.
    #[must_use]
    pub const fn stands_once(self) -> bool {
        self.is_known()
            && !matches!(self, Self::CERT | Self::CERTREQ | Self::NOTIFY | Self::DELETE | Self::VENDOR)
    }
}

open_enum! {
    /// Exchange types (RFC 7296 section 3.1).
    ExchangeType(u8) {
        IKE_SA_INIT = 34 "IKE_SA_INIT",
        IKE_AUTH = 35 "IKE_AUTH",
        CREATE_CHILD_SA = 36 "CREATE_CHILD_SA",
        INFORMATIONAL = 37 "INFORMATIONAL",
    }
}

open_enum! {
    /// Security protocol identifiers (RFC 7296 section 3.3.1).
    ProtocolId(u8) {
        /// In a Notify without an SPI.
        NONE = 0 "none",
        IKE = 1 "IKE",
        AH = 2 "AH",
        ESP = 3 "ESP",
    }
}

open_enum! {
    /// Transform types (RFC 7296 section 3.3.2).
    TransformType(u8) {
        ENCR = 1 "ENCR",
        PRF = 2 "PRF",
        INTEG = 3 "INTEG",
        KE = 4 "KE",
        ESN = 5 "ESN",
    }
}

/// Transform identifiers that we implement (RFC 7296 section 3.3.2).
pub mod transform {
    /// ENCR_DES (RFC 2405); weak.
    pub const ENCR_DES: u16 = 2;
    /// ENCR_3DES (RFC 2451); weak.
    pub const ENCR_3DES: u16 = 3;
    /// ENCR_NULL (RFC 2410).
    pub const ENCR_NULL: u16 = 11;
    /// ENCR_AES_CTR (RFC 3686).
    pub const ENCR_AES_CTR: u16 = 13;
    /// ENCR_NULL_AUTH_AES_GMAC (RFC 4543).
    pub const ENCR_NULL_AUTH_AES_GMAC: u16 = 21;
    /// ENCR_CHACHA20_POLY1305 (RFC 7634).
    pub const ENCR_CHACHA20_POLY1305: u16 = 28;
    /// AUTH_HMAC_MD5_96 (RFC 2403); weak.
    pub const AUTH_HMAC_MD5_96: u16 = 1;
    /// AUTH_HMAC_SHA1_96 (RFC 2404).
    pub const AUTH_HMAC_SHA1_96: u16 = 2;
    /// AUTH_AES_XCBC_96 (RFC 3566).
    pub const AUTH_AES_XCBC_96: u16 = 5;
    /// AUTH_AES_128_GMAC (RFC 4543), for AH.
    pub const AUTH_AES_128_GMAC: u16 = 9;
    /// AUTH_AES_256_GMAC, for AH.
    pub const AUTH_AES_256_GMAC: u16 = 11;
    /// PRF_HMAC_MD5 (RFC 2104); weak.
    pub const PRF_HMAC_MD5: u16 = 1;
    /// PRF_AES128_XCBC (RFC 4434).
    pub const PRF_AES128_XCBC: u16 = 4;
    /// PRF_HMAC_SHA1 (RFC 2104).
    pub const PRF_HMAC_SHA1: u16 = 2;
    /// ENCR_AES_CBC (RFC 3602).
    pub const ENCR_AES_CBC: u16 = 12;
    /// AES-GCM with a 16-octet ICV (RFC 5282).
    pub const ENCR_AES_GCM_16: u16 = 20;
    /// PRF_HMAC_SHA2_256 (RFC 4868).
    pub const PRF_HMAC_SHA2_256: u16 = 5;
    /// PRF_HMAC_SHA2_384.
    pub const PRF_HMAC_SHA2_384: u16 = 6;
    /// PRF_HMAC_SHA2_512.
    pub const PRF_HMAC_SHA2_512: u16 = 7;
    /// "No integrity", which may stand beside an AEAD (RFC 7296 section 3.3).
    pub const AUTH_NONE: u16 = 0;
    /// AUTH_HMAC_SHA2_256_128 (RFC 4868).
    pub const AUTH_HMAC_SHA2_256_128: u16 = 12;
    /// AUTH_HMAC_SHA2_384_192.
    pub const AUTH_HMAC_SHA2_384_192: u16 = 13;
    /// AUTH_HMAC_SHA2_512_256.
    pub const AUTH_HMAC_SHA2_512_256: u16 = 14;
    /// "No key exchange" in a child SA's proposal.
    pub const KE_NONE: u16 = 0;
    /// 32-bit sequence numbers.
    pub const ESN_NO: u16 = 0;
    /// Extended (64-bit) sequence numbers.
    pub const ESN_YES: u16 = 1;

    /// IANA's name of a transform identifier, those that we only meet in peers' offers too.
    #[must_use]
    pub fn name(kind: super::TransformType, id: u16) -> Option<&'static str> {
        use super::TransformType as T;
        let name = match (kind, id) {
            (T::ENCR, ENCR_DES) => "DES",
            (T::ENCR, ENCR_3DES) => "3DES",
            (T::ENCR, ENCR_NULL) => "NULL",
            (T::ENCR, ENCR_AES_CBC) => "AES_CBC",
            (T::ENCR, ENCR_AES_CTR) => "AES_CTR",
            (T::ENCR, 14) => "AES_CCM_8",
            (T::ENCR, 15) => "AES_CCM_12",
            (T::ENCR, 16) => "AES_CCM_16",
            (T::ENCR, 18) => "AES_GCM_8",
            (T::ENCR, 19) => "AES_GCM_12",
            (T::ENCR, ENCR_AES_GCM_16) => "AES_GCM_16",
            (T::ENCR, ENCR_NULL_AUTH_AES_GMAC) => "NULL_AES_GMAC",
            (T::ENCR, ENCR_CHACHA20_POLY1305) => "CHACHA20_POLY1305",
            (T::PRF, PRF_HMAC_MD5) => "PRF_HMAC_MD5",
            (T::PRF, PRF_HMAC_SHA1) => "PRF_HMAC_SHA1",
            (T::PRF, PRF_AES128_XCBC) => "PRF_AES128_XCBC",
            (T::PRF, PRF_HMAC_SHA2_256) => "PRF_HMAC_SHA2_256",
            (T::PRF, PRF_HMAC_SHA2_384) => "PRF_HMAC_SHA2_384",
            (T::PRF, PRF_HMAC_SHA2_512) => "PRF_HMAC_SHA2_512",
            (T::PRF, 8) => "PRF_AES128_CMAC",
            (T::INTEG, AUTH_NONE) => "NO_INTEG",
            (T::INTEG, AUTH_HMAC_MD5_96) => "HMAC_MD5_96",
            (T::INTEG, AUTH_HMAC_SHA1_96) => "HMAC_SHA1_96",
            (T::INTEG, AUTH_AES_XCBC_96) => "AES_XCBC_96",
            (T::INTEG, 8) => "AES_CMAC_96",
            (T::INTEG, AUTH_AES_128_GMAC) => "AES_128_GMAC",
            (T::INTEG, 10) => "AES_192_GMAC",
            (T::INTEG, AUTH_AES_256_GMAC) => "AES_256_GMAC",
            (T::INTEG, AUTH_HMAC_SHA2_256_128) => "HMAC_SHA2_256_128",
            (T::INTEG, AUTH_HMAC_SHA2_384_192) => "HMAC_SHA2_384_192",
            (T::INTEG, AUTH_HMAC_SHA2_512_256) => "HMAC_SHA2_512_256",
            (T::KE, KE_NONE) => "NO_KE",
            (T::KE, 1) => "MODP_768",
            (T::KE, 2) => "MODP_1024",
            (T::KE, 5) => "MODP_1536",
            (T::KE, 14) => "MODP_2048",
            (T::KE, 15) => "MODP_3072",
            (T::KE, 16) => "MODP_4096",
            (T::KE, 17) => "MODP_6144",
            (T::KE, 18) => "MODP_8192",
            (T::KE, 19) => "ECP_256",
            (T::KE, 20) => "ECP_384",
            (T::KE, 21) => "ECP_521",
            (T::KE, 31) => "CURVE25519",
            (T::KE, 32) => "CURVE448",
            (T::KE, 35) => "ML_KEM_512",
            (T::KE, 36) => "ML_KEM_768",
            (T::KE, 37) => "ML_KEM_1024",
            (T::ESN, ESN_NO) => "NO_ESN",
            (T::ESN, ESN_YES) => "ESN",
            _ => return None,
        };
        Some(name)
    }
}

open_enum! {
    /// Transform attribute types (RFC 7296 section 3.3.5).
    AttributeType(u16) {
        KEY_LENGTH = 14 "Key Length",
    }
}

open_enum! {
    /// Identification types (RFC 7296 section 3.5).
    IdType(u8) {
        IPV4_ADDR = 1 "ID_IPV4_ADDR",
        FQDN = 2 "ID_FQDN",
        RFC822_ADDR = 3 "ID_RFC822_ADDR",
        IPV6_ADDR = 5 "ID_IPV6_ADDR",
        DER_ASN1_DN = 9 "ID_DER_ASN1_DN",
        DER_ASN1_GN = 10 "ID_DER_ASN1_GN",
        KEY_ID = 11 "ID_KEY_ID",
    }
}

open_enum! {
    /// Certificate encodings (RFC 7296 section 3.6).
    CertEncoding(u8) {
        PKCS7 = 1 "PKCS #7 wrapped X.509 certificate",
        X509_SIGNATURE = 4 "X.509 certificate",
        CRL = 7 "CRL",
        HASH_AND_URL = 12 "hash and URL of X.509 certificate",
        HASH_AND_URL_BUNDLE = 13 "hash and URL of X.509 bundle",
        RAW_PUBLIC_KEY = 15 "raw public key",
    }
}

open_enum! {
    /// Authentication methods (RFC 7296 section 3.8).
    AuthMethod(u8) {
        RSA_SIGNATURE = 1 "RSA digital signature",
        SHARED_KEY = 2 "shared key message integrity code",
        DSS_SIGNATURE = 3 "DSS digital signature",
        ECDSA_SHA256_P256 = 9 "ECDSA with SHA-256 on P-256",
        ECDSA_SHA384_P384 = 10 "ECDSA with SHA-384 on P-384",
        ECDSA_SHA512_P521 = 11 "ECDSA with SHA-512 on P-521",
        NULL = 13 "NULL authentication",
        DIGITAL_SIGNATURE = 14 "digital signature",
    }
}

open_enum! {
    /// Traffic selector types (RFC 7296 section 3.13.1).
    TsType(u8) {
        IPV4_ADDR_RANGE = 7 "TS_IPV4_ADDR_RANGE",
        IPV6_ADDR_RANGE = 8 "TS_IPV6_ADDR_RANGE",
    }
}

open_enum! {
    /// Notify message types (RFC 7296 section 3.10.1 and IANA's registry).
    NotifyType(u16) {
        UNSUPPORTED_CRITICAL_PAYLOAD = 1 "UNSUPPORTED_CRITICAL_PAYLOAD",
        INVALID_IKE_SPI = 4 "INVALID_IKE_SPI",
        INVALID_MAJOR_VERSION = 5 "INVALID_MAJOR_VERSION",
        INVALID_SYNTAX = 7 "INVALID_SYNTAX",
        INVALID_MESSAGE_ID = 9 "INVALID_MESSAGE_ID",
        INVALID_SPI = 11 "INVALID_SPI",
        NO_PROPOSAL_CHOSEN = 14 "NO_PROPOSAL_CHOSEN",
        INVALID_KE_PAYLOAD = 17 "INVALID_KE_PAYLOAD",
        AUTHENTICATION_FAILED = 24 "AUTHENTICATION_FAILED",
        SINGLE_PAIR_REQUIRED = 34 "SINGLE_PAIR_REQUIRED",
        NO_ADDITIONAL_SAS = 35 "NO_ADDITIONAL_SAS",
        INTERNAL_ADDRESS_FAILURE = 36 "INTERNAL_ADDRESS_FAILURE",
        FAILED_CP_REQUIRED = 37 "FAILED_CP_REQUIRED",
        TS_UNACCEPTABLE = 38 "TS_UNACCEPTABLE",
        INVALID_SELECTORS = 39 "INVALID_SELECTORS",
        UNACCEPTABLE_ADDRESSES = 40 "UNACCEPTABLE_ADDRESSES",
        UNEXPECTED_NAT_DETECTED = 41 "UNEXPECTED_NAT_DETECTED",
        TEMPORARY_FAILURE = 43 "TEMPORARY_FAILURE",
        CHILD_SA_NOT_FOUND = 44 "CHILD_SA_NOT_FOUND",
        INITIAL_CONTACT = 16384 "INITIAL_CONTACT",
        SET_WINDOW_SIZE = 16385 "SET_WINDOW_SIZE",
        ADDITIONAL_TS_POSSIBLE = 16386 "ADDITIONAL_TS_POSSIBLE",
        IPCOMP_SUPPORTED = 16387 "IPCOMP_SUPPORTED",
        NAT_DETECTION_SOURCE_IP = 16388 "NAT_DETECTION_SOURCE_IP",
        NAT_DETECTION_DESTINATION_IP = 16389 "NAT_DETECTION_DESTINATION_IP",
        COOKIE = 16390 "COOKIE",
        USE_TRANSPORT_MODE = 16391 "USE_TRANSPORT_MODE",
        HTTP_CERT_LOOKUP_SUPPORTED = 16392 "HTTP_CERT_LOOKUP_SUPPORTED",
        REKEY_SA = 16393 "REKEY_SA",
        ESP_TFC_PADDING_NOT_SUPPORTED = 16394 "ESP_TFC_PADDING_NOT_SUPPORTED",
        NON_FIRST_FRAGMENTS_ALSO = 16395 "NON_FIRST_FRAGMENTS_ALSO",
        MOBIKE_SUPPORTED = 16396 "MOBIKE_SUPPORTED",
        ADDITIONAL_IP4_ADDRESS = 16397 "ADDITIONAL_IP4_ADDRESS",
        ADDITIONAL_IP6_ADDRESS = 16398 "ADDITIONAL_IP6_ADDRESS",
        NO_ADDITIONAL_ADDRESSES = 16399 "NO_ADDITIONAL_ADDRESSES",
        UPDATE_SA_ADDRESSES = 16400 "UPDATE_SA_ADDRESSES",
        COOKIE2 = 16401 "COOKIE2",
        NO_NATS_ALLOWED = 16402 "NO_NATS_ALLOWED",
        AUTH_LIFETIME = 16403 "AUTH_LIFETIME",
        MULTIPLE_AUTH_SUPPORTED = 16404 "MULTIPLE_AUTH_SUPPORTED",
        REDIRECT_SUPPORTED = 16406 "REDIRECT_SUPPORTED",
        REDIRECT = 16407 "REDIRECT",
        EAP_ONLY_AUTHENTICATION = 16417 "EAP_ONLY_AUTHENTICATION",
        CHILDLESS_IKEV2_SUPPORTED = 16418 "CHILDLESS_IKEV2_SUPPORTED",
        QUICK_CRASH_DETECTION = 16419 "QUICK_CRASH_DETECTION",
        IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420 "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
        IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED = 16421 "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED",
        IKEV2_MESSAGE_ID_SYNC = 16422 "IKEV2_MESSAGE_ID_SYNC",
        IPSEC_REPLAY_COUNTER_SYNC = 16423 "IPSEC_REPLAY_COUNTER_SYNC",
        IKEV2_FRAGMENTATION_SUPPORTED = 16430 "IKEV2_FRAGMENTATION_SUPPORTED",
        SIGNATURE_HASH_ALGORITHMS = 16431 "SIGNATURE_HASH_ALGORITHMS",
        INTERMEDIATE_EXCHANGE_SUPPORTED = 16438 "INTERMEDIATE_EXCHANGE_SUPPORTED",
    }
}

impl NotifyType {
    /// An error rather than a status notification (RFC 7296 section 3.10.1).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 < 16384
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(NotifyType::TS_UNACCEPTABLE.to_string(), "TS_UNACCEPTABLE");
        assert_eq!(NotifyType(9999).to_string(), "NotifyType(9999)");
        assert!(NotifyType::TS_UNACCEPTABLE.is_error() && !NotifyType::COOKIE.is_error());
        assert_eq!(transform::name(TransformType::ENCR, 12), Some("AES_CBC"));
        assert_eq!(transform::name(TransformType(200), 12), None);
    }

    #[test]
    fn criticality_is_for_what_rfc_7296_does_not_define() {
        assert!(PayloadType::SA.is_known() && PayloadType::EAP.is_known());
        assert!(!PayloadType(32).is_known() && !PayloadType(49).is_known());
        // IKEv1's payload numbers are another version's: unknown here.
        assert!((1..=20).all(|kind| !PayloadType(kind).is_known()));
    }
}
