//! Delete payload (RFC 7296 section 3.11).

use super::super::error::{EncodeError, Fault, WireError};
use super::super::iana::ProtocolId;
use super::super::reader::Reader;

/// The payload, with fields that agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete(pub Deleted);

/// What is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// The IKE SA that the message belongs to, with all its children.
    IkeSa,
    /// Child SAs, by the SPIs on which the sender of the Delete receives.
    Children {
        /// ESP or AH.
        protocol: ProtocolId,
        /// SPIs.
        spis: Vec<u32>,
    },
}

/// Octets of a child SA's SPI.
const CHILD_SPI: u8 = 4;

impl Delete {
    /// Delete of the IKE SA.
    #[must_use]
    pub const fn ike_sa() -> Self {
        Self(Deleted::IkeSa)
    }

    /// Delete of ESP SAs.
    #[must_use]
    pub const fn esp(spis: Vec<u32>) -> Self {
        Self::children(ProtocolId::ESP, spis)
    }

    /// Delete of child SAs of ESP or AH.
    #[must_use]
    pub const fn children(protocol: ProtocolId, spis: Vec<u32>) -> Self {
        Self(Deleted::Children { protocol, spis })
    }

    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let here = body.clone();
        let protocol = ProtocolId(body.u8()?);
        let spi_size = body.u8()?;
        let counted = usize::from(body.u16()?);
        let bad_size =
            |here: &Reader<'_>| here.fault(Fault::Value { what: "SPI size", value: spi_size.into() });
        match protocol {
            ProtocolId::IKE if spi_size == 0 && counted == 0 => Ok(Self::ike_sa()),
            ProtocolId::IKE => Err(bad_size(&here)),
            ProtocolId::ESP | ProtocolId::AH if spi_size == CHILD_SPI => {
                let found = body.left() / usize::from(CHILD_SPI);
                if found != counted {
                    return Err(here.fault(Fault::Count { what: "SPIs", counted, found }));
                }
                let spis = (0..counted).map(|_| body.u32()).collect::<Result<_, _>>()?;
                Ok(Self(Deleted::Children { protocol, spis }))
            }
            ProtocolId::ESP | ProtocolId::AH => Err(bad_size(&here)),
            other => Err(here.fault(Fault::Value { what: "protocol", value: other.0.into() })),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match &self.0 {
            Deleted::IkeSa => out.extend_from_slice(&[ProtocolId::IKE.0, 0, 0, 0]),
            Deleted::Children { protocol, spis } => {
                let error = EncodeError { what: "SPIs of a Delete", length: spis.len() };
                let count = u16::try_from(spis.len()).map_err(|_| error)?;
                out.extend_from_slice(&[protocol.0, CHILD_SPI]);
                out.extend_from_slice(&count.to_be_bytes());
                out.extend(spis.iter().flat_map(|spi| spi.to_be_bytes()));
            }
        }
        Ok(())
    }
}
