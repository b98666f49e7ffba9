//! Reports: values in the order in which they are shown. Text in three layouts and JSON come from the same values.

pub(crate) mod control;
pub(crate) mod defensive;
pub(crate) mod dynamic_tunnel;
pub(crate) mod extension;
pub(crate) mod filter;
pub(crate) mod heading;
pub(crate) mod ike_tunnel;
pub(crate) mod interface;
pub(crate) mod layout;
pub(crate) mod manual_tunnel;
pub(crate) mod port_translation;
pub(crate) mod services;
pub(crate) mod vipa;

use heading::Heading;
use nmi_proto::code::{AuthAlgorithm, CfRecord, EncryptionAlgorithm};
use nmi_proto::display::Dist;
use nmi_proto::identity::Identity;
use nmi_proto::text::Text;
use nmi_proto::value::{Address, Time};
use std::net::IpAddr;

/// A report.
#[derive(Debug)]
pub(crate) struct Report {
    /// What stands above.
    pub(crate) heading: Heading,
    /// What follows.
    pub(crate) body: Body,
}

/// What a report consists of.
#[derive(Debug)]
pub(crate) enum Body {
    /// Entries of a display function.
    Entries(Vec<Entry>),
    /// A table of a control function or a small report: columns with their widths, then rows.
    Table {
        /// Heading, name in JSON, width of each column; 0: the last one.
        columns: Vec<(&'static str, &'static str, usize)>,
        /// Cells.
        rows: Vec<Vec<Cell>>,
        /// Say how many there are.
        counted: bool,
    },
    /// A sentence.
    Line(String),
}

/// One entry: rows of the short layout; the detail layout shows one field a line.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Fields, by line of the short layout.
    pub(crate) rows: Vec<Vec<Field>>,
    /// Entries that belong to it (cascade).
    pub(crate) below: Vec<Self>,
}

impl Entry {
    /// Adds a line of the short layout.
    pub(crate) fn row(&mut self, fields: impl IntoIterator<Item = Field>) -> &mut Self {
        self.rows.push(fields.into_iter().collect());
        self
    }
}

/// A field of an entry.
#[derive(Debug)]
pub(crate) struct Field {
    /// Name, in the detail layout and in JSON.
    pub(crate) name: &'static str,
    /// Name in the short and wide layouts.
    pub(crate) short: &'static str,
    /// Belongs to the field before it: shown one blank further right.
    pub(crate) indented: bool,
    /// Line of its own before the field.
    pub(crate) title: Option<&'static str>,
    /// Value.
    pub(crate) cell: Cell,
}

/// A field.
pub(crate) fn field(name: &'static str, cell: impl Into<Cell>) -> Field {
    Field { name, short: name, indented: false, title: None, cell: cell.into() }
}
/// A field of the one before it.
pub(crate) fn sub(name: &'static str, cell: impl Into<Cell>) -> Field {
    Field { indented: true, ..field(name, cell) }
}

