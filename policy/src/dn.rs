//! Distinguished names (X500dn), from their text (RFC 4514).

use std::str::FromStr;
use x509_cert::der::Encode;
use x509_cert::name::Name;

/// The DER of a name as people write it; `None` if it is none.
pub(crate) fn der(text: &str) -> Option<Vec<u8>> {
    let text = tight(text);
    if text.is_empty() { None } else { Name::from_str(&text).ok()?.to_der().ok() }
}

/// Without the blanks around commas and equals signs, which people write and the grammar has not.
fn tight(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.trim().chars() {
        let separates = !escaped && matches!(c, ',' | '+' | '=');
        if separates {
            out.truncate(out.trim_end_matches(' ').len());
        }
        if c != ' ' || !out.ends_with([',', '+', '=']) {
            out.push(c);
        }
        escaped = !escaped && c == '\\';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::der;

    #[test]
    fn blanks_around_commas_and_equals_signs_mean_nothing() {
        let name = der("CN=gw1.example.net,O=Example\\, Inc.,C=US").unwrap();
        assert_eq!(der(" CN = gw1.example.net , O= Example\\, Inc., C=US"), Some(name));
        for bad in ["", "  ", "gw1", "CN", "=x", "CN=a,,O=b", "NOSUCH=x"] {
            assert_eq!(der(bad), None, "{bad}");
        }
    }
}
