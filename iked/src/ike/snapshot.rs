//! What another process needs to go on with an IKE tunnel: its IKE SAs and their children, with keys, message ids, the last
//! messages and the exchanges under way.
//!
//! [`super::Engine::export`] makes it, [`super::command::Command::Restore`] takes it. It holds keys: it is wiped when
//! dropped, not printed, and belongs into a sealed record only. What is read is checked before it is used, as anything else
//! from outside (threats T49).

use super::command::ActivationMethod;
use super::types::{Group, Identity, IkeTunnelId, Mode, Secret, TrafficSelector};
use super::v2::child::Standing;
use super::v2::collision::Origin;
use super::v2::established::IkeStanding;
use super::v2::sa::NatPath;
use super::view::Role;
use super::wire::{ChildSuite, IkeSuite};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use thiserror::Error;
use zeroize::Zeroizing;

/// The version that is written, and the only one that is read.
pub const VERSION: u8 = 1;

/// An IKE tunnel at one moment.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct IkeSnapshot {
    /// Its number.
    pub(crate) tunnel: IkeTunnelId,
    /// SAs that it has had.
    pub(crate) generations: u32,
    /// When this was taken, in seconds since 1970 UTC.
    pub(crate) taken: u64,
    /// Its established IKE SAs, the oldest first.
    pub(crate) sas: Vec<SaRecord>,
    /// Dynamic tunnels of their children.
    pub(crate) tunnels: Vec<TunnelRecord>,
}

/// Why octets are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Nothing there.
    #[error("empty snapshot of an IKE tunnel")]
    Empty,
    /// Another version.
    #[error("snapshot of an IKE tunnel in version {0}, not {VERSION}")]
    Version(u8),
    /// It cannot be taken apart.
    #[error("snapshot of an IKE tunnel: {0}")]
    Content(postcard::Error),
}

/// A child SA of a snapshot, as far as others than the engine need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotChild {
    /// Inbound SPI.
    pub spi_in: u32,
    /// Outbound SPI.
    pub spi_out: u32,
    /// This side sends on it.
    pub outbound_active: bool,
}

impl IkeSnapshot {
    /// Its number at the engine that made it.
    #[must_use]
    pub const fn tunnel(&self) -> IkeTunnelId {
        self.tunnel
    }

    /// Own address.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        self.sas.last().map(|sa| sa.local.ip())
    }

    /// The peer's address.
    #[must_use]
    pub fn remote(&self) -> Option<IpAddr> {
        self.sas.last().map(|sa| sa.remote.ip())
    }

    /// Its child SAs.
    pub fn children(&self) -> impl Iterator<Item = SnapshotChild> {
        self.sas.iter().flat_map(|sa| &sa.children).map(|child| SnapshotChild {
            spi_in: child.spi_in,
            spi_out: child.spi_out,
            outbound_active: child.outbound_active,
        })
    }

    /// The octets to store.
    ///
    /// # Panics
    /// Never: there is nothing in it that cannot be written, and the buffer is as long as was counted.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Counted first: a buffer that grows leaves copies behind.
        let length = postcard::experimental::serialized_size(self).expect("plain data has a size");
        let mut out = Zeroizing::new(vec![0; 1 + length]);
        out[0] = VERSION;
        postcard::to_slice(self, &mut out[1..]).expect("the buffer has the counted size");
        out
    }

    /// Reads stored octets.
    ///
    /// # Errors
    /// Another version, or damaged.
    pub fn decode(octets: &[u8]) -> Result<Self, SnapshotError> {
        match octets.split_first() {
            None => Err(SnapshotError::Empty),
            Some((&VERSION, content)) => postcard::from_bytes(content).map_err(SnapshotError::Content),
            Some((&version, _)) => Err(SnapshotError::Version(version)),
        }
    }
}

impl std::fmt::Debug for IkeSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("IkeSnapshot");
        out.field("tunnel", &self.tunnel).field("sas", &self.sas.len()).field("taken", &self.taken);
        out.finish_non_exhaustive()
    }
}

