//! The management interface under load: very many tunnels, each negotiated, and as many clients as are served.
//!
//! ```text
//!   PEER: 500 IKE engines ── IKE ──► DIST ── control socket ──► iked ◄── NMI ── one client, then 50
//! ```

use crate::lab::Lab;
use crate::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use crate::peers::{PREFIX, Peers};
use crate::policy::{Pair, policy};
use crate::say;
use crate::scenario::{Options, PEER4, stack_table};
use crate::wait::{now, until};
use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use nmi_proto::answer::request;
use nmi_proto::client::Client;
use nmi_proto::code::{MessageType, SaState};
use nmi_proto::text::CodePage;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Child SAs of one peer; an engine takes 256 of a peer.
const CHILDREN: u16 = 200;
/// The address that the peers negotiate with.
const HOME: &str = "198.51.100.1";
const STACK: &str = "DIST";
/// Clients that are served at a time.
const CLIENTS: usize = 50;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Resident memory of a process in MiB: now, and the most since [`forget_peak`].
fn memory(pid: Pid) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).context("no such field")?;
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    };
    Ok((field("VmRSS")?, field("VmHWM")?))
}

fn forget_peak(pid: Pid) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// One number of many, at a share of them.
fn at(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index below the number of samples"
    )]
    let index = ((sorted.len() as f64 - 1.0) * share) as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// Loads `tunnels` dynamic tunnels and measures for `each` at a time; prints what it finds.
