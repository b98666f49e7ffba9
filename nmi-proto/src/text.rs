//! Text on the wire: two code pages and blank-padded fields (section 13).

use crate::error::TextFault;
use std::fmt;

/// Code page of a message, told by its ident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CodePage {
    /// ISO 646 IRV.
    #[default]
    Ascii,
    /// EBCDIC as z/OS UNIX uses it.
    Ibm1047,
}

/// ASCII 0x20..=0x7E in IBM-1047, in order.
const FROM_ASCII: [u8; 95] = [
    0x40, 0x5A, 0x7F, 0x7B, 0x5B, 0x6C, 0x50, 0x7D, 0x4D, 0x5D, 0x5C, 0x4E, 0x6B, 0x60, 0x4B,
    0x61, //  !"#$%&'()*+,-./
    0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0x7A, 0x5E, 0x4C, 0x7E, 0x6E,
    0x6F, // 0-9:;<=>?
    0x7C, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5,
    0xD6, // @A-O
    0xD7, 0xD8, 0xD9, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xAD, 0xE0, 0xBD, 0x5F,
    0x6D, // P-Z[\]^_
    0x79, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x91, 0x92, 0x93, 0x94, 0x95,
    0x96, // `a-o
    0x97, 0x98, 0x99, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xC0, 0x4F, 0xD0, 0xA1, // p-z{|}~
];

/// IBM-1047 to ASCII; 0 where the byte is none of the 95 characters. Built from [`FROM_ASCII`], so they agree.
const TO_ASCII: [u8; 256] = {
    let mut table = [0; 256];
    let mut ascii = 0x20;
    while ascii <= 0x7E {
        table[FROM_ASCII[ascii as usize - 0x20] as usize] = ascii;
        ascii += 1;
    }
    table
};

impl CodePage {
    /// The ident of a message in this code page, `NMsM`.
    #[must_use]
    pub const fn message_ident(self) -> [u8; 4] {
        match self {
            Self::Ascii => *b"NMsM",
            Self::Ibm1047 => [0xD5, 0xD4, 0xA2, 0xD4],
        }
    }

    /// The ident of a record in this code page, `NMsR`.
    #[must_use]
    pub const fn record_ident(self) -> [u8; 4] {
        match self {
            Self::Ascii => *b"NMsR",
            Self::Ibm1047 => [0xD5, 0xD4, 0xA2, 0xD9],
        }
    }

    /// The code page of a message ident, if it is one.
    #[must_use]
    pub fn of_message_ident(ident: [u8; 4]) -> Option<Self> {
        [Self::Ascii, Self::Ibm1047].into_iter().find(|p| p.message_ident() == ident)
    }

    /// The code page of a record ident, if it is one.
    #[must_use]
    pub fn of_record_ident(ident: [u8; 4]) -> Option<Self> {
        [Self::Ascii, Self::Ibm1047].into_iter().find(|p| p.record_ident() == ident)
    }

    /// The blank that fills fields.
    #[must_use]
    pub const fn blank(self) -> u8 {
        match self {
            Self::Ascii => b' ',
            Self::Ibm1047 => 0x40,
        }
    }

    /// One character; what the page cannot express becomes `?`.
    #[must_use]
    pub const fn encode(self, c: char) -> u8 {
        let ascii = if matches!(c, ' '..='~') { c as u8 } else { b'?' };
        match self {
            Self::Ascii => ascii,
            Self::Ibm1047 => FROM_ASCII[ascii as usize - 0x20],
        }
    }

    /// One byte, `None` if it is no printable character.
    #[must_use]
    pub const fn decode(self, byte: u8) -> Option<char> {
        let ascii = match self {
            Self::Ascii => byte,
            Self::Ibm1047 => TO_ASCII[byte as usize],
        };
        if matches!(ascii, b' '..=b'~') { Some(ascii as char) } else { None }
    }

    /// A text without padding.
    #[must_use]
    pub fn encode_str(self, text: &str) -> Vec<u8> {
        text.chars().map(|c| self.encode(c)).collect()
    }

