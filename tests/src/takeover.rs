//! One takeover under traffic, measured: what `cargo demo -- takeover` shows and the tests assert.

use crate::capture::{Capture, Frames};
use crate::http::{Finished, PacedDownload};
use crate::lab::Lab;
use crate::meter::{self, Meter, Silence};
use crate::packet::Seen;
use crate::plex::{Facility, Mode, Plex, Shape, TARGETS, swan_peer};
use crate::random::Random;
use crate::scenario::{DVIPA4, PEER4, server};
use crate::swan::Swan;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What happens to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its `iked` and its `stackd`s are killed with `SIGKILL` (with sled: its `stackd`).
    System,
    /// Only its `stackd` is killed; its `iked` sees the end.
    Stack,
    /// An operator moves the DVIPA.
    Planned,
}

/// Who starts the SAs that the takeover finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// strongSwan.
    Peer,
    /// We.
    Own,
}

/// A takeover to be made.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The sysplex.
    pub shape: Shape,
    /// What happens.
    pub loss: Loss,
    /// Who started the SAs.
    pub initiator: Initiator,
    /// Downloads at the same time.
    pub downloads: usize,
    /// Bytes of each.
    pub length: u64,
    /// Bytes a second of each.
    pub rate: u64,
    /// Decides the moment.
    pub seed: u64,
}

impl Trial {
    /// As the demo does it: long enough for the takeover and what follows, slow enough that the machine has idle time.
    #[must_use]
    pub fn new(shape: Shape, loss: Loss, seed: u64) -> Self {
        Self { shape, loss, initiator: Initiator::Peer, downloads: 100, length: 480_000, rate: 48_000, seed }
    }
}

/// Inbound and outbound SPI of each child of the peer.
pub type Spis = Vec<(u32, u32)>;

/// What was seen.
#[derive(Debug)]
pub struct Report {
    /// From the loss to the first ESP packet of the new owner; `None`: there was none.
    pub first_esp: Option<Duration>,
    /// The datagram streams.
    pub silence: Silence,
    /// When the loss was made, on the meter's clock.
    pub lost_at: Duration,
    /// How the downloads ended.
    pub finished: Vec<Finished>,
    /// Packets of the DVIPA or the peer that were in clear on the network.
    pub clear: usize,
    /// The takeover as the new owner tells it.
    pub history: Value,
    /// Inbound and outbound SPI of the peer's children before and after.
    pub spis: (Spis, Spis),
    /// Evidence.
    pub network: Frames,
    /// What the stacks dropped, and what the daemons said, the last lines of each.
    pub logs: String,
}

/// Lines of each daemon's log that a report keeps: enough for a takeover and what led to it.
const LOG_LINES: usize = 120;

impl Report {
    /// Downloads that failed.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.finished.iter().filter(|f| f.error.is_some()).count()
    }

    /// The longest stall of a download.
    #[must_use]
    pub fn stall(&self) -> Duration {
        self.finished.iter().map(|f| f.stall).max().unwrap_or_default()
    }

    /// Silence to the DVIPA and from it.
    #[must_use]
    pub fn silences(&self) -> (Duration, Duration) {
        (self.silence.to_server.silence(self.lost_at), self.silence.to_client.silence(self.lost_at))
    }

    /// The figures, a line each.
    #[must_use]
    pub fn text(&self, trial: &Trial) -> String {
        let mut text = String::new();
        let (inbound, outbound) = self.silences();
        let first = self.first_esp.map_or_else(|| "never".to_owned(), ms);
        let lost = |s: &meter::Stream| format!("{} of {}", s.missing_since(self.lost_at), s.sent);
        let _ = writeln!(text, "loss to first ESP of the new owner   {first}");
        let _ = writeln!(text, "silence to the DVIPA, from it        {}, {}", ms(inbound), ms(outbound));
        let _ = writeln!(
            text,
            "datagrams lost to it, from it        {}, {}",
            lost(&self.silence.to_server),
            lost(&self.silence.to_client)
        );
        let _ = writeln!(text, "longest stall of a connection        {}", ms(self.stall()));
        text += &steps(&self.history);
        for failed in self.finished.iter().filter(|f| f.error.is_some()).take(5) {
            let _ = writeln!(text, "lost: {} {}", failed.server, failed.error.as_deref().unwrap_or_default());
        }
        let lease = match trial.shape.facility {
            Facility::Etcd => format!("etcd, lease {} ms", trial.shape.lease_ms),
            Facility::Sled => "sled, only the distributor's stackd".to_owned(),
        };
        let what = match trial.loss {
            Loss::System => "killed",
            Loss::Stack => "stack killed",
            Loss::Planned => "planned",
        };
        let _ = write!(
            text,
            "takeover: {} downloads, {} lost, {} clear packets, silence {} and {} ({what}, {}, {lease})",
            self.finished.len(),
            self.lost(),
            self.clear,
            ms(inbound),
            ms(outbound),
            trial.shape.mode.word(),
        );
        text
    }

    /// What must hold whatever the machine: nothing lost, nothing in clear, and it happened at all.
    ///
    /// # Errors
    /// When it does not; the logs are part of the error.
    pub fn judge(&self) -> Result<()> {
        self.holds().with_context(|| self.logs.clone())
    }

    fn holds(&self) -> Result<()> {
        ensure!(self.first_esp.is_some(), "the new owner never sent ESP");
        let failed: Vec<&str> = self.finished.iter().filter_map(|f| f.error.as_deref()).collect();
        ensure!(failed.is_empty(), "{} connections lost: {:?}", failed.len(), &failed[..failed.len().min(3)]);
        ensure!(self.clear == 0, "{} clear packets on the network: {:?}", self.clear, self.network.file);
        ensure!(self.network.count(Seen::is_esp) > 0, "the capture saw no ESP: it proves nothing");
        Ok(())
    }
}