///
/// # Errors
/// When a tunnel or a record is missing, or is not what it should be.
pub fn measure(tunnels: u32, each: Duration) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "needs root for namespaces");
    let peers = tunnels.div_ceil(CHILDREN.into());
    let tunnels = peers * u32::from(CHILDREN);
    let mut lab = Lab::new("nmiload")?;
    let daemon = start(&mut lab)?;
    let pid = daemon.pid();
    let (empty, _) = memory(pid)?;
    let begun = now();
    let home: Ipv4Addr = HOME.parse()?;
    let loaded = Peers::start_wide(&lab, "PEER", peers as usize, home, CHILDREN)?;
    let mut nmi = Client::connect(daemon.socket(), Some(PATIENCE))?;
    until("all tunnels negotiated", Duration::from_secs(1800), || {
        let sum = nmi.summary(STACK)?;
        ensure!(sum.phase2_active == tunnels, "{} of {tunnels}", sum.phase2_active);
        Ok(())
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let (full, _) = memory(pid)?;
    say(&format!(
        "{tunnels} dynamic tunnels of {peers} peers negotiated in {seconds:.1} s; iked {empty:.0} MiB empty, {full:.0} MiB with them"
    ));

    forget_peak(pid)?;
    let begun = now();
    check_all(&mut nmi, tunnels)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (_, peak) = memory(pid)?;
    say(&format!(
        "all of them in one answer, every record read and checked: {seconds:.2} s, peak {:.0} MiB above idle",
        peak - full
    ));
    drop(nmi);

    for kind in [MessageType::GET_STACKINFO, MessageType::GET_SUMMARY] {
        let rate = rate(daemon.socket().as_path(), kind, each)?;
        say(&format!("{kind}: {rate:.0} requests/s with {CLIENTS} clients"));
    }

    forget_peak(pid)?;
    let (mut waits, answers) = summary_beside_readers(daemon.socket().as_path(), each * 3)?;
    waits.sort_unstable();
    let (_, peak) = memory(pid)?;
    let ms = |share| at(&waits, share).as_secs_f64() * 1000.0;
    say(&format!(
        "GET_SUMMARY while {} others read everything ({answers} whole answers, {} samples): median {:.0} ms, p99 {:.0} ms, most {:.0} ms; peak {:.0} MiB above idle",
        CLIENTS - 1,
        waits.len(),
        ms(0.5),
        ms(0.99),
        ms(1.0),
        peak - full
    ));
    drop(loaded.finish()?);
    Ok(())
}

/// A stack with one protected address, and no coupling facility.
fn start(lab: &mut Lab) -> Result<Daemon> {
    lab.node("PEER")?;
    lab.join("PEER", "ext", 11)?;
    lab.node(STACK)?;
    lab.join(STACK, "ext", 1)?;
    let mut toml = String::from("[ike]\nudp_encapsulation = \"always\"\n\n");
    stack_table(&mut toml, lab, STACK, "[\"ext\"]", None, &format!("[\"{HOME}\"]"), None);
    let pairs = [Pair { name: "many", local: HOME, remote: PREFIX, start: "" }];
    // Nothing is rekeyed and nobody is probed while it is measured.
    let options = Options { liveness_secs: 3600, child_minutes: 480, ..Options::default() };
    let files =
        Files { stacks: toml, policy: policy(&pairs, &options), servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    let daemon = Daemon::start(lab, "SYSA", &files, &[STACK])?;
    lab.ip("PEER", &format!("route add {HOME}/32 via 192.0.2.1 dev ext"))?;
    lab.ip(STACK, &format!("route add {PREFIX} via {PEER4} dev ext"))?;
    Ok(daemon)
}

/// Reads every tunnel in one answer and looks at every record.
fn check_all(nmi: &mut Client, tunnels: u32) -> Result<()> {
    let answer = nmi.dynamic_tunnels(STACK, &[])?;
    ensure!(answer.total == tunnels, "{} of {tunnels}", answer.total);
    let (mut ids, mut spis) = (BTreeSet::new(), BTreeSet::new());
    let home: Ipv4Addr = HOME.parse()?;
    for r in &answer.records {
        let (t, d) = (&r.tunnel, &r.dynamic);
        ensure!(ids.insert(t.id.as_str()), "{} twice", t.id);
        ensure!(t.in_encryption_spi != 0 && spis.insert(t.in_encryption_spi), "SPI of {}", t.id);
        ensure!(t.out_encryption_spi != 0 && t.state == SaState::ACTIVE, "{}: {:?}", t.id, t.state);
        ensure!(t.local_endpoint.ip(false) == home, "{}: {:?}", t.id, t.local_endpoint);
        let own_port = d.protocol == 17 && d.remote_port_low == d.remote_port_high;
        ensure!(own_port, "{}: {} {}-{}", t.id, d.protocol, d.remote_port_low, d.remote_port_high);
    }
    ensure!(ids.len() == tunnels as usize, "{} records", ids.len());
    Ok(())
}

/// A connection that has had its INIT and reads answers without looking into them.
struct Raw(UnixStream);

impl Raw {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut raw = Self(stream);
        raw.answer()?;
        Ok(raw)
    }

    fn ask(&mut self, kind: MessageType) -> Result<u64> {
        let target = if kind == MessageType::GET_STACKINFO { "" } else { STACK };
        self.0.write_all(&request(CodePage::Ascii, kind, target, 1, &[]))?;
        self.answer()
    }

    /// Takes one message; gives its length.
    fn answer(&mut self) -> Result<u64> {
        let mut head = [0; 96];
        self.0.read_exact(&mut head)?;
        let word = |at: usize| head[at..at + 4].iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        ensure!(word(28) == 0, "refused with {}", word(28));
        let mut left = u64::from(word(12)).saturating_sub(96);
        let mut chunk = vec![0; 256 << 10];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let n = self.0.read(&mut chunk[..most])? as u64;
            ensure!(n > 0, "the daemon closed in the middle of an answer");
            left -= n;
        }
        Ok(word(12).into())
    }
}

/// Requests a second of all clients together.
fn rate(socket: &Path, kind: MessageType, each: Duration) -> Result<f64> {
    let served = AtomicU64::new(0);
    let begun = now();
    let end = begun + each;
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut raw = Raw::connect(socket)?;
                    while now() < end {
                        raw.ask(kind)?;
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|c| c.join().expect("no client panics"))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let served = served.load(Ordering::Relaxed) as f64;
    Ok(served / begun.elapsed().as_secs_f64())
}

/// Waits of one client for a summary while all others read every tunnel; and how many answers those had.
fn summary_beside_readers(socket: &Path, each: Duration) -> Result<(Vec<Duration>, u64)> {
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (1..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut raw = Raw::connect(socket)?;
                    while !stop.load(Ordering::Relaxed) {
                        raw.ask(MessageType::GET_IPTUNDYNSTACK)?;
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let waits = summaries(socket, now() + each);
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().try_for_each(|r| r.join().expect("no client panics"))?;
        Ok((waits?, answers.load(Ordering::Relaxed)))
    })
}

fn summaries(socket: &Path, end: Instant) -> Result<Vec<Duration>> {
    let mut raw = Raw::connect(socket)?;
    let mut waits = Vec::new();
    while now() < end {
        let asked = now();
        raw.ask(MessageType::GET_SUMMARY)?;
        waits.push(asked.elapsed());
    }
    Ok(waits)
}
