//! One datagram between two stacks: the envelope in clear, and what is sealed in it.
//!
//! ```text
//!  0        2         3      4              12             20            28
//! +--------+---------+------+--------------+--------------+-------------+---------- … ----+---------+
//! | "XC"   | version | zero | sender start | counter      | sender name | sealed          | tag, 16 |
//! +--------+---------+------+--------------+--------------+-------------+---------- … ----+---------+
//!                                                                        |
//!   receiver start (8, 0: not known) · acknowledgement (1, or 1+24) · kind (1) · body
//!     1 heartbeat:  flags (1) · capacity (1) · count (1) · count × { DVIPA · epoch (8) · ceiling (1, or 1+8) }
//!     2 record:     generation (8) · number (8) · octets of the stream
//!     3 nothing
//! ```
//!
//! All numbers are big-endian, a name is padded with blanks, an address is an octet 4 or 6 and its octets. A datagram
//! fits into the smallest MTU of IPv6, so that it is never fragmented.

use super::codec::{MessageError, Reader, put_address};
use std::fmt;
use std::net::IpAddr;

/// Version of the messages; a stack ignores those of another one.
pub const VERSION: u8 = 1;
/// Most octets of a datagram: the smallest MTU of IPv6 without its header and UDP's.
pub const MAX_DATAGRAM: usize = 1280 - 40 - 8;
/// Octets before the sealed part.
pub const ENVELOPE: usize = 28;
/// Most owned DVIPAs in one heartbeat; a stack that owns more names them in turn.
pub const MAX_OWNED: usize = 32;
/// Most octets of a stream in one record.
pub const MAX_RECORD: usize = 1136;

const MAGIC: u16 = u16::from_be_bytes(*b"XC");
const KIND_HEARTBEAT: u8 = 1;
const KIND_RECORD: u8 = 2;
const KIND_NOTHING: u8 = 3;
const LEAVING: u8 = 1;
/// Capacity is a percentage.
const MAX_CAPACITY: u8 = 100;

/// Name of a stack, 1 to 8 printable ASCII characters without blanks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name([u8; 8]);

impl Name {
    /// The name, if a stack can have it.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let mut padded = [b' '; 8];
        padded.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Self::from_octets(padded)
    }

    /// The name in a message.
    #[must_use]
    pub fn from_octets(octets: [u8; 8]) -> Option<Self> {
        let length = octets.iter().position(|b| *b == b' ').unwrap_or(8);
        let (name, padding) = octets.split_at(length);
        let fits = length > 0 && name.iter().all(u8::is_ascii_graphic) && padding.iter().all(|b| *b == b' ');
        fits.then_some(Self(octets))
    }

    /// Padded with blanks, as in messages.
    #[must_use]
    pub const fn octets(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take_while(|b| **b != b' ').try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What stands before the sealed part, and is authenticated with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Random id of the sender's start.
    pub start: u64,
    /// The sender's counter: grows with each datagram to anybody.
    pub counter: u64,
    /// The sender.
    pub sender: Name,
}

impl Envelope {
    /// The envelope of a datagram and where the sealed part begins.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let mut r = Reader::new(datagram);
        let magic = r.u16("the envelope")?;
        if magic != MAGIC {
            return Err(MessageError::Magic(magic));
        }
        let version = r.u8("the envelope")?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let reserved = r.u8("the envelope")?;
        if reserved != 0 {
            return Err(MessageError::Value { what: "the reserved octet", value: reserved.into() });
        }
        let (start, counter) = (r.u64("the envelope")?, r.u64("the envelope")?);
        let octets = r.u64("the envelope")?;
        let sender = Name::from_octets(octets.to_be_bytes())
            .ok_or(MessageError::Value { what: "the sender's name", value: octets })?;
        Ok(Self { start, counter, sender })
    }

    /// Its octets.
    #[must_use]
    pub fn octets(&self) -> [u8; ENVELOPE] {
        let mut o = [0; ENVELOPE];
        o[..2].copy_from_slice(&MAGIC.to_be_bytes());
        o[2] = VERSION;
        o[4..12].copy_from_slice(&self.start.to_be_bytes());
        o[12..20].copy_from_slice(&self.counter.to_be_bytes());
        o[20..].copy_from_slice(self.sender.octets());
        o
    }
}

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The receiver's start as the sender knows it; `None`: it has not heard the receiver.
    pub to_start: Option<u64>,
    /// How far the receiver's stream has arrived; `None`: nothing of it.
    pub acknowledgement: Option<Acknowledgement>,
    /// The rest.
    pub body: Body,
}

/// How far a stream has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which stream.
    pub generation: u64,
    /// Every record before this one is there.
    pub next: u64,
    /// Bit `n`: record `next + 1 + n` is there, too.
    pub seen: u64,
}

