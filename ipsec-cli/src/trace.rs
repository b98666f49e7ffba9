//! `-d`: every message as it is on the wire, on standard error.

use nmi_proto::client::Sent;
use nmi_proto::code::MessageType;
use std::fmt::Write as _;
use std::io::Write as _;

/// Bytes of a message that are shown: an answer may have a gigabyte.
const SHOWN: usize = 4096;

/// Shows a message.
pub(crate) fn trace(sent: Sent, bytes: &[u8]) {
    // Nobody can be told if standard error is gone.
    let _ = std::io::stderr().write_all(dump(sent, bytes).as_bytes());
}

fn dump(sent: Sent, bytes: &[u8]) -> String {
    let kind = bytes.get(10..12).map_or(0, |b| u16::from(b[0]) << 8 | u16::from(b[1]));
    let arrow = match sent {
        Sent::ByUs => "-->",
        Sent::ByDaemon => "<--",
    };
    let mut out = format!("{arrow} {}, {} bytes\n", MessageType(kind), bytes.len());
    for (number, line) in bytes[..bytes.len().min(SHOWN)].chunks(16).enumerate() {
        let _ = write!(out, "{:04x} ", number * 16);
        for word in line.chunks(4) {
            out.push(' ');
            word.iter().for_each(|b| {
                let _ = write!(out, "{b:02x}");
            });
        }
        let text = line.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' });
        let text: String = text.collect();
        let _ = writeln!(out, "{:width$}  {text}", "", width = (16 - line.len()) * 9 / 4);
    }
    if bytes.len() > SHOWN {
        let _ = writeln!(out, "... {} bytes more", bytes.len() - SHOWN);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_and_dumped_and_a_long_one_cut() {
        let mut bytes = b"NMsM\0\0\0\x60\0\x01\x81\x06\0\0\0\x60".to_vec();
        let shown = dump(Sent::ByUs, &bytes);
        assert_eq!(
            shown,
            "--> NMsec_GET_AUTHORITY, 16 bytes\n0000  4e4d734d 00000060 00018106 00000060  NMsM...`.......`\n"
        );
        bytes.resize(SHOWN + 5, 0);
        let shown = dump(Sent::ByDaemon, &bytes);
        assert!(shown.starts_with("<-- ") && shown.ends_with("... 5 bytes more\n"));
        assert_eq!(dump(Sent::ByUs, b"abc").lines().count(), 2);
    }
}