    /// A text without padding.
    ///
    /// # Errors
    /// The first byte that is no printable character.
    pub fn decode_str(self, bytes: &[u8]) -> Result<String, TextFault> {
        bytes.iter().enumerate().map(|(at, &byte)| self.decode(byte).ok_or(TextFault { byte, at })).collect()
    }

    /// Fills `field` with `text`, cut at its width, and blanks.
    pub fn write_padded(self, text: &str, field: &mut [u8]) {
        field.fill(self.blank());
        for (byte, c) in field.iter_mut().zip(text.chars()) {
            *byte = self.encode(c);
        }
    }

    /// The text of a field without its trailing blanks.
    ///
    /// # Errors
    /// The first byte that is no printable character.
    pub fn read_padded(self, field: &[u8]) -> Result<String, TextFault> {
        let end = field.iter().rposition(|&b| b != self.blank()).map_or(0, |p| p + 1);
        self.decode_str(&field[..end])
    }
}

/// Text of at most `N` printable ASCII characters without trailing blanks: the value of a text field.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Text<const N: usize>(String);

impl<const N: usize> Text<N> {
    /// What can be sent of `text`: other characters become `?`, what is longer is cut (section 13, rule 6).
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut s: String =
            text.chars().take(N).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        s.truncate(s.trim_end_matches(' ').len());
        Self(s)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is all blanks on the wire, which means "none".
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, `None` if it is blank.
    #[must_use]
    pub fn given(&self) -> Option<&str> {
        (!self.is_blank()).then_some(self.as_str())
    }
}

impl<const N: usize> std::ops::Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> From<&str> for Text<N> {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<const N: usize> PartialEq<&str> for Text<N> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ibm_1047_is_a_bijection_on_the_printable_characters() {
        let mut seen = std::collections::BTreeSet::new();
        for c in ' '..='~' {
            let byte = CodePage::Ibm1047.encode(c);
            assert!(seen.insert(byte), "{c:?} shares {byte:#x}");
            assert_eq!(CodePage::Ibm1047.decode(byte), Some(c));
            assert_eq!(CodePage::Ascii.decode(CodePage::Ascii.encode(c)), Some(c));
        }
        assert_eq!((0..=255).filter(|&b| CodePage::Ibm1047.decode(b).is_some()).count(), 95);
    }

    /// Where IBM-1047 differs from IBM-037, and the characters that such tables usually get wrong.
    #[test]
    fn characters_that_tell_1047_from_037() {
        let expected = [('[', 0xAD), (']', 0xBD), ('^', 0x5F), ('|', 0x4F), ('~', 0xA1), ('\\', 0xE0)];
        for (c, byte) in expected {
            assert_eq!(CodePage::Ibm1047.encode(c), byte, "{c}");
        }
    }

    #[test]
    fn idents_are_the_encoded_letters() {
        for page in [CodePage::Ascii, CodePage::Ibm1047] {
            assert_eq!(page.message_ident().to_vec(), page.encode_str("NMsM"));
            assert_eq!(page.record_ident().to_vec(), page.encode_str("NMsR"));
            assert_eq!(CodePage::of_message_ident(page.message_ident()), Some(page));
            assert_eq!(CodePage::of_record_ident(page.record_ident()), Some(page));
        }
        assert_eq!(CodePage::of_message_ident(*b"MsMN"), None);
    }

    #[test]
    fn padding_cutting_and_substitution() {
        let mut field = [0; 4];
        CodePage::Ibm1047.write_padded("Aé", &mut field);
        assert_eq!(field, [0xC1, 0x6F, 0x40, 0x40]);
        assert_eq!(CodePage::Ibm1047.read_padded(&field).as_deref(), Ok("A?"));
        assert_eq!(Text::<3>::new("abcd").as_str(), "abc");
        assert_eq!(Text::<8>::new("a\u{0}b  ").as_str(), "a?b");
        assert_eq!(CodePage::Ascii.read_padded(b"a\0  "), Err(TextFault { byte: 0, at: 1 }));
    }
}
