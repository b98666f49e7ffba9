//! Metrics in the OpenMetrics text form (Prometheus reads it), on a socket of the configuration's choice; off by default.
//!
//! ```text
//!            what happens ──► Meters: counters and histograms, counted where it happens, for the life of the daemon
//!                                │
//!  scraper ──GET /metrics──► http ──► gather ──Display, Vipa──► core      gauges, and counters of engines and stacks,
//!     ▲                                  │                                 as they are at the moment of the scrape
//!     └────────────── text ◄─────────────┘
//! ```
//!
//! There is no authorization: who can connect may read. So bind it to a loopback or management address, or to a Unix
//! socket, which only root and its group can open. What each metric says stands in `docs/metrics.md`.

mod gather;
mod http;
mod meters;

pub use gather::gather;
pub use meters::Meters;

use crate::nmi::{Place, SocketError, Statistics, listen};
use crate::request::CoreRequest;
use serde::Deserialize;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Mode of a Unix socket of metrics.
const MODE: u32 = 0o660;
/// Wait after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where metrics are served: `127.0.0.1:9477` or `unix:/run/iked/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(format!("{text:?}: the path of a Unix socket is absolute")),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?}: expected ADDRESS:PORT or unix:/PATH")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The TCP address cannot be bound.
    #[error("metrics at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("metrics: {0}")]
    Socket(#[from] SocketError),
}

/// Where the values come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The task that owns engines and stacks.
    pub core: mpsc::Sender<CoreRequest>,
    /// What the management interface counts.
    pub nmi: Statistics,
    /// What is counted where it happens.
    pub meters: Meters,
}

/// A bound socket of either kind.
#[derive(Debug)]
pub struct Endpoint(Bound);

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, Place),
}

impl Endpoint {
    /// Binds the address. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the path is not safe.
    pub fn bind(address: &Address) -> Result<Self, MetricsError> {
        let bound = match address {
            Address::Tcp(at) => {
                let bound = std::net::TcpListener::bind(at).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    TcpListener::from_std(listener)
                });
                Bound::Tcp(bound.map_err(|source| MetricsError::Bind { address: *at, source })?)
            }
            Address::Unix(path) => {
                let (listener, place) = listen(path, MODE)?;
                Bound::Unix(listener, place)
            }
        };
        info!(%address, "metrics are served");
        if let Address::Tcp(at) = address
            && !at.ip().is_loopback()
        {
            warn!(%address, "metrics: who can reach this address may read them");
        }
        Ok(Self(bound))
    }

    /// Where it is bound, with the port that the system chose for port 0; `None`: a Unix socket.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            Bound::Unix(..) => None,
        }
    }

    /// Serves until `stop`.
    pub async fn serve(self, sources: Sources, stop: CancellationToken) {
        match self.0 {
            Bound::Tcp(listener) => {
                accept(|| async { Ok(listener.accept().await?.0) }, &sources, stop).await;
            }
            Bound::Unix(listener, _place) => {
                accept(|| async { Ok(listener.accept().await?.0) }, &sources, stop).await;
            }
        }
    }
}

/// One scraper at a time: a second waits in the queue of the socket. None can hold it for longer than
/// [`http::PATIENCE`], so scrapers cost the daemon no more than one snapshot at a time.
async fn accept<S, F>(next: impl Fn() -> F, sources: &Sources, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = io::Result<S>>,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = next() => accepted,
        };
        match accepted {
            Ok(stream) => tokio::select! {
                () = stop.cancelled() => return,
                () = http::answer(stream, || gather(sources)) => {}
            },
            Err(error) => {
                warn!(%error, "a scraper could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_wrong_ones_named() {
        let read = |text: &str| Address::try_from(text.to_owned());
        assert_eq!(read("127.0.0.1:9477"), Ok(Address::Tcp("127.0.0.1:9477".parse().unwrap())));
        assert_eq!(read("unix:/run/m").unwrap().to_string(), "unix:/run/m");
        for wrong in ["9477", "unix:run/m", "localhost:9477", ""] {
            assert!(read(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
