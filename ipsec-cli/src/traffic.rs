//! `-t`: which filters in force match a packet (ipsec-command.md section 3.7). The operands are read here; the stack answers.

use crate::exit::Failure;
use crate::report::{has_ports, has_types};
use nmi_proto::code::Direction;
use nmi_proto::control::TestPacket;
use std::fmt;
use std::net::IpAddr;

/// A packet to be tested. What is absent is not asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    detail: Detail,
    direction: Option<Direction>,
    /// 0: any.
    security_class: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    None,
    /// 0: any.
    Ports(u16, u16),
    Icmp(u8, u8),
}

/// Names of protocols, as in policies.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("ipip", 94),
    ("sctp", 132),
    ("mipv6", 135),
];

/// A protocol by its name or number.
pub(crate) fn protocol_number(text: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok())
}

/// EZD0876I: an operand of the product's command, by its name there.
fn wrong(operand: &str, value: &str) -> Failure {
    Failure::Usage(format!("EZD0876I {operand} `{}` of -t is not valid", value.escape_debug()))
}

impl Packet {
    /// Reads the operands of `-t`.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        let [source, destination, protocol, rest @ ..] = words else {
            return Err(Failure::Usage("-t takes a source, a destination and a protocol".into()));
        };
        let from: IpAddr = source.parse().map_err(|_| wrong("SourceIpAddress", source))?;
        let to: IpAddr = destination.parse().map_err(|_| wrong("DestIpAddress", destination))?;
        if from.is_ipv4() != to.is_ipv4() {
            return Err(wrong("DestIpAddress", destination));
        }
        let number = protocol_number(protocol).ok_or_else(|| wrong("Protocol", protocol))?;
        let is_named = protocol.parse::<u8>().is_err();
        let is_number = |word: &&String| word.bytes().all(|b| b.is_ascii_digit());
        let mut rest = rest.iter().peekable();
        let detail = if has_ports(number) {
            let ports = (rest.next_if(is_number), rest.next_if(is_number));
            let port = |word: Option<&String>, operand| match word {
                None => Ok(0),
                Some(word) => word.parse().map_err(|_| wrong(operand, word)),
            };
            // The keywords need their ports: a number alone would be taken for another operand.
            if is_named && ports.1.is_none() {
                let given = ports.0.map_or("", String::as_str);
                return Err(wrong(if ports.0.is_none() { "SourcePort" } else { "DestinationPort" }, given));
            }
            Detail::Ports(port(ports.0, "SourcePort")?, port(ports.1, "DestinationPort")?)
        } else if has_types(number) && rest.peek().is_some_and(is_number) {
            let (kind, code) = (rest.next(), rest.next_if(is_number));
            let byte = |word: Option<&String>, operand| {
                let word = word.map_or("", String::as_str);
                word.parse().map_err(|_| wrong(operand, word))
            };
            Detail::Icmp(byte(kind, "Type")?, byte(code, "Code")?)
        } else {
            Detail::None
        };
        let direction = match rest.peek().map(|w| w.to_ascii_lowercase()).as_deref() {
            Some("in" | "inb" | "inbound") => Some(Direction::INBOUND),
            Some("out" | "outbound") => Some(Direction::OUTBOUND),
            _ => None,
        };
        if direction.is_some() {
            rest.next();
        }
        let security_class = match rest.next() {
            None => 0,
            Some(word) if is_number(&word) => word.parse().map_err(|_| wrong("SecClass", word))?,
            Some(word) => return Err(wrong("Direction", word)),
        };
        if let Some(word) = rest.next() {
            return Err(wrong("SecClass", word));
        }
        Ok(Self { source: from, destination: to, protocol: number, detail, direction, security_class })
    }

    /// The direction, if one is asked for.
    pub(crate) fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// The packet as a policy sees it in one direction. Ports and types that were not given are 0.
    pub(crate) fn for_policy(
        &self,
        inbound: bool,
        routed: bool,
        fragment: bool,
        opens: bool,
    ) -> policy::explain::Packet {
        use policy::explain::Upper;
        let protocol = self.protocol;
        let upper = match self.detail {
            _ if fragment => Upper::Other(protocol),
            Detail::Ports(source, destination) => {
                Upper::Ports { protocol, source, destination, opens: opens && protocol == 6 }
            }
            Detail::Icmp(kind, code) => Upper::Typed { protocol, kind, code },
            Detail::None if has_types(protocol) => Upper::Typed { protocol, kind: 0, code: 0 },
            Detail::None => Upper::Other(protocol),
        };
        policy::explain::Packet {
            inbound,
            routed,
            security_class: self.security_class,
            source: self.source,
            destination: self.destination,
            upper,
            fragment,
        }
    }

    /// The packet as the daemon is asked about it.
    pub(crate) fn to_wire(&self) -> TestPacket {
        let (source_port, destination_port) = match self.detail {
            Detail::Ports(source, destination) => (source, destination),
            Detail::None | Detail::Icmp(..) => (0, 0),
        };
        let (typed, icmp_type, icmp_code) = match self.detail {
            Detail::Icmp(kind, code) => (true, kind, code),
            Detail::None | Detail::Ports(..) => (false, 0, 0),
        };
        TestPacket {
            ipv6: self.source.is_ipv6(),
            typed,
            source: self.source.into(),
            destination: self.destination.into(),
            protocol: self.protocol,
            direction: self.direction.unwrap_or_default(),
            security_class: self.security_class,
            source_port,
            destination_port,
            icmp_type,
            icmp_code,
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol).map(|(name, _)| *name);
        write!(f, "{} {} ", self.source, self.destination)?;
        match name {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}", self.protocol)?,
        }
        match self.detail {
            Detail::None => {}
            Detail::Ports(a, b) => write!(f, " {a} {b}")?,
            Detail::Icmp(a, b) => write!(f, " {a} {b}")?,
        }
        match self.direction {
            Some(Direction::INBOUND) => f.write_str(" in")?,
            Some(_) => f.write_str(" out")?,
            None => {}
        }
        write!(f, " {}", self.security_class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(line: &str) -> Result<Packet, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Packet::parse(&words).map_err(|e| e.to_string())
    }

    #[test]
    fn operands_become_the_question_to_the_daemon() {
        let wire = packet("203.0.113.20 192.0.2.10 TCP 0 443 in 3").unwrap().to_wire();
        assert!(wire.fits() && !wire.ipv6 && !wire.typed);
        assert_eq!(wire.source.ip(false).to_string(), "203.0.113.20");
        assert_eq!(
            (wire.protocol, wire.direction, wire.security_class, wire.source_port, wire.destination_port),
            (6, Direction::INBOUND, 3, 0, 443)
        );
        let wire = packet("2001:db8::1 2001:db8::2 icmpv6 128 0").unwrap().to_wire();
        assert!(wire.fits() && wire.ipv6 && wire.typed);
        assert_eq!((wire.icmp_type, wire.icmp_code, wire.direction), (128, 0, Direction(0)));
        for line in ["1.2.3.4 5.6.7.8 ospf", "1.2.3.4 5.6.7.8 icmp", "1.2.3.4 5.6.7.8 6"] {
            assert!(packet(line).unwrap().to_wire().fits(), "{line}");
        }
    }

    #[test]
    fn a_wrong_operand_is_named() {
        for (line, operand) in [
            ("x 192.0.2.10 tcp 0 0", "SourceIpAddress"),
            ("192.0.2.1 nowhere tcp 0 0", "DestIpAddress"),
            ("192.0.2.1 2001:db8::1 tcp 0 0", "DestIpAddress"),
            ("192.0.2.1 192.0.2.2 smtp", "Protocol"),
            ("192.0.2.1 192.0.2.2 256", "Protocol"),
            ("192.0.2.1 192.0.2.2 tcp in", "SourcePort"),
            ("192.0.2.1 192.0.2.2 tcp 80 in", "DestinationPort"),
            ("192.0.2.1 192.0.2.2 tcp 0 70000", "DestinationPort"),
            ("192.0.2.1 192.0.2.2 icmp 8 in", "Code"),
            ("192.0.2.1 192.0.2.2 tcp 0 0 sideways", "Direction"),
            ("192.0.2.1 192.0.2.2 tcp 0 0 in 256", "SecClass"),
        ] {
            let said = packet(line).unwrap_err();
            assert!(said.contains("EZD0876I") && said.contains(operand), "{line}: {said}");
        }
        assert_eq!(
            packet("203.0.113.20 192.0.2.10 tcp 0 443 in").unwrap().to_string(),
            "203.0.113.20 192.0.2.10 tcp 0 443 in 0"
        );
    }
}