/// An established IKE SA.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SaRecord {
    pub(crate) generation: u32,
    pub(crate) role: Role,
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) nat: NatPath,
    /// KeyExchangeRule.
    pub(crate) rule: String,
    pub(crate) suite: IkeSuite,
    /// All seven keys.
    #[serde(with = "secret")]
    pub(crate) keys: Secret,
    /// The first IV that was never used.
    pub(crate) next_iv: u64,
    /// Epoch of the owner that sent first with these keys.
    pub(crate) born: u64,
    /// How the first SA of its line was made.
    pub(crate) origin: Option<Origin>,
    /// Epoch of the owner that took the snapshot.
    pub(crate) epoch: u64,
    pub(crate) local_id: Identity,
    pub(crate) remote_id: Identity,
    /// Time since it was established.
    pub(crate) age: Duration,
    pub(crate) lifetime: Duration,
    pub(crate) life: LifeRecord,
    pub(crate) reauth_in: Option<Duration>,
    pub(crate) linger_in: Option<Duration>,
    pub(crate) standing: IkeStanding,
    /// Id of the next request of the peer.
    pub(crate) expected: u32,
    /// Digest of the last one, and its answer.
    pub(crate) answered: Option<([u8; 32], Vec<u8>)>,
    /// Id of our next new request.
    pub(crate) next: u32,
    pub(crate) open: Option<OpenRecord>,
    pub(crate) tasks: Vec<TaskRecord>,
    /// Own SPI of the SA whose place this one takes.
    pub(crate) replaces: Option<u64>,
    pub(crate) children: Vec<ChildRecord>,
}

impl SaRecord {
    /// Our own SPI.
    pub(crate) const fn own_spi(&self) -> u64 {
        match self.role {
            Role::Initiator => self.spi_i,
            Role::Responder => self.spi_r,
        }
    }
}

/// What is left of a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LifeRecord {
    pub(crate) rekey_in: Duration,
    pub(crate) expires_in: Duration,
}

/// A child SA.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChildRecord {
    pub(crate) tunnel: u32,
    pub(crate) generation: u32,
    pub(crate) role: Role,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    /// IpFilterRule.
    pub(crate) rule: String,
    pub(crate) suite: ChildSuite,
    pub(crate) mode: Mode,
    pub(crate) local_selectors: Vec<TrafficSelector>,
    pub(crate) remote_selectors: Vec<TrafficSelector>,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) udp: bool,
    pub(crate) age: Duration,
    pub(crate) life: LifeRecord,
    pub(crate) lifetime: Duration,
    pub(crate) lifesize: Option<u64>,
    pub(crate) outbound_active: bool,
    pub(crate) activate_in: Option<Duration>,
    pub(crate) standing: Standing,
    /// Inbound; empty where keys were not kept.
    #[serde(with = "secret")]
    pub(crate) key_in: Secret,
    #[serde(with = "secret")]
    pub(crate) key_out: Secret,
}

/// A dynamic tunnel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TunnelRecord {
    pub(crate) id: u32,
    pub(crate) local_dyn_vpn_rule: Option<String>,
    pub(crate) method: ActivationMethod,
    pub(crate) vpn_life_in: Option<Duration>,
    pub(crate) generations: u32,
}

/// An open request.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenRecord {
    pub(crate) id: u32,
    pub(crate) message: Vec<u8>,
    pub(crate) exchange: ExchangeRecord,
}

/// What the answer to an open request is checked against.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ExchangeRecord {
    NewChild {
        request: RequestRecord,
        unwanted: bool,
        deleted: Vec<u32>,
        spi_in: u32,
        nonce: Vec<u8>,
        private: Option<PrivateRecord>,
    },
    RekeyChild {
        old: u32,
        rival: Option<(u32, Vec<u8>)>,
        wished: RequestRecord,
        mode: Mode,
        again: bool,
        deleted: Vec<u32>,
        spi_in: u32,
        nonce: Vec<u8>,
        private: Option<PrivateRecord>,
    },
    RekeyIke {
        spi: u64,
        /// Own SPI of the rival.
        rival: Option<(u64, Vec<u8>)>,
        suites: Vec<IkeSuite>,
        again: bool,
        nonce: Vec<u8>,
        private: PrivateRecord,
    },
    DeleteChild {
        spi_in: u32,
    },
    DeleteIke,
    Liveness,
}

/// A private value of a key exchange.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PrivateRecord {
    pub(crate) group: Group,
    #[serde(with = "secret")]
    pub(crate) exponent: Secret,
}

/// A child to negotiate. The acquires that wait for it are the old stack's and stay behind.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestRecord {
    pub(crate) tunnel: u32,
    pub(crate) rule: String,
    pub(crate) local: Vec<TrafficSelector>,
    pub(crate) remote: Vec<TrafficSelector>,
    pub(crate) group: Option<Group>,
    pub(crate) attempts: u32,
}

/// Something to do when no request is open.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum TaskRecord {
    NewChild(RequestRecord),
    RekeyChild(u32),
    DeleteChild(u32),
    Disown(u32),
    RekeyIke,
    DeleteIke,
    Liveness,
}

/// Keys, written only here.
mod secret {
    use super::Secret;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        secret.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        Vec::deserialize(from).map(Secret)
    }
}