/// What a datagram carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// A part of a stream.
    Record(Record),
    /// The acknowledgement alone.
    Nothing,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// It is the last one: the stack ends in order.
    pub leaving: bool,
    /// Free capacity, 0 to 100.
    pub capacity: u8,
    /// DVIPAs that the sender owns, at most [`MAX_OWNED`] of them.
    pub owned: Vec<Owned>,
}

/// A DVIPA and its owner's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The DVIPA.
    pub dvipa: IpAddr,
    /// Epoch of the ownership.
    pub epoch: u64,
    /// Highest sequence number that its SAs may send, with `takeover = "continue"`.
    pub ceiling: Option<u64>,
}

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which stream: a greater one follows a smaller one that was given up.
    pub generation: u64,
    /// Its number in the stream, from 1.
    pub number: u64,
    /// Octets of the stream, 1 to [`MAX_RECORD`].
    pub bytes: Vec<u8>,
}

impl Content {
    /// The content of a datagram whose seal was good.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut r = Reader::new(bytes);
        let to_start = Some(r.u64("the receiver's start")?).filter(|s| *s != 0);
        let acknowledgement = if r.flag("the acknowledgement")? {
            let what = "the acknowledgement";
            Some(Acknowledgement { generation: r.u64(what)?, next: r.u64(what)?, seen: r.u64(what)? })
        } else {
            None
        };
        let body = match r.u8("the kind")? {
            KIND_HEARTBEAT => Body::Heartbeat(Heartbeat::parse(&mut r)?),
            KIND_RECORD => {
                let (generation, number) = (r.u64("a record")?, r.u64("a record")?);
                let bytes = r.rest();
                if number == 0 {
                    return Err(MessageError::Value { what: "a record's number", value: 0 });
                }
                if bytes.is_empty() {
                    return Err(MessageError::Truncated("a record"));
                }
                if bytes.len() > MAX_RECORD {
                    return Err(MessageError::TooMany {
                        what: "octets in a record",
                        count: bytes.len(),
                        limit: MAX_RECORD,
                    });
                }
                Body::Record(Record { generation, number, bytes: bytes.to_vec() })
            }
            KIND_NOTHING => Body::Nothing,
            other => return Err(MessageError::Value { what: "the kind", value: other.into() }),
        };
        r.end()?;
        Ok(Self { to_start, acknowledgement, body })
    }

    /// Appends its octets.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.to_start.unwrap_or(0).to_be_bytes());
        to.push(u8::from(self.acknowledgement.is_some()));
        if let Some(a) = &self.acknowledgement {
            to.extend_from_slice(&a.generation.to_be_bytes());
            to.extend_from_slice(&a.next.to_be_bytes());
            to.extend_from_slice(&a.seen.to_be_bytes());
        }
        match &self.body {
            Body::Heartbeat(h) => {
                to.push(KIND_HEARTBEAT);
                h.write(to);
            }
            Body::Record(r) => {
                to.push(KIND_RECORD);
                to.extend_from_slice(&r.generation.to_be_bytes());
                to.extend_from_slice(&r.number.to_be_bytes());
                to.extend_from_slice(&r.bytes);
            }
            Body::Nothing => to.push(KIND_NOTHING),
        }
    }
}

impl Heartbeat {
    fn parse(r: &mut Reader<'_>) -> Result<Self, MessageError> {
        let flags = r.u8("a heartbeat")?;
        if flags & !LEAVING != 0 {
            return Err(MessageError::Value { what: "a heartbeat's flags", value: flags.into() });
        }
        let capacity = r.u8("a heartbeat")?;
        if capacity > MAX_CAPACITY {
            return Err(MessageError::Value { what: "a capacity", value: capacity.into() });
        }
        let count = usize::from(r.u8("a heartbeat")?);
        if count > MAX_OWNED {
            return Err(MessageError::TooMany { what: "owned DVIPAs", count, limit: MAX_OWNED });
        }
        let owned = (0..count).map(|_| Owned::parse(r)).collect::<Result<_, _>>()?;
        Ok(Self { leaving: flags & LEAVING != 0, capacity, owned })
    }

    fn write(&self, to: &mut Vec<u8>) {
        debug_assert!(self.owned.len() <= MAX_OWNED, "the group names them in turn");
        to.push(if self.leaving { LEAVING } else { 0 });
        to.push(self.capacity.min(MAX_CAPACITY));
        let count = u8::try_from(self.owned.len().min(MAX_OWNED)).unwrap_or(0);
        to.push(count);
        for o in self.owned.iter().take(count.into()) {
            o.write(to);
        }
    }
}

