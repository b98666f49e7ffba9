//! Notify payload (RFC 7296 section 3.10).

use super::super::error::{EncodeError, WireError};
use super::super::iana::{NotifyType, ProtocolId};
use super::super::reader::Reader;
use super::octet;

/// The payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Protocol of the SPI; [`ProtocolId::NONE`] without one.
    pub protocol: ProtocolId,
    /// The SA concerned, where it is not the IKE SA of this message.
    pub spi: Vec<u8>,
    /// Message type.
    pub kind: NotifyType,
    /// Notification data.
    pub data: Vec<u8>,
}

impl Notify {
    /// About the IKE SA of this message.
    #[must_use]
    pub fn new(kind: NotifyType, data: Vec<u8>) -> Self {
        Self { protocol: ProtocolId::NONE, spi: Vec::new(), kind, data }
    }

    /// About the child SA on which the sender of this notify receives.
    #[must_use]
    pub fn about_esp(kind: NotifyType, spi: u32) -> Self {
        Self::about_child(kind, ProtocolId::ESP, spi)
    }

    /// About a child SA of ESP or AH, by the SPI on which the sender receives.
    #[must_use]
    pub fn about_child(kind: NotifyType, protocol: ProtocolId, spi: u32) -> Self {
        Self { protocol, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    /// INVALID_KE_PAYLOAD with the group wanted (section 1.2).
    #[must_use]
    pub fn invalid_ke(group: u16) -> Self {
        Self::new(NotifyType::INVALID_KE_PAYLOAD, group.to_be_bytes().to_vec())
    }

    /// The data as a group number, as INVALID_KE_PAYLOAD carries it.
    #[must_use]
    pub fn group(&self) -> Option<u16> {
        self.data.as_slice().try_into().ok().map(u16::from_be_bytes)
    }

    /// The SPI of the ESP SA that it is about; `None` when it is about none, or says so wrongly (T11).
    #[must_use]
    pub fn esp_spi(&self) -> Option<u32> {
        self.child_spi().filter(|(protocol, _)| *protocol == ProtocolId::ESP).map(|(_, spi)| spi)
    }

    /// Protocol and SPI of the child SA that it is about; `None` when it is about none, or says so wrongly (T11).
    #[must_use]
    pub fn child_spi(&self) -> Option<(ProtocolId, u32)> {
        match self.protocol {
            protocol @ (ProtocolId::ESP | ProtocolId::AH) => {
                self.spi.as_slice().try_into().ok().map(|spi| (protocol, u32::from_be_bytes(spi)))
            }
            _ => None,
        }
    }

    pub(super) fn parse(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let protocol = ProtocolId(body.u8()?);
        let spi_size = usize::from(body.u8()?);
        let kind = NotifyType(body.u16()?);
        let spi = body.take(spi_size)?.to_vec();
        Ok(Self { protocol, spi, kind, data: body.rest().to_vec() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&[self.protocol.0, octet(self.spi.len(), "SPI")?]);
        out.extend_from_slice(&self.kind.0.to_be_bytes());
        out.extend_from_slice(&self.spi);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}