impl Field {
    /// With a shorter name in the layouts that lack room.
    pub(crate) fn short(self, short: &'static str) -> Self {
        Self { short, ..self }
    }
    /// With a line before it.
    pub(crate) fn titled(self, title: &'static str) -> Self {
        Self { title: Some(title), ..self }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Not applicable, not known, not there.
    None,
    /// Words.
    Text(String),
    /// Bytes in hexadecimal, cut where there is no room.
    Bytes(String),
    /// A number.
    Number(u64),
    /// A number with a unit behind it (`480m`).
    Unit(u64, char),
    /// A time.
    Time(Time),
    /// Yes or no.
    Flag(bool),
    /// An SPI.
    Spi(u32),
    /// A duration in microseconds; milliseconds in text.
    Micros(u64),
    /// Things with values of their own: an array of objects in JSON, one a line in the detail layout.
    Items(Vec<Item>),
}

/// One of [`Cell::Items`]: names in JSON, and values.
pub(crate) type Item = Vec<(&'static str, Cell)>;

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        if text.is_empty() { Self::None } else { Self::Text(printable(text)) }
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}
impl<const N: usize> From<&Text<N>> for Cell {
    fn from(text: &Text<N>) -> Self {
        Self::from(text.as_str())
    }
}
impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}
impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}
impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}
impl From<u8> for Cell {
    fn from(number: u8) -> Self {
        Self::Number(number.into())
    }
}
impl From<IpAddr> for Cell {
    fn from(address: IpAddr) -> Self {
        Self::Text(address.to_string())
    }
}
impl From<&Identity> for Cell {
    fn from(id: &Identity) -> Self {
        match id {
            Identity::KeyId(_) | Identity::Other(..) => Self::Bytes(id.to_string()),
            _ => id.to_string().into(),
        }
    }
}
impl From<Time> for Cell {
    fn from(time: Time) -> Self {
        if time.unix().is_some() { Self::Time(time) } else { Self::None }
    }
}
impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// Control characters written out: a name from the network must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A number that is absent when it is 0.
pub(crate) fn unless_zero<T: Into<u64>>(number: T) -> Option<u64> {
    let number = number.into();
    (number != 0).then_some(number)
}

/// An address; all zero is none.
pub(crate) fn address(address: Address, ipv6: bool) -> Option<IpAddr> {
    (!address.is_zero()).then(|| address.ip(ipv6))
}

/// `TCP(6)`; the words of the product for those that it names.
pub(crate) fn protocol(number: u8) -> String {
    let name = match number {
        1 => "ICMP",
        2 => "IGMP",
        4 => "IP",
        6 => "TCP",
        17 => "UDP",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMPv6",
        89 => "OSPF",
        94 => "IPIP",
        132 => "SCTP",
        135 => "MIPv6",
        _ => return number.to_string(),
    };
    format!("{name}({number})")
}

/// Whether a protocol has ports.
pub(crate) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}
/// Whether a protocol has types and codes.
pub(crate) const fn has_types(protocol: u8) -> bool {
    matches!(protocol, 1 | 58)
}

/// Low end of a range of ports or types, and the high end where it is another one.
pub(crate) fn range(low: u16, high: u16, any: bool) -> (Cell, Cell) {
    if any {
        return ("All".into(), Cell::None);
    }
    (low.into(), if high == low { Cell::None } else { high.into() })
}

/// Integrity: an AEAD has none of its own, and before an agreement nothing is known.
pub(crate) fn integrity(auth: AuthAlgorithm, encryption: EncryptionAlgorithm) -> Cell {
    match (auth, encryption) {
        (AuthAlgorithm::NONE, EncryptionAlgorithm::NONE) => Cell::None,
        (AuthAlgorithm::NONE, _) => "NULL".into(),
        (auth, _) => auth.to_string().into(),
    }
}

/// Encryption, if it is known.
pub(crate) fn encryption(algorithm: EncryptionAlgorithm) -> Cell {
    if algorithm == EncryptionAlgorithm::NONE { Cell::None } else { algorithm.to_string().into() }
}

/// What distribution and takeover add to a tunnel; behind the product's fields, so that its readers go on working.
pub(crate) fn extension_fields(dist: Option<&Dist>) -> [Field; 4] {
    [
        field("DVIPA", dist.is_some_and(|d| d.dvipa)),
        field("Distributor", dist.and_then(|d| d.owner.given())),
        field("TakenOverFrom", dist.filter(|d| d.taken_over).and_then(|d| d.from.given())),
        field(
            "CFRecord",
            dist.and_then(|d| match d.cf_record {
                CfRecord::STORED => Some("Stored"),
                CfRecord::FAILED => Some("Failed"),
                _ => None,
            }),
        ),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// 2025-03-03 14:07:21 UTC.
    pub(crate) const NOW: Time = Time(1_741_010_841);

    #[test]
    fn t59_control_characters_are_shown_not_sent() {
        assert_eq!(Cell::from("a\u{1b}[2Jb"), Cell::Text("a\\u{1b}[2Jb".into()));
        assert_eq!(Cell::from(""), Cell::None);
    }
}
