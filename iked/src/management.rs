//! Starting, reloading and ending the management interface; the interface itself is [`crate::nmi`].

use crate::config::{Config, NmiText};
use crate::events::Events;
use crate::metrics::{Endpoint, MetricsError, Sources};
use crate::nmi::{Backend, Config as NmiConfig, ServeError, Server};
use crate::request::CoreRequest;
use crate::servauth::{Profiles, ServauthError};
use nmi_proto::text::CodePage;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Requests that may wait for the core.
const QUEUE: usize = 256;

/// Why the interface, or that for metrics, is not served.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The management interface.
    #[error(transparent)]
    Nmi(#[from] ServeError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// The running interface.
pub(crate) struct Management {
    servauth: Option<PathBuf>,
    profiles: watch::Sender<Arc<Profiles>>,
    policy_loaded: watch::Sender<bool>,
    stop: CancellationToken,
    /// Kept so that the requests' channel never closes.
    _core: mpsc::Sender<CoreRequest>,
}

/// Binds the socket and begins to serve it; requests come out of the receiver.
pub(crate) fn start(
    config: &Config,
    tasks: &TaskTracker,
    events: Events,
) -> Result<(Management, mpsc::Receiver<CoreRequest>), ManagementError> {
    let mut nmi = NmiConfig::new(config.nmi.socket.clone(), config.system.as_str());
    nmi.max_clients = config.nmi.max_clients;
    nmi.page = match config.nmi.text {
        NmiText::Ascii => CodePage::Ascii,
        NmiText::Ibm1047 => CodePage::Ibm1047,
    };
    let server = Server::bind(nmi)?;
    let metrics = config.metrics.as_ref().map(Endpoint::bind).transpose()?;
    let profiles = match load(config.servauth.as_deref()) {
        Ok(profiles) => profiles,
        Err(e) => {
            warn!("authorization profiles not loaded, superusers only: {e}");
            Profiles::default()
        }
    };
    let (profiles, profiles_rx) = watch::channel(Arc::new(profiles));
    let (policy_loaded, policy_loaded_rx) = watch::channel(false);
    let (core, requests) = mpsc::channel(QUEUE);
    let backend =
        Backend { profiles: profiles_rx, core: core.clone(), policy_loaded: policy_loaded_rx, events };
    let stop = CancellationToken::new();
    if let Some(metrics) = metrics {
        let sources =
            Sources { core: core.clone(), nmi: server.statistics(), meters: backend.events.meters().clone() };
        tasks.spawn(metrics.serve(sources, stop.clone()));
    }
    tasks.spawn(server.run(backend, stop.clone()));
    let servauth = config.servauth.clone();
    Ok((Management { servauth, profiles, policy_loaded, stop, _core: core }, requests))
}

impl Management {
    /// It is decided which filters are in force: clients are greeted from now on.
    pub(crate) fn policy_loaded(&self) {
        self.policy_loaded.send_replace(true);
    }

    /// Reads the authorization profiles again; wrong ones change nothing.
    pub(crate) fn reload(&self) {
        match load(self.servauth.as_deref()) {
            Ok(profiles) => {
                self.profiles.send_replace(Arc::new(profiles));
                info!("authorization profiles reloaded");
            }
            Err(e) => warn!("{e}; the authorization profiles before stay in force"),
        }
    }

    /// Every client is told that it ends.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

fn load(path: Option<&std::path::Path>) -> Result<Profiles, ServauthError> {
    path.map_or_else(|| Ok(Profiles::default()), Profiles::load)
}
