//! The shell around the cores: every task, socket, clock and file of the daemon is started here.
//!
//! ```text
//!                        signals   time
//!                           │       │
//!   nmi sessions (n) ──Request─►┌───▼───▼──────────┐◄─Report─ cf keeper (1) ──► sled, etcd
//!        ▲   └─ oneshot ◄───────┤    core task     ├──Order──►  (clerks, pulses, watches)
//!   clients (AF_UNIX)           │ Core, 1 per host │
//!                               │ └ Engine per stack
//!   link (1 per stack) ─Event──►└───────▲──────────┘
//!     │   ▲ ◄──ToStack (1 channel per connection)──┘│
//!     │   │                  Internal: answers that were waited for outside (≤ 1 per request and tick)
//!   stackd process (1 per stack; its own process group, outlives this daemon)
//! ```
//!
//! All channels are bounded. The core task never waits but in its one `select!`: whoever does not take messages
//! (a stack, the coupling facility) is reset or written to again later, a client waits alone.

use crate::cf::CfError;
use crate::cf::keeper::{Keeper, Order, Report, Settings as KeeperSettings, boot_ns};
use crate::cf::seal::{KeyError, KeyInForce, SysplexKey};
use crate::cf::sled::Embedded;
use crate::config::{Config, Facility, StackEntry, Takeover};
use crate::core::{Core, Internal, Now};
use crate::ike::Engine;
use crate::ike::rules::Settings;
use crate::management::{self, Management};
use crate::policies::PolicySource;
use crate::request::CoreRequest;
use crate::shutdown;
use crate::stack_link::{self, LinkEvent, StackIndex};
use crate::supervise::{Launch, LaunchError};
use nix::fcntl::{Flock, FlockArg};
use rand::SeedableRng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

