//! A tested packet (docs/nmi.md section 6.23): what the stack is asked, and what it says of the filter that decides.

use nmi_proto::code::{self, Direction};
use nmi_proto::control::TestPacket;
use nmi_proto::display::Verdict;
use stack::control::{self, MANUAL_TUNNELS, PacketTest, TestVerdict, Treatment, UpperLayer};

/// What the stack is asked.
pub(in crate::nmi) fn question(p: &TestPacket) -> PacketTest {
    PacketTest {
        direction: match p.direction {
            Direction::INBOUND => Some(control::Direction::Inbound),
            Direction::OUTBOUND => Some(control::Direction::Outbound),
            _ => None,
        },
        security_class: p.security_class,
        source: p.source.ip(p.ipv6),
        destination: p.destination.ip(p.ipv6),
        protocol: p.protocol,
        upper: match p.protocol {
            6 | 17 | 132 => UpperLayer::Ports { source: p.source_port, destination: p.destination_port },
            _ if p.typed => UpperLayer::Typed { kind: p.icmp_type, code: p.icmp_code },
            _ => UpperLayer::Open,
        },
    }
}

pub(super) fn verdict(v: &TestVerdict) -> Verdict {
    let plain = |treatment| Verdict { certain: v.certain, treatment, ..Verdict::default() };
    match v.treatment {
        Treatment::Clear => plain(code::Treatment::CLEAR),
        Treatment::Denied => plain(code::Treatment::DENIED),
        Treatment::NoSa => plain(code::Treatment::NO_SA),
        Treatment::Negotiated => plain(code::Treatment::NEGOTIATED),
        Treatment::Protected { tunnel, spi_in, spi_out } => {
            let id = match tunnel.checked_sub(MANUAL_TUNNELS) {
                Some(manual) => format!("M{manual}"),
                None => format!("Y{tunnel}"),
            };
            Verdict { tunnel_id: id.as_str().into(), spi_in, spi_out, ..plain(code::Treatment::PROTECTED) }
        }
    }
}
