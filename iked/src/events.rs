//! Events for whoever watches: what the core reports once, many may read, each at his own pace.
//!
//! One ring holds the last [`KEPT`] events. A reader that is too slow loses the oldest and is told how many; nobody
//! waits for a reader.

use crate::ike::failure::Failure;
use crate::metrics::Meters;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::broadcast;

/// Events that are kept for slow readers.
pub const KEPT: usize = 4096;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Number since the start, from 1.
    pub number: u64,
    /// When, in Unix seconds.
    pub unix: u64,
    /// Stack that it happened to.
    pub stack: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An IKE SA was established; with a generation above 1 it replaces one.
    IkeUp {
        /// `K` number.
        tunnel: u32,
        /// SA number within the tunnel.
        generation: u32,
        /// KeyExchangeRule.
        rule: String,
        /// Own address.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
    },
    /// The last IKE SA of a tunnel is gone.
    IkeDown {
        /// `K` number.
        tunnel: u32,
        /// Why.
        reason: String,
    },
    /// A child SA is usable; with a generation above 1 it replaces one.
    ChildUp {
        /// `Y` number.
        tunnel: u32,
        /// `K` number of its IKE tunnel.
        ike: u32,
        /// SA number within the tunnel.
        generation: u32,
        /// IpFilterRule.
        rule: String,
        /// Own address.
        local: IpAddr,
        /// The peer's.
        remote: IpAddr,
        /// Inbound SPI.
        spi_in: u32,
        /// Outbound SPI.
        spi_out: u32,
    },
    /// The last child SA of a tunnel is gone.
    ChildDown {
        /// `Y` number.
        tunnel: u32,
        /// Why.
        reason: String,
    },
    /// A negotiation failed.
    Failed {
        /// The peer.
        peer: IpAddr,
        /// Rule, if known.
        rule: Option<String>,
        /// Why.
        reason: Failure,
    },
    /// A DVIPA has another owner, or none that is known.
    OwnerChanged {
        /// The DVIPA.
        dvipa: IpAddr,
        /// New owner.
        owner: Option<String>,
        /// Owner before.
        from: Option<String>,
        /// Epoch of the new owner.
        epoch: u64,
    },
    /// Whether a takeover of a DVIPA would find everything; `Some`: not, and why.
    Protection {
        /// The DVIPA.
        dvipa: IpAddr,
        /// What is missing.
        missing: Option<String>,
    },
    /// Filters were put in force: those of the policy, or the defaults.
    PolicyLoaded {
        /// Of the policy.
        policy: bool,
    },
    /// The policy could not be loaded; what was in force stays.
    PolicyFailed {
        /// Why.
        reason: String,
    },
    /// The stack is configured and works.
    StackUp,
    /// The stack is gone.
    StackDown {
        /// Why.
        reason: String,
    },
}

/// Where events are reported and read.
#[derive(Debug, Clone)]
pub struct Events {
    ring: broadcast::Sender<Arc<Event>>,
    last: Arc<AtomicU64>,
    meters: Meters,
}

impl Default for Events {
    fn default() -> Self {
        Self::keeping(KEPT)
    }
}

impl Events {
    /// With room for so many events.
    #[must_use]
    pub fn keeping(events: usize) -> Self {
        Self { ring: broadcast::Sender::new(events), last: Arc::default(), meters: Meters::default() }
    }

    /// Reports an event. Waits for nobody.
    pub fn report(&self, unix: u64, stack: &str, what: What) {
        self.meters.happened(stack, &what);
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        if self.ring.receiver_count() > 0 {
            // That the last reader left meanwhile is no fault.
            let _ = self.ring.send(Arc::new(Event { number, unix, stack: stack.to_owned(), what }));
        }
    }

    /// What is counted of everything that happens.
    #[must_use]
    pub const fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Reads events from now on.
    #[must_use]
    pub fn read(&self) -> broadcast::Receiver<Arc<Event>> {
        self.ring.subscribe()
    }
}
