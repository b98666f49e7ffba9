//! Certificate and Certificate Request payloads (RFC 7296 sections 3.6 and 3.7).

use super::super::error::WireError;
use super::super::iana::CertEncoding;
use super::super::reader::Reader;

/// A Certificate payload; the data is not looked into here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cert {
    /// Encoding.
    pub encoding: CertEncoding,
    /// Certificate data.
    pub data: Vec<u8>,
}

impl Cert {
    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let encoding = CertEncoding(body.u8()?);
        Ok(Self { encoding, data: body.rest().to_vec() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.encoding.0);
        out.extend_from_slice(&self.data);
    }
}

/// A Certificate Request payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertReq {
    /// Encoding asked for.
    pub encoding: CertEncoding,
    /// Certification authorities: for X.509, SHA-1 hashes of their keys, one after another.
    pub authorities: Vec<u8>,
}

impl CertReq {
    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let encoding = CertEncoding(body.u8()?);
        Ok(Self { encoding, authorities: body.rest().to_vec() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.encoding.0);
        out.extend_from_slice(&self.authorities);
    }
}