/// A duration in milliseconds, as people read it.
#[must_use]
pub fn ms(d: Duration) -> String {
    if d == Duration::MAX { "for ever".to_owned() } else { format!("{:.1} ms", d.as_secs_f64() * 1e3) }
}

/// A sysplex with its peer, SAs made, and traffic of both kinds through them.
#[derive(Debug)]
pub struct Running {
    /// The silence meter.
    pub meter: Meter,
    /// The downloads.
    pub downloads: Vec<PacedDownload>,
    /// strongSwan.
    pub peer: Swan,
    /// The sysplex.
    pub plex: Plex,
}

impl Running {
    /// Starts everything; all downloads have begun when it returns.
    ///
    /// # Errors
    /// When anything does not come up.
    pub fn start(lab: &mut Lab, trial: &Trial) -> Result<Self> {
        let plex = Plex::start(lab, trial.shape.clone())?;
        let peer = swan_peer(lab)?;
        establish(&plex, &peer, trial.initiator)?;
        let targets: Vec<String> = TARGETS.iter().map(|t| t.0.to_owned()).collect();
        let meter = Meter::start(lab, "PEER", SocketAddr::new(server(false).ip(), meter::PORT), &targets)
            .with_context(|| plex.logs())?;
        let job = (trial.downloads, trial.length, trial.rate);
        // Three times what an undisturbed one takes.
        let limit = Duration::from_secs(30 + 2 * trial.length / trial.rate.max(1));
        let downloads = PacedDownload::start(lab, "PEER", server(false), job, limit)?;
        crate::wait::until("the downloads", Duration::from_secs(20), || {
            let begun = downloads.iter().filter(|d| d.watch.bytes.load(Ordering::Relaxed) > 0).count();
            ensure!(begun == downloads.len(), "{begun} of {} have begun", downloads.len());
            Ok(())
        })?;
        Ok(Self { meter, downloads, peer, plex })
    }
}

/// Makes the SAs between the peer and the DVIPA.
///
/// # Errors
/// When they do not come.
pub fn establish(plex: &Plex, peer: &Swan, initiator: Initiator) -> Result<()> {
    match initiator {
        Initiator::Peer => peer.initiate("v4").with_context(|| plex.logs())?,
        Initiator::Own => {
            plex.of("DIST")?.ipsec("-p DIST -y activate -l toPeer")?;
        }
    }
    plex.tunnel("DIST").map(drop)
}

/// Makes the loss; gives when, on both clocks.
///
/// # Errors
/// When it cannot be made.
pub fn lose(plex: &mut Plex, loss: Loss) -> Result<(Duration, Instant)> {
    let only_stack = loss == Loss::Stack || plex.shape.facility == Facility::Sled;
    let at = (meter::realtime(), crate::wait::now());
    match loss {
        Loss::Planned => {
            plex.of("DIST")?.ipsec(&format!("-p DIST vipa move {DVIPA4} --to BACK"))?;
        }
        Loss::System | Loss::Stack if only_stack => {
            let pid = plex.of("DIST")?.stack_pid("DIST")?;
            let at = (meter::realtime(), crate::wait::now());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
            return Ok(at);
        }
        Loss::System | Loss::Stack => plex.of_mut("DIST")?.crash(),
    }
    Ok(at)
}

