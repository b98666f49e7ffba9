//! Records of the answers to display requests (section 6): one module for each, sections in the order of the wire.
//!
//! | request | record |
//! |---|---|
//! | STACKINFO | [`StackRecord`] |
//! | SUMMARY | [`Statistics`] |
//! | IPFLTCURR, IPFLTDEFAULT, IPFLTPOLICY | [`FilterRecord`] |
//! | PORTTRAN | [`PortTranslation`] |
//! | IPTUNMANUAL | [`ManualRecord`] |
//! | IPTUNDYNSTACK | [`DynStackRecord`] |
//! | IPTUNDYNIKE | [`DynIkeRecord`] |
//! | IKETUN, IKETUNCASCADE | [`IkeRecord`] |
//! | IPINTERFACES | [`Interface`] |
//! | IKENSINFO | [`Nss`] |
//! | DROPS | [`DropCount`] |
//! | DISTRIBUTION | [`Distribution`] |
//! | DVIPA | [`DvipaRecord`] |
//! | VIPATARGETS | [`VipaTarget`] |
//! | TAKEOVERS | [`TakeoverRecord`] |
//! | AUTHORITY | [`AuthorityRecord`] |
//! | DEFENSIVE | [`DefensiveRecord`] |
//! | TEST_PACKET | [`TestRecord`] |
//! | EVENT (not an answer) | [`Event`] |

mod authority;
mod defensive;
mod dist;
mod event;
mod extension;
mod iketun;
mod interfaces;
mod ipflt;
mod iptundyn;
mod iptunnel;
mod nss;
mod porttran;
mod stackinfo;
mod summary;
mod test_packet;
mod vipa;

pub use authority::{Authority, AuthorityRecord, Caller};
pub use defensive::{Defensive, DefensiveControl, DefensiveRecord, MAX_DEFENSIVE_NAME};
pub use dist::Dist;
pub use event::Event;
pub use extension::{Distribution, DropCount};
pub use iketun::{IkeRecord, IkeTunnel, IkeTunnelStats};
pub use interfaces::Interface;
pub use ipflt::{FilterRecord, IpFilter};
pub use iptundyn::{DynIkeRecord, DynStackRecord, IpDynTunnel, IpDynamicIke, IpDynamicStack};
pub use iptunnel::{IpManualTunnel, IpTunnel, ManualRecord};
pub use nss::Nss;
pub use porttran::PortTranslation;
pub use stackinfo::{ExcludedAddress, Stack, StackRecord};
pub use summary::Statistics;
pub use test_packet::{TestRecord, Verdict};
pub use vipa::{Backup, Dvipa, DvipaRecord, Takeover, TakeoverRecord, TakeoverStepTime, VipaTarget};

use crate::code::{IdType, MessageType};
use crate::error::DecodeError;
use crate::identity::Identity;
use crate::record::{RecordBuilder, RecordView};
use crate::text::CodePage;

/// A record of an answer.
pub trait Record: Sized {
    /// The requests whose answers consist of such records.
    const TYPES: &'static [MessageType];

    /// Its bytes.
    fn build(&self, page: CodePage) -> Vec<u8>;

    /// Reads it. Longer sections and more of them than this version knows are accepted (section 2.3, rule 4).
    ///
    /// # Errors
    /// A section is absent that must be there, or cannot be read.
    fn parse(record: &RecordView<'_>) -> Result<Self, DecodeError>;
}

fn id_type(id: Option<&Identity>) -> IdType {
    id.map_or(IdType::NONE, Identity::id_type)
}

fn id_bytes(id: Option<&Identity>, page: CodePage) -> Vec<u8> {
    id.map(|id| id.to_bytes(page)).unwrap_or_default()
}

/// Where there is no such section its descriptor is left out too: such a record is exactly the product's.
fn with_dist(record: RecordBuilder, dist: Option<&Dist>) -> RecordBuilder {
    match dist {
        Some(dist) => record.one(dist),
        None => record,
    }
}
