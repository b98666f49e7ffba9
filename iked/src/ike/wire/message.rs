//! Whole messages: the header and the chain of payloads (RFC 7296 sections 3.1 and 3.2).
//!
//! A datagram is [`Parsed::Clear`] or [`Parsed::Protected`]; the content of the latter comes only from `crypto::sk`, which
//! checks its integrity first, so that nothing unauthenticated can be taken for it.

use super::error::{EncodeError, Fault, WireError};
use super::header::{HEADER_LEN, Header};
use super::iana::PayloadType;
use super::payload::{CRITICAL, GENERIC_LEN, Payload, Ts, encode_chain};
use super::reader::Reader;

/// Payloads that one message may hold, the Encrypted payload and those in it counted apart.
pub const MAX_PAYLOADS: usize = 32;

/// Fragments of one message: 64 KiB in fragments of the smallest size that anybody sends.
pub const MAX_FRAGMENTS: u16 = 128;

/// A message in clear, or the content of a protected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Header.
    pub header: Header,
    /// Payloads in order.
    pub payloads: Vec<Payload>,
    /// What was left out, to be counted: Notify and Delete payloads whose fields contradict each other (T11), and all
    /// selectors of a traffic selector payload that cannot be taken apart (T09), which then stands there empty.
    pub ignored: Vec<WireError>,
}

/// A datagram, as far as it can be read without keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// It has no Encrypted payload.
    Clear(Message),
    /// It has one, to be opened with the keys of the IKE SA that the header names.
    Protected(Protected),
}

/// A message with an Encrypted payload, not yet opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protected {
    /// Header; not yet authenticated.
    pub header: Header,
    /// Type of the first payload inside.
    pub first: PayloadType,
    /// Where in the datagram the IV starts; ciphertext and ICV follow up to the end.
    pub body: usize,
    /// Which part of a message it is, if it is not all of one.
    pub fragment: Option<Fragment>,
}

/// The fields of an Encrypted Fragment payload (RFC 7383 section 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Its number, from 1 to `total`.
    pub number: u16,
    /// How many there are, at most [`MAX_FRAGMENTS`].
    pub total: u16,
}

impl Fragment {
    fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let at = body.clone();
        let (number, total) = (body.u16()?, body.u16()?);
        if total > MAX_FRAGMENTS {
            return Err(at.fault(Fault::TooMany { what: "fragments", limit: MAX_FRAGMENTS.into() }));
        }
        if number == 0 || number > total {
            let (counted, found) = (total.into(), number.into());
            return Err(at.fault(Fault::Count { what: "fragments", counted, found }));
        }
        Ok(Self { number, total })
    }
}

impl Message {
    /// A message of our own.
    #[must_use]
    pub const fn new(header: Header, payloads: Vec<Payload>) -> Self {
        Self { header, payloads, ignored: Vec::new() }
    }

    /// Takes a datagram (without non-ESP marker) apart.
    ///
    /// # Errors
    /// It is no IKEv2 message; [`WireError::notify`] says what may be answered.
    pub fn parse(datagram: &[u8]) -> Result<Parsed, WireError> {
        let header = Header::parse(datagram)?;
        header.check_version()?;
        let first = Header::first_payload(datagram);
        let mut reader = Reader::new(datagram, 0, PayloadType::NONE);
        reader.take(HEADER_LEN)?;
        let mut chain = split(first, reader)?;
        if let Some(last) = chain.last_mut()
            && is_encrypted(last.kind)
        {
            let is_fragment = last.kind == PayloadType::FRAGMENT;
            let fragment = if is_fragment { Some(Fragment::parse(&mut last.body)?) } else { None };
            let (first, body) = (last.next, last.body.offset());
            return Ok(Parsed::Protected(Protected { header, first, body, fragment }));
        }
        Self::from_chain(header, chain).map(Parsed::Clear)
    }

    /// The content of an Encrypted payload: `plaintext` starts with a payload of type `first`.
    pub(crate) fn parse_inner(
        header: Header,
        first: PayloadType,
        plaintext: &[u8],
    ) -> Result<Self, WireError> {
        let chain = split(first, Reader::new(plaintext, 0, PayloadType::ENCRYPTED))?;
        if let Some(link) = chain.iter().find(|link| is_encrypted(link.kind)) {
            return Err(link.body.fault(Fault::Repeated));
        }
        Self::from_chain(header, chain)
    }

    fn from_chain(header: Header, chain: Vec<Link<'_>>) -> Result<Self, WireError> {
        let mut message = Self::new(header, Vec::with_capacity(chain.len()));
        for Link { kind, body, .. } in chain {
            match Payload::parse(kind, body) {
                Ok(payload) => message.payloads.push(payload),
                Err(error) => {
                    match kind {
                        PayloadType::NOTIFY | PayloadType::DELETE => {}
                        PayloadType::TS_I => message.payloads.push(Payload::TsInitiator(Ts::default())),
                        PayloadType::TS_R => message.payloads.push(Payload::TsResponder(Ts::default())),
                        _ => return Err(error),
                    }
                    message.ignored.push(error);
                }
            }
        }
        Ok(message)
    }

    /// The datagram of a message in clear.
    ///
    /// # Errors
    /// A payload does not fit its length field.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut chain = Vec::new();
        let first = encode_chain(&self.payloads, &mut chain)?;
        let mut out = Vec::with_capacity(HEADER_LEN + chain.len());
        self.header.encode(first, chain.len(), &mut out)?;
        out.extend_from_slice(&chain);
        Ok(out)
    }
}

/// An Encrypted payload, or a fragment of one.
const fn is_encrypted(kind: PayloadType) -> bool {
    matches!(kind, PayloadType::ENCRYPTED | PayloadType::FRAGMENT)
}

/// One payload of a chain, not yet looked into.
struct Link<'a> {
    kind: PayloadType,
    /// The type that it says follows; for an Encrypted payload, the first inside.
    next: PayloadType,
    body: Reader<'a>,
}

/// Splits a chain that must fill `reader` into its payloads.
///
/// Everything that makes a whole message worthless is found here, before any payload is looked into (T02, T03, T04).
fn split(first: PayloadType, mut reader: Reader<'_>) -> Result<Vec<Link<'_>>, WireError> {
    let mut chain = Vec::new();
    let mut seen = [false; 256];
    let mut kind = first;
    while kind != PayloadType::NONE {
        let at = |offset, fault| WireError { payload: kind, offset, fault };
        let offset = reader.offset();
        if chain.len() == MAX_PAYLOADS {
            return Err(at(offset, Fault::TooMany { what: "payloads", limit: MAX_PAYLOADS }));
        }
        reader = reader.within(kind);
        let next = PayloadType(reader.u8()?);
        let critical = reader.u8()? & CRITICAL != 0;
        let length = usize::from(reader.u16()?);
        if length < GENERIC_LEN {
            return Err(at(offset, Fault::Length(length)));
        }
        let body = reader.sub(length - GENERIC_LEN)?;
        if critical && !kind.is_known() {
            return Err(at(offset, Fault::UnsupportedCritical(kind.0)));
        }
        if kind.stands_once() && std::mem::replace(&mut seen[usize::from(kind.0)], true) {
            return Err(at(offset, Fault::Repeated));
        }
        chain.push(Link { kind, next, body });
        if is_encrypted(kind) {
            // Its Next Payload field names what is inside (section 3.14).
            if !reader.is_empty() {
                return Err(at(reader.offset(), Fault::NotLast));
            }
            return Ok(chain);
        }
        kind = next;
    }
    reader.finish()?;
    Ok(chain)
}
