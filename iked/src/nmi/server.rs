//! Accepts clients, at most so many at a time, and ends their sessions.

use super::audit::Audit;
use super::counters::{Counters, Reason};
use super::session::{Session, Shared, send_term};
use super::snapshots::Snapshots;
use super::socket::{self, Place, SocketError};
use super::{Backend, Config};
use crate::servauth::Identities;
use nmi_proto::code::{ReasonCode, ReturnCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Wait after an accept that failed for want of descriptors or memory: another try at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether the socket's file is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Everybody may connect; authorization decides.
const MODE: u32 = 0o666;
/// How long sessions may take to say TERM at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why the interface is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be made.
    #[error("management socket: {0}")]
    Socket(#[from] SocketError),
}

/// A socket that is listened on; clients wait until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    listener: UnixListener,
    place: Place,
    statistics: Statistics,
}

/// How a server is used. Clones show the same server.
#[derive(Debug, Clone)]
pub struct Statistics {
    slots: Arc<Semaphore>,
    limit: usize,
    counters: Arc<Counters>,
}

impl Statistics {
    /// Clients that are served now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    /// Clients that are served at a time.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// What was refused and who was cut off: reasons and how often, those that occurred.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.counters.occurred()
    }
}

impl Server {
    /// Makes the socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The path is not safe, or another daemon serves it.
    pub fn bind(config: Config) -> Result<Self, ServeError> {
        let (listener, place) = socket::listen(&config.socket, MODE)?;
        let statistics = Statistics {
            slots: Arc::new(Semaphore::new(config.max_clients)),
            limit: config.max_clients,
            counters: Arc::default(),
        };
        Ok(Self { config: Arc::new(config), listener, place, statistics })
    }

    /// How it is used, while it runs too.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics.clone()
    }

    /// Serves until `shutdown`.
    pub async fn run(self, backend: Backend, shutdown: CancellationToken) {
        let Self { config, mut listener, place, statistics: Statistics { slots, counters, .. } } = self;
        let mut look = tokio::time::interval(LOOK);
        let snapshots = Arc::new(Snapshots::default());
        let mut told = false;
        let mut place = place;
        let audit = Arc::new(Audit::default());
        let sessions = TaskTracker::new();
        tracing::info!(socket = %config.socket.display(), max_clients = config.max_clients, "management interface ready");
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                _ = look.tick() => {
                    match place.renew() {
                        Ok(None) => told = false,
                        Ok(Some(new)) => {
                            tracing::warn!(socket = %config.socket.display(), "management socket was removed: it is made again");
                            listener = new;
                        }
                        Err(error) if !told => {
                            tracing::warn!(%error, "management socket was removed and cannot be made again; it is tried again");
                            told = true;
                        }
                        Err(_) => {}
                    }
                    continue;
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a management client could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                // Rule 10: told and closed, here, so that a flood of connections makes no tasks.
                send_term(&stream, config.page, ReturnCode::EAGAIN, ReasonCode::MAX_CLIENTS);
                counters.count(Reason::TooManyClients);
                tracing::debug!(limit = config.max_clients, "one management client too many");
                continue;
            };
            let Some(who) = credentials(&stream, &config) else {
                counters.count(Reason::NoCredentials);
                continue;
            };
            let shared = Shared {
                config: Arc::clone(&config),
                backend: backend.clone(),
                audit: Arc::clone(&audit),
                counters: Arc::clone(&counters),
                snapshots: Arc::clone(&snapshots),
            };
            let session = Session::new(stream, who, shared);
            let shutdown = shutdown.clone();
            sessions.spawn(async move {
                session.run(shutdown).await;
                drop(slot);
            });
        }
        // No new client finds the socket from here on.
        drop(listener);
        drop(place);
        sessions.close();
        if tokio::time::timeout(GOODBYE, sessions.wait()).await.is_err() {
            tracing::warn!(left = sessions.len(), "management sessions did not end in time");
        }
    }
}

/// Who connected, as the kernel says. Without that nothing can be permitted.
fn credentials(stream: &UnixStream, config: &Config) -> Option<Identities> {
    match stream.peer_cred() {
        Ok(cred) => {
            let users = Arc::clone(&config.users);
            Some(Identities::new(cred.uid(), cred.gid(), cred.pid().unwrap_or(0), users))
        }
        Err(error) => {
            tracing::warn!(%error, "a management client without credentials");
            None
        }
    }
}