/// How long the start waits for the coupling facility; then it goes on without.
const CLAIM_TIME: Duration = Duration::from_secs(3);
/// Longest path of a Unix socket.
const MAX_SOCKET_PATH: usize = 107;

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error("state folder {}: {reason}", path.display())]
    StateFolder {
        /// Folder.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Another daemon uses the state folder.
    #[error("state folder {} is in use: another iked runs with this configuration", path.display())]
    SecondInstance {
        /// Folder.
        path: PathBuf,
    },
    /// A control socket's path.
    #[error("control socket {}: longer than {MAX_SOCKET_PATH} bytes; choose a shorter state_dir", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A stack cannot be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The sysplex key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The management interface.
    #[error(transparent)]
    Management(#[from] management::ManagementError),
    /// The system.
    #[error("{0}")]
    System(String),
}

/// This moment.
#[must_use]
pub fn now() -> Now {
    #[expect(clippy::disallowed_methods, reason = "the wall clock enters here, for people only")]
    let unix =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    Now { instant: tokio::time::Instant::now().into_std(), unix, boot: Duration::from_nanos(boot_ns()) }
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// It could not start; nothing is left behind then.
pub async fn run(config: Config, source: Box<dyn PolicySource>) -> Result<(), StartError> {
    let config = Arc::new(config);
    let _lock = prepare_state(&config.state_dir)?;
    let launches = launches(&config)?;
    let mut signals = Signals::new()?;

    let (internal_tx, internal) = mpsc::channel(1024);
    let (report_tx, reports) = mpsc::channel(1024);
    let tasks = TaskTracker::new();
    let sysplex = start_keeper(&config, report_tx, &tasks)?;
    let key = sysplex.as_ref().map(|(_, key)| key.clone());
    let mut core = Core::new(config.clone(), source, engine, sysplex, internal_tx, now());
    let (management, requests) = management::start(&config, &tasks, core.events())?;
    management.policy_loaded();

    let (link_tx, links) = mpsc::channel(1024);
    let mut inputs = Inputs { links, requests, reports, internal, management };
    core.watch(now());
    inputs.wait_for_owners(&mut core).await;
    let stop_links = CancellationToken::new();
    for (index, launch) in launches.into_iter().enumerate() {
        tasks.spawn(stack_link::run(index, launch, link_tx.clone(), stop_links.clone()));
    }
    info!(system = %config.system, stacks = config.stacks.len(), "iked {} started", env!("CARGO_PKG_VERSION"));

    let mut closing: Option<Instant> = None;
    let mut handing: Option<Instant> = None;
    loop {
        let deadline = [closing, handing].into_iter().flatten().fold(core.next_deadline(), Instant::min);
        tokio::select! {
            Some((index, event)) = inputs.links.recv() => core.on_link(now(), index, event),
            Some(request) = inputs.requests.recv() => core.on_request(now(), request),
            Some(report) = inputs.reports.recv() => core.on_report(now(), report),
            Some(answer) = inputs.internal.recv() => core.on_internal(now(), answer),
            () = tokio::time::sleep_until(deadline.into()) => core.on_deadline(now()),
            wish = signals.next() => if wish == Wish::Reload {
                core.reload(now());
                if let Some(next) = next_key(&config, key.as_ref()) {
                    core.change_key(next);
                }
                inputs.management.reload();
            } else {
                if closing.is_some() {
                    info!("second signal: not waiting for peers any more");
                    break;
                }
                info!("ending: DVIPAs are handed over, then all SAs are deleted");
                core.hand_over(now());
                closing = Some(now().instant + shutdown::PEER_TIME);
                handing = Some(now().instant + shutdown::HAND_OVER_TIME);
            }
        }
        if handing.is_some_and(|limit| core.is_handed_over() || now().instant >= limit) {
            handing = None;
            core.shutdown(now());
        }
        if let Some(limit) = closing
            && handing.is_none()
            && (core.is_idle() || now().instant >= limit)
        {
            break;
        }
    }
    shutdown::end(core, inputs, stop_links, tasks).await;
    info!("ended");
    Ok(())
}

/// Everything that the core task waits for, beside time and signals.
pub(crate) struct Inputs {
    pub(crate) links: mpsc::Receiver<(StackIndex, LinkEvent)>,
    pub(crate) requests: mpsc::Receiver<CoreRequest>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) internal: mpsc::Receiver<Internal>,
    pub(crate) management: Management,
}

impl Inputs {
    /// Takes reports until the owner of each DVIPA is known, so that stacks begin as what they were.
    async fn wait_for_owners(&mut self, core: &mut Core) {
        let limit = tokio::time::Instant::now() + CLAIM_TIME;
        while !core.knows_owners() {
            match tokio::time::timeout_at(limit, self.reports.recv()).await {
                Ok(Some(report)) => core.on_report(now(), report),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let on = |kind| signal(kind).map_err(|e| StartError::System(format!("signals: {e}")));
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Reload,
    End,
}

/// Makes the state folder, ours and closed to others, and locks it for this process.
fn prepare_state(path: &Path) -> Result<Flock<std::fs::File>, StartError> {
    let failed = |reason| StartError::StateFolder { path: path.into(), reason };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    stack_link::make_control_folder(path).map_err(failed)?;
    stack_link::make_control_folder(&path.join("control")).map_err(failed)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| StartError::SecondInstance { path: path.into() })
}

/// How each stack is started; what is missing is found now rather than later.
fn launches(config: &Config) -> Result<Vec<Launch>, StartError> {
    let launch = |s: &StackEntry| {
        let control = config.state_dir.join("control").join(format!("{}.sock", s.name));
        if control.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(StartError::PathTooLong { path: control });
        }
        let launch = Launch {
            stackd: s.stackd.clone(),
            name: s.name.as_str().into(),
            netns: s.netns.clone(),
            control,
        };
        launch.check()?;
        Ok(launch)
    };
    config.stacks.iter().map(launch).collect()
}

/// An engine with randomness of its own, seeded by the system.
fn engine(_: &StackEntry, now: Instant) -> Engine {
    let rng = rand::rngs::StdRng::try_from_rng(&mut rand::rngs::SysRng)
        .expect("Linux gives random numbers once it has booted");
    Engine::new(Settings::default(), rng, now)
}

fn start_keeper(
    config: &Config,
    reports: mpsc::Sender<Report>,
    tasks: &TaskTracker,
) -> Result<Option<(mpsc::Sender<Order>, KeyInForce)>, StartError> {
    let Some(sysplex) = &config.sysplex else { return Ok(None) };
    let key = KeyInForce::from(SysplexKey::load(&sysplex.key_file)?);
    let (orders_tx, orders) = mpsc::channel(4096);
    let folder = cf_folder(config);
    let settings = KeeperSettings {
        name: sysplex.name.as_str().to_owned(),
        system: config.system.as_str().to_owned(),
        key: key.clone(),
        continued: config
            .dvipas
            .iter()
            .filter(|d| d.takeover != Takeover::Renegotiate)
            .map(|d| d.address)
            .collect(),
        clock: Box::new(boot_ns),
    };
    match sysplex.facility {
        Facility::Sled => {
            let open = move || {
                let folder = folder.clone();
                async move {
                    let open = tokio::task::spawn_blocking(move || Embedded::open(&folder));
                    open.await.map_err(|e| CfError::Store(e.to_string()))?
                }
            };
            tasks.spawn(Keeper::new(open, settings, reports).run(orders));
        }
        #[cfg(feature = "etcd")]
        Facility::Etcd => {
            let etcd = etcd(sysplex).map_err(|e| StartError::System(e.to_string()))?;
            let open = move || std::future::ready(Ok(etcd.clone()));
            tasks.spawn(Keeper::new(open, settings, reports).run(orders));
        }
        #[cfg(not(feature = "etcd"))]
        Facility::Etcd => return Err(StartError::System("this iked was built without etcd".into())),
    }
    Ok(Some((orders_tx, key)))
}

/// The cluster that keeps the coupling facility.
///
/// # Errors
/// Its certificates or its key are of no use.
#[cfg(feature = "etcd")]
pub fn etcd(sysplex: &crate::config::Sysplex) -> Result<crate::cf::etcd::Etcd, crate::cf::etcd::EtcdError> {
    let config = sysplex.etcd.as_ref().expect("a checked configuration with etcd says where it is");
    crate::cf::etcd::Etcd::new(config)
}

/// Reads the key file again; `None`: the key stays as it is.
fn next_key(config: &Config, key: Option<&KeyInForce>) -> Option<SysplexKey> {
    let (sysplex, before) = (config.sysplex.as_ref()?, key?.get());
    match SysplexKey::load_next(&sysplex.key_file, &before) {
        Ok(next) => (next != *before).then_some(next),
        Err(e) => {
            error!("sysplex key not changed: {e}");
            None
        }
    }
}

/// Where the embedded coupling facility lives.
#[must_use]
pub fn cf_folder(config: &Config) -> PathBuf {
    config.state_dir.join("cf")
}
