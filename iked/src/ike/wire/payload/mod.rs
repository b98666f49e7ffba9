//! The payloads of RFC 7296 section 3 as owned values, and the chain that carries them.
//!
//! ```text
//! +---------------+-+-------------+-------------------------------+
//! | Next payload  |C|  reserved   |        Payload length         |
//! +---------------+-+-------------+-------------------------------+
//! ```

mod auth;
mod cert;
mod config;
mod delete;
mod id;
mod ke;
mod nonce;
mod notify;
mod sa;
mod ts;
mod unknown;
mod vendor;

pub use auth::Auth;
pub use cert::{Cert, CertReq};
pub use config::{Config, ConfigAttribute};
pub use delete::{Delete, Deleted};
pub use id::{Id, IdFault};
pub use ke::Ke;
pub use nonce::Nonce;
pub use notify::Notify;
pub use sa::{Attribute, AttributeValue, MAX_PROPOSALS, MAX_TRANSFORMS, Proposal, Sa, Transform};
pub use ts::Ts;
pub use unknown::Unknown;
pub use vendor::Vendor;

use super::error::{EncodeError, WireError};
use super::iana::PayloadType;
use super::reader::Reader;

/// Octets of the generic payload header.
pub(super) const GENERIC_LEN: usize = 4;

/// The critical bit, in the octet after Next Payload.
pub(super) const CRITICAL: u8 = 0x80;

/// One payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Security Association.
    Sa(Sa),
    /// Key Exchange.
    Ke(Ke),
    /// Identification of the initiator.
    IdInitiator(Id),
    /// Identification of the responder.
    IdResponder(Id),
    /// Certificate.
    Cert(Cert),
    /// Certificate Request.
    CertReq(CertReq),
    /// Authentication.
    Auth(Auth),
    /// Nonce.
    Nonce(Nonce),
    /// Notify.
    Notify(Notify),
    /// Delete.
    Delete(Delete),
    /// Vendor ID.
    Vendor(Vendor),
    /// Traffic selectors of the initiator.
    TsInitiator(Ts),
    /// Traffic selectors of the responder.
    TsResponder(Ts),
    /// Configuration.
    Config(Config),
    /// EAP, and what RFC 7296 does not define and is not marked critical: to be skipped.
    Unknown(Unknown),
}

impl Payload {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::Ke(_) => PayloadType::KE,
            Self::IdInitiator(_) => PayloadType::ID_I,
            Self::IdResponder(_) => PayloadType::ID_R,
            Self::Cert(_) => PayloadType::CERT,
            Self::CertReq(_) => PayloadType::CERTREQ,
            Self::Auth(_) => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete(_) => PayloadType::DELETE,
            Self::Vendor(_) => PayloadType::VENDOR,
            Self::TsInitiator(_) => PayloadType::TS_I,
            Self::TsResponder(_) => PayloadType::TS_R,
            Self::Config(_) => PayloadType::CONFIG,
            Self::Unknown(unknown) => unknown.kind,
        }
    }

    /// The body of a payload of type `kind`, all of which is in `body`.
    pub(super) fn parse(kind: PayloadType, mut body: Reader<'_>) -> Result<Self, WireError> {
        let body = &mut body;
        let payload = match kind {
            PayloadType::SA => Self::Sa(Sa::parse(body)?),
            PayloadType::KE => Self::Ke(Ke::parse(body)?),
            PayloadType::ID_I => Self::IdInitiator(Id::parse(body)?),
            PayloadType::ID_R => Self::IdResponder(Id::parse(body)?),
            PayloadType::CERT => Self::Cert(Cert::parse(body)?),
            PayloadType::CERTREQ => Self::CertReq(CertReq::parse(body)?),
            PayloadType::AUTH => Self::Auth(Auth::parse(body)?),
            PayloadType::NONCE => Self::Nonce(Nonce::parse(body)?),
            PayloadType::NOTIFY => Self::Notify(Notify::parse(body)?),
            PayloadType::DELETE => Self::Delete(Delete::parse(body)?),
            PayloadType::VENDOR => Self::Vendor(Vendor::parse(body)),
            PayloadType::TS_I => Self::TsInitiator(Ts::parse(body)?),
            PayloadType::TS_R => Self::TsResponder(Ts::parse(body)?),
            PayloadType::CONFIG => Self::Config(Config::parse(body)?),
            other => Self::Unknown(Unknown::parse(other, body)),
        };
        body.clone().finish()?;
        Ok(payload)
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Sa(sa) => sa.encode(out)?,
            Self::Ke(ke) => ke.encode(out),
            Self::IdInitiator(id) | Self::IdResponder(id) => id.encode(out),
            Self::Cert(cert) => cert.encode(out),
            Self::CertReq(request) => request.encode(out),
            Self::Auth(auth) => auth.encode(out),
            Self::Nonce(nonce) => nonce.encode(out),
            Self::Notify(notify) => notify.encode(out)?,
            Self::Delete(delete) => delete.encode(out)?,
            Self::Vendor(vendor) => vendor.encode(out),
            Self::TsInitiator(ts) | Self::TsResponder(ts) => ts.encode(out)?,
            Self::Config(config) => config.encode(out)?,
            Self::Unknown(unknown) => unknown.encode(out),
        }
        Ok(())
    }
}

/// Appends the payloads with their generic headers; returns the type of the first.
///
/// # Errors
/// A payload is longer than its length field can say.
pub(crate) fn encode_chain(payloads: &[Payload], out: &mut Vec<u8>) -> Result<PayloadType, EncodeError> {
    let next_of = |index: usize| payloads.get(index).map_or(PayloadType::NONE, Payload::kind);
    for (index, payload) in payloads.iter().enumerate() {
        let start = out.len();
        // RFC 7296 section 3.2: the critical bit is zero in payloads that it defines.
        out.extend_from_slice(&[next_of(index + 1).0, 0, 0, 0]);
        payload.encode_body(out)?;
        put_length(out, start, start + 2, "payload")?;
    }
    Ok(next_of(0))
}

/// Writes the number of octets from `start` to the end of `out` into the 16-bit field at `at`.
fn put_length(out: &mut [u8], start: usize, at: usize, what: &'static str) -> Result<(), EncodeError> {
    let length = out.len() - start;
    let field = u16::try_from(length).map_err(|_| EncodeError { what, length })?;
    out[at..at + 2].copy_from_slice(&field.to_be_bytes());
    Ok(())
}

/// A count or length that goes into one octet.
fn octet(length: usize, what: &'static str) -> Result<u8, EncodeError> {
    u8::try_from(length).map_err(|_| EncodeError { what, length })
}