impl Owned {
    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, MessageError> {
        let what = "an owned DVIPA";
        let (dvipa, epoch) = (r.address(what)?, r.u64(what)?);
        let ceiling = if r.flag(what)? { Some(r.u64(what)?) } else { None };
        Ok(Self { dvipa, epoch, ceiling })
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        put_address(to, self.dvipa);
        to.extend_from_slice(&self.epoch.to_be_bytes());
        to.push(u8::from(self.ceiling.is_some()));
        if let Some(c) = self.ceiling {
            to.extend_from_slice(&c.to_be_bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
    }

    fn content() -> impl Strategy<Value = Content> {
        let owned = (address(), any::<u64>(), any::<Option<u64>>())
            .prop_map(|(dvipa, epoch, ceiling)| Owned { dvipa, epoch, ceiling });
        let body = prop_oneof![
            (any::<bool>(), 0..=100u8, prop::collection::vec(owned, 0..=MAX_OWNED)).prop_map(
                |(leaving, capacity, owned)| Body::Heartbeat(Heartbeat { leaving, capacity, owned })
            ),
            (any::<u64>(), 1..=u64::MAX, prop::collection::vec(any::<u8>(), 1..=MAX_RECORD))
                .prop_map(|(generation, number, bytes)| Body::Record(Record { generation, number, bytes })),
            Just(Body::Nothing),
        ];
        let ack = any::<(u64, u64, u64)>().prop_map(|(generation, next, seen)| Acknowledgement {
            generation,
            next,
            seen,
        });
        (prop::option::of(1..=u64::MAX), prop::option::of(ack), body)
            .prop_map(|(to_start, acknowledgement, body)| Content { to_start, acknowledgement, body })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_fits(content in content()) {
            let mut bytes = Vec::new();
            content.write(&mut bytes);
            prop_assert!(ENVELOPE + bytes.len() + super::super::seal::TAG <= MAX_DATAGRAM);
            prop_assert_eq!(Content::parse(&bytes), Ok(content));
        }

        #[test]
        fn t45_hostile_octets_are_an_error_or_a_content(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(content) = Content::parse(&bytes) {
                let mut again = Vec::new();
                content.write(&mut again);
                prop_assert_eq!(&again, &bytes);
            }
            let _ = Envelope::parse(&bytes);
        }
    }

    #[test]
    fn a_heartbeat_octet_by_octet() {
        let content = Content {
            to_start: Some(0x1122_3344_5566_7788),
            acknowledgement: Some(Acknowledgement { generation: 2, next: 9, seen: 5 }),
            body: Body::Heartbeat(Heartbeat {
                leaving: false,
                capacity: 75,
                owned: vec![Owned { dvipa: IpAddr::from([192, 0, 2, 80]), epoch: 7, ceiling: Some(4096) }],
            }),
        };
        let mut bytes = Vec::new();
        content.write(&mut bytes);
        assert_eq!(
            hex::encode(&bytes),
            "1122334455667788\
             0100000000000000020000000000000009\
             0000000000000005\
             01004b01\
             04c00002500000000000000007010000000000001000"
        );
        for cut in 0..bytes.len() {
            assert!(Content::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        bytes.push(0);
        assert_eq!(Content::parse(&bytes), Err(MessageError::Trailing(1)));
    }

    #[test]
    fn an_envelope_octet_by_octet() {
        let e = Envelope { start: 0xa1, counter: 0xb2, sender: Name::new("TCPCS1").unwrap() };
        let octets = e.octets();
        assert_eq!(
            hex::encode(octets),
            "58430100\
             00000000000000a1\
             00000000000000b2\
             5443504353312020"
        );
        assert_eq!(Envelope::parse(&octets), Ok(e));
        assert_eq!(Envelope::parse(&octets[..27]), Err(MessageError::Truncated("the envelope")));
        let mut other = octets;
        other[2] = 9;
        assert_eq!(Envelope::parse(&other), Err(MessageError::Version(9)));
        other = octets;
        other[20] = b' ';
        assert!(matches!(Envelope::parse(&other), Err(MessageError::Value { .. })), "no name");
        other = octets;
        other[0] = 0;
        assert_eq!(Envelope::parse(&other), Err(MessageError::Magic(0x0043)));
    }

    #[test]
    fn names_have_one_form() {
        assert_eq!(Name::new("T1").unwrap().to_string(), "T1");
        assert_eq!(Name::new("EIGHTCHR").unwrap().to_string(), "EIGHTCHR");
        for bad in ["", "NINECHARS", "a b", " a", "\u{e4}"] {
            assert_eq!(Name::new(bad), None, "{bad:?}");
        }
    }
}
