//! Distinguished names as text (RFC 4514): an identity of type ID_DER_ASN1_DN is shown so (nmi.md section 6.10).

use std::fmt::Write as _;

/// Parts of a name that are shown; real ones have fewer than ten.
const MAX_PARTS: usize = 100;

/// The name in DER as an RFC 4514 string. What is no name comes back as `#` and its bytes in hex.
#[must_use]
pub fn dn_text(der: &[u8]) -> String {
    rdn_sequence(der).unwrap_or_else(|| hash(der))
}

fn rdn_sequence(der: &[u8]) -> Option<String> {
    let (0x30, mut rdns, []) = element(der)? else { return None };
    let mut parts = Vec::new();
    while !rdns.is_empty() && parts.len() < MAX_PARTS {
        let (0x31, mut set, rest) = element(rdns)? else { return None };
        let mut rdn = String::new();
        while !set.is_empty() {
            let (0x30, attribute, others) = element(set)? else { return None };
            let (0x06, oid, value) = element(attribute)? else { return None };
            let (tag, content, []) = element(value)? else { return None };
            if !rdn.is_empty() {
                rdn.push('+');
            }
            let known = short_name(oid);
            let readable = known.and(string(tag, content));
            let _ = match (known, readable) {
                (Some(name), Some(value)) => write!(rdn, "{name}={}", escape(&value)),
                (Some(name), None) => write!(rdn, "{name}={}", hash(value)),
                (None, _) => write!(rdn, "{}={}", dotted(oid)?, hash(value)),
            };
            set = others;
        }
        parts.push(rdn);
        rdns = rest;
    }
    // RFC 4514 section 2.1: the last one of the sequence goes first.
    parts.reverse();
    Some(parts.join(","))
}

/// Tag, content and rest of the element at the start of `der`.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, mut der) = der.split_first()?;
    let length = match first {
        0..=0x7F => usize::from(first),
        0x81..=0x83 => {
            let (bytes, rest) = der.split_at_checked(usize::from(first & 0x7F))?;
            der = rest;
            bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
        }
        _ => return None,
    };
    let (content, rest) = der.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The names of RFC 4514 section 3.
fn short_name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1] => "UID",
        _ => return None,
    })
}

fn dotted(oid: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut arc: u64 = 0;
    for byte in oid {
        arc = arc.checked_mul(128)?.checked_add(u64::from(byte & 0x7F))?;
        if byte & 0x80 == 0 {
            let _ = match out.is_empty() {
                true => write!(out, "{}.{}", (arc / 40).min(2), arc - 40 * (arc / 40).min(2)),
                false => write!(out, ".{arc}"),
            };
            arc = 0;
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The text of a string type: UTF8String, NumericString, PrintableString, IA5String, BMPString.
fn string(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        12 | 18 | 19 | 22 => String::from_utf8(content.to_vec()).ok(),
        30 if content.len().is_multiple_of(2) => {
            let units: Vec<u16> = content.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// RFC 4514 section 2.4. What is no printable ASCII becomes escaped bytes, so that both code pages can carry it.
fn escape(value: &str) -> String {
    let mut out = String::new();
    for (i, byte) in value.bytes().enumerate() {
        let edge = (i == 0 && matches!(byte, b' ' | b'#')) || (i + 1 == value.len() && byte == b' ');
        let _ = match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => write!(out, "\\{}", char::from(byte)),
            b' '..=b'~' if edge => write!(out, "\\{}", char::from(byte)),
            b' '..=b'~' => write!(out, "{}", char::from(byte)),
            _ => write!(out, "\\{byte:02X}"),
        };
    }
    out
}

fn hash(bytes: &[u8]) -> String {
    format!("#{}", hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(hex_der: &str) -> String {
        dn_text(&hex::decode(hex_der.replace(' ', "")).unwrap())
    }

    #[test]
    fn names_of_rfc_4514() {
        // C=DE, O=Example, CN=vpn.example.org; made with openssl asn1parse -genconf.
        assert_eq!(
            name(
                "3039 310b 3009 0603550406 1302 4445 3110 300e 060355040a 0c07 4578616d706c65 3118 3016 0603550403 0c0f 76706e2e6578616d706c652e6f7267"
            ),
            "CN=vpn.example.org,O=Example,C=DE"
        );
        assert_eq!(name("3010 310e 300c 0603550403 0c05 612c623d63"), "CN=a\\,b=c");
        assert_eq!(name("300f 310d 300b 0603550403 0c04 20c3bc20"), "CN=\\ \\C3\\BC\\ ");
        // An attribute without a short name: its number, its value in hex.
        assert_eq!(name("300d 310b 3009 06032a0304 0c02 6869"), "1.2.3.4=#0c026869");
    }

    #[test]
    fn t10_what_is_no_name_is_shown_as_bytes() {
        for bad in ["", "30", "3005", "30820001", "3084ffffffff", "310100", "30023100ff", "3004 3102 3005"] {
            let shown = name(bad);
            assert!(shown.starts_with('#') || shown.is_empty(), "{bad}: {shown}");
        }
    }
}
