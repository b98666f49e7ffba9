//! The management interface: one Unix socket through which everything is seen and steered (`docs/nmi.md`).
//!
//! ```text
//!            accept            one task each, at most max_clients                the task that owns all engines
//! socket ──► server ──────────► session ── bytes ──► nmi_proto ──► Request ─┐
//!              │ SO_PEERCRED       ▲                                        ├─ CoreRequest ──► core
//!              └ one too many:     │    servauth decides, for each request ─┘                    │
//!                TERM, close       └── records, piece by piece ◄── display, control ◄── Snapshot ┘
//! ```
//!
//! A session shares no lock with another session or with an engine. It handles one request at a time, in the order
//! in which they came; an answer is made of the values of one moment, its length is summed first and its records are
//! made while the client takes them. Who does not read, stops only himself.

mod audit;
mod authority;
mod control;
mod counters;
mod defense;
mod display;
mod events;
mod server;
mod session;
mod snapshots;
mod socket;
mod vipa;

pub use server::{ServeError, Server, Statistics};
pub use socket::SocketError;
pub(crate) use socket::{Place, listen};

use crate::events::Events;
use crate::request::CoreRequest;
use crate::servauth::{Profiles, Resolve, SystemUsers};
use nmi_proto::text::CodePage;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How the interface is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the socket. Its folder is made if it is not there.
    pub socket: PathBuf,
    /// Clients at a time (rule 9 of nmi.md section 1).
    pub max_clients: usize,
    /// Code page of INIT, and of a TERM before the first request.
    pub page: CodePage,
    /// System name, the third qualifier of every resource.
    pub system: String,
    /// A request that began to arrive is complete after this time, an answer is taken after this time (rule 13).
    pub patience: Duration,
    /// User database.
    pub users: Arc<dyn Resolve>,
}

impl Config {
    /// A configuration with the documented limits and the system's user database.
    #[must_use]
    pub fn new(socket: PathBuf, system: &str) -> Self {
        Self {
            socket,
            max_clients: 50,
            page: CodePage::Ascii,
            system: system.to_owned(),
            patience: Duration::from_secs(30),
            users: Arc::new(SystemUsers),
        }
    }
}

/// What a session needs of the rest of the daemon.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Authorization profiles in force; a reload counts from the next request on.
    pub profiles: watch::Receiver<Arc<Profiles>>,
    /// The task that owns engines and stacks.
    pub core: mpsc::Sender<CoreRequest>,
    /// True as soon as the first policy has been loaded: INIT waits for it (rule 5).
    pub policy_loaded: watch::Receiver<bool>,
    /// What happens.
    pub events: Events,
}

/// Serves the interface until `shutdown`: then every client gets a TERM, and the socket is removed.
///
/// # Errors
/// The socket cannot be made; nothing has been served then.
pub async fn serve(
    config: Config,
    profiles: watch::Receiver<Arc<Profiles>>,
    core: mpsc::Sender<CoreRequest>,
    policy_loaded: watch::Receiver<bool>,
    events: Events,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let server = Server::bind(config)?;
    server.run(Backend { profiles, core, policy_loaded, events }, shutdown).await;
    Ok(())
}
