//! Keys, as a terminal in raw mode sends them.

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    /// Ctrl-C, or the end of the input.
    Interrupt,
}

/// The keys of one read. A sequence begins with ESC; an ESC alone at the end is the key.
pub(super) fn parse(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (0x1b, [b'[' | b'O', sequence @ ..]) => {
                // Parameters, then one byte that ends it (ECMA-48 section 5.4).
                let end = sequence.iter().position(|b| (0x40..=0x7e).contains(b));
                let (sequence, behind) = sequence.split_at(end.map_or(sequence.len(), |e| e + 1));
                keys.extend(match sequence {
                    b"A" => Some(Key::Up),
                    b"B" => Some(Key::Down),
                    b"5~" => Some(Key::PageUp),
                    b"6~" => Some(Key::PageDown),
                    b"H" | b"1~" | b"7~" => Some(Key::Home),
                    _ => None,
                });
                behind
            }
            (0x1b, _) => {
                keys.push(Key::Escape);
                after
            }
            (b'\r' | b'\n', _) => {
                keys.push(Key::Enter);
                after
            }
            (b'\t', _) => {
                keys.push(Key::Tab);
                after
            }
            (0x08 | 0x7f, _) => {
                keys.push(Key::Backspace);
                after
            }
            (0x03 | 0x04, _) => {
                keys.push(Key::Interrupt);
                after
            }
            (0..0x20, _) => after,
            _ => {
                let text = rest.utf8_chunks().next();
                let c = text.and_then(|chunk| chunk.valid().chars().next());
                keys.extend(c.map(Key::Char));
                rest.get(c.map_or(1, char::len_utf8)..).unwrap_or_default()
            }
        };
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_characters_and_what_is_neither() {
        assert_eq!(parse(b"q/a\r"), [Key::Char('q'), Key::Char('/'), Key::Char('a'), Key::Enter]);
        assert_eq!(parse(b"\x1b[A\x1bOB\x1b[6~x"), [Key::Up, Key::Down, Key::PageDown, Key::Char('x')]);
        assert_eq!(parse("é\u{7f}\t".as_bytes()), [Key::Char('é'), Key::Backspace, Key::Tab]);
        assert_eq!(parse(b"\x1b"), [Key::Escape]);
        assert_eq!(parse(b"\x03"), [Key::Interrupt]);
        // Unknown, cut off, no text.
        assert_eq!(parse(b"\x1b[1;5C\x1b[12"), []);
        assert_eq!(parse(b"\xff\xc3a"), [Key::Char('a')]);
    }
}