/// Makes one takeover and says what was seen.
///
/// # Errors
/// When the scenario does not come up, or the takeover leaves no trace.
pub fn run(lab: &mut Lab, trial: &Trial, tell: impl Fn(&str)) -> Result<Report> {
    let mut running = Running::start(lab, trial)?;
    let nodes = ["PEER", "DIST", "BACK", "TGT1", "TGT2", "TGT3"];
    let captures = nodes.map(|n| Capture::start(lab, n, "ext")).into_iter().collect::<Result<Vec<_>>>()?;
    let before = running.peer.spis()?;
    let settle = Random::new(trial.seed).between(Duration::from_millis(300), Duration::from_millis(2300));
    tell(&format!("{} downloads run; the loss comes after {}", trial.downloads, ms(settle)));
    meter::pause_until(crate::wait::now() + settle);
    let (lost_at, lost_instant) = lose(&mut running.plex, trial.loss)?;

    let finished = running.downloads.into_iter().map(PacedDownload::finish).collect::<Result<Vec<_>>>()?;
    // Late in a slow case: what the last datagrams say belongs to the silence.
    let heard = || running.meter.so_far().to_client.arrived.last().map_or(Duration::ZERO, |a| a.1);
    let now = meter::realtime();
    let _ = crate::wait::until("datagrams after the downloads", Duration::from_secs(5), || {
        ensure!(heard() > now, "silent");
        Ok(())
    });
    let silence = running.meter.finish()?;
    let history = new_owner(&running.plex);
    let after = running.peer.spis()?;
    let frames = captures.into_iter().map(Capture::finish).collect::<Result<Vec<_>>>()?;
    let owner = lab.mac("BACK", "ext")?;
    let network = frames.into_iter();
    let (dvipa, peer): (IpAddr, IpAddr) = (DVIPA4.parse()?, PEER4.parse()?);
    let (mut clear, mut kept) = (0, None);
    for one in network {
        clear += one.count(|s| s.is_clear_of(dvipa) || s.is_clear_of(peer));
        kept.get_or_insert(one);
    }
    let network = kept.context("six captures")?;
    let from_owner =
        |f: &&crate::packet::Frame| f.bytes.get(6..12) == Some(&owner[..]) && f.at >= lost_instant;
    let first_esp = network.matching(Seen::is_esp).find(from_owner).map(|f| f.at - lost_instant);
    let logs = running.plex.drops() + &running.plex.last_of_logs(LOG_LINES);
    let history = history.with_context(|| logs.clone())?;
    Ok(Report { first_esp, silence, lost_at, finished, clear, history, spis: (before, after), network, logs })
}

/// Steps of a takeover, a line each: when it began and how long it took.
#[must_use]
pub fn steps(history: &Value) -> String {
    let micros = |v: &Value| Duration::from_micros(v.as_u64().unwrap_or_default());
    let mut text = String::new();
    for step in history["Steps"].as_array().into_iter().flatten() {
        let name = step["Step"].as_str().unwrap_or_default();
        let (begin, took) = (micros(&step["Begin"]), micros(&step["Duration"]));
        let _ = writeln!(text, "  {name:12} at {:>9}  took {:>9}", ms(begin), ms(took));
    }
    text
}

/// The latest takeover of the DVIPA as BACK tells it.
///
/// # Errors
/// When it tells of none.
pub fn new_owner(plex: &Plex) -> Result<Value> {
    crate::wait::until("the takeover in the history", Duration::from_secs(20), || {
        let all = plex.of("BACK")?.entries(&format!("-p BACK vipa history {DVIPA4}"))?;
        all.into_iter().find(|t| t["To"] == "BACK").context("no takeover by BACK")
    })
}

/// The goal for the silence of a takeover of one peer.
#[must_use]
pub fn goal(trial: &Trial) -> Duration {
    let lease = Duration::from_millis(trial.shape.lease_ms.into());
    let renegotiate = match trial.shape.mode {
        Mode::Renegotiate => Duration::from_millis(100),
        Mode::Continue => Duration::ZERO,
    };
    let seen = Duration::from_millis(50);
    renegotiate
        + match (trial.loss, trial.shape.facility) {
            (Loss::Planned, _) => Duration::from_millis(20),
            (Loss::Stack, _) | (Loss::System, Facility::Sled) => seen,
            (Loss::System, Facility::Etcd) => lease + lease / 4 + seen,
        }
}
