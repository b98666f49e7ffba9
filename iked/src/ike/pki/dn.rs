//! Distinguished names, compared and shown (RFC 5280 section 7.1).

use x509_cert::der::asn1::Any;
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::name::Name;

/// Characters of a name that are shown.
const SHOWN: usize = 256;
/// Octets of one that are read for that.
const READ: usize = 64 * 1024;

/// For an operator: never more than a line.
pub(crate) fn show_dn(der: &[u8]) -> String {
    super::dn_text(&der[..der.len().min(READ)]).chars().take(SHOWN).collect()
}

/// Whether both are the same name: the same attributes in the same order, texts compared without regard to case, blanks around
/// them and the kind of string that they are in.
pub(crate) fn same_dn(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let (Ok(one), Ok(other)) = (Name::from_der(one), Name::from_der(other)) else { return false };
    let pairs = |name: &Name| -> Vec<(String, Vec<u8>)> {
        let relative = name.iter_rdn().map(|rdn| rdn.iter().collect::<Vec<_>>());
        let end = (String::new(), Vec::new());
        let set = |rdn: Vec<&x509_cert::attr::AttributeTypeAndValue>| {
            let mut set: Vec<_> = rdn.iter().map(|at| (at.oid.to_string(), value(&at.value))).collect();
            set.sort_unstable();
            set.push(end.clone());
            set
        };
        relative.flat_map(set).collect()
    };
    pairs(&one) == pairs(&other)
}

/// What is compared of a value.
fn value(any: &Any) -> Vec<u8> {
    let text = match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => {
            std::str::from_utf8(any.value()).ok().map(str::to_owned)
        }
        Tag::BmpString => {
            let units = any.value().chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    };
    match text {
        Some(text) => text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase().into_bytes(),
        None => any.to_der().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn name(text: &str) -> Vec<u8> {
        Name::from_str(text).unwrap().to_der().unwrap()
    }

    #[test]
    fn names_are_compared_as_people_read_them() {
        let one = name("CN=gw1.example.net,O=Example\\, Inc.,C=US");
        assert_eq!(show_dn(&one), "CN=gw1.example.net,O=Example\\, Inc.,C=US");
        assert!(same_dn(&one, &name("CN=GW1.example.net,O=example\\,  inc.,C=us")));
        for other in ["CN=gw2.example.net,O=Example\\, Inc.,C=US", "CN=gw1.example.net", "O=Example,CN=gw1"] {
            assert!(!same_dn(&one, &name(other)), "{other}");
        }
    }

    #[test]
    fn t10_what_is_no_name_is_shown_in_hex_and_short() {
        assert_eq!(show_dn(&[0xff; 4]), "#ffffffff");
        assert!(show_dn(&[0xff; 60_000]).len() <= SHOWN);
        assert!(!same_dn(&[0xff], &name("CN=a")));
        assert!(show_dn(&name(&format!("CN={}", "x".repeat(9_000)))).len() <= SHOWN);
    }
}
