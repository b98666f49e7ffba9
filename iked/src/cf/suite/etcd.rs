//! A real etcd on loopback: one server for each test, with a data folder of its own, that can be killed, stopped,
//! started again and set back to an older state; plain, with TLS and with client certificates.

use super::super::etcd::{Etcd, EtcdError};
use super::super::fence::Record;
use super::super::fence::{FenceError, Sysplex};
use super::super::keeper::{Keeper, Order, Report, Settings};
use super::super::order::{AliveSeen, Expected};
use super::super::record::tests::{phase1, phase2};
use super::super::record::{Alive, Member, Owner, RecordId, Secret};
use super::super::seal::SysplexKey;
use super::super::{CfError, CouplingFacility, RecordKey};
use super::{Store, put, unconditional};
use crate::config::Etcd as Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const KEY: SysplexKey = SysplexKey::new([7; 32]);
/// How long a busy machine may take for what is quick.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server.
pub(in crate::cf) struct Server {
    dir: tempfile::TempDir,
    url: String,
    arguments: Vec<String>,
    config: Config,
    process: Option<Child>,
}

impl Server {
    /// One without TLS; `None` if etcd is not installed.
    pub(in crate::cf) async fn plain() -> Option<Self> {
        let server = Self::make("http", |_, _| {})?;
        server.ready().await;
        Some(server)
    }

    /// A way to it.
    pub(in crate::cf) fn facility(&self) -> Etcd {
        Etcd::new(&self.config).unwrap()
    }

    fn make(scheme: &str, configure: impl FnOnce(&Path, &mut Self)) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("etcd is not installed: a test is left out");
            return None;
        }
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://127.0.0.1:{}", port());
        let peer = format!("http://127.0.0.1:{}", port());
        let arguments =
            ["--name", "a", "--logger", "zap", "--log-level", "error", "--listen-client-urls", &url]
                .into_iter()
                .chain(["--advertise-client-urls", &url, "--listen-peer-urls", &peer])
                .chain(["--initial-advertise-peer-urls", &peer, "--initial-cluster"])
                .map(str::to_owned)
                .chain([format!("a={peer}")])
                .collect();
        let config = Config { endpoints: vec![url.clone()], ca: None, identity: None };
        let path = dir.path().to_owned();
        let mut server = Self { dir, url, arguments, config, process: None };
        configure(&path, &mut server);
        server.start();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new("etcd");
        command.args(&self.arguments).arg("--data-dir").arg(self.data());
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    async fn ready(&self) {
        let limit = Instant::now() + PATIENCE;
        while let Err(e) = timeout(Duration::from_secs(2), self.facility().get("/")).await.unwrap_or(Ok(None))
        {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < limit, "{e}\n{}", log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Store for Server {
    type Facility = Etcd;

    async fn new() -> Option<Self> {
        Self::plain().await
    }

    fn facility(&self) -> Etcd {
        Self::facility(self)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A certificate authority and what it signed.
struct Pki {
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { authority: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Writes `NAME-ca.pem`, `NAME.pem` and `NAME.key` for 127.0.0.1.
    fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf, PathBuf) {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.authority).unwrap();
        let paths =
            [format!("{name}-ca.pem"), format!("{name}.pem"), format!("{name}.key")].map(|f| dir.join(f));
        let texts = [self.authority.pem(), cert.pem(), key.serialize_pem()];
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let [ca, cert, key] = paths;
        (ca, cert, key)
    }
}

fn with_tls(server: &mut Server, ca: &Path, cert: &Path, key: &Path, clients: bool) {
    let mut argument = |name: &str, path: &Path| {
        server.arguments.extend([format!("--{name}"), path.to_str().unwrap().to_owned()]);
    };
    argument("cert-file", cert);
    argument("key-file", key);
    if clients {
        argument("trusted-ca-file", ca);
        server.arguments.push("--client-cert-auth".into());
    }
    server.config.ca = Some(ca.to_owned());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_tls_wants_a_server_that_the_authority_signed() {
    let pki = Pki::new();
    let server = Server::make("https", |dir, server| {
        let (ca, cert, key) = pki.write(dir, "server");
        with_tls(server, &ca, &cert, &key, false);
    });
    let Some(server) = server else { return };
    server.ready().await;
    server.facility().commit(unconditional(vec![put("/a", b"1")])).await.unwrap();
    let (other, ..) = Pki::new().write(server.dir.path(), "other");
    let wrong = Etcd::new(&Config { ca: Some(other), ..server.config.clone() }).unwrap();
    let e = wrong.get("/a").await.unwrap_err().to_string();
    assert!(e.contains("certificate"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_mutual_tls_wants_a_client_that_the_authority_signed() {
    let pki = Pki::new();
    let server = Server::make("https", |dir, server| {
        let (ca, cert, key) = pki.write(dir, "server");
        with_tls(server, &ca, &cert, &key, true);
        let (_, cert, key) = pki.write(dir, "client");
        server.config.identity = Some((cert, key));
    });
    let Some(server) = server else { return };
    server.ready().await;
    server.facility().commit(unconditional(vec![put("/a", b"1")])).await.unwrap();
    let nobody = Etcd::new(&Config { identity: None, ..server.config.clone() }).unwrap();
    assert!(timeout(Duration::from_secs(5), nobody.get("/a")).await.unwrap_or(Ok(None)).is_err());
    let (_, cert, key) = Pki::new().write(server.dir.path(), "stranger");
    let stranger = Etcd::new(&Config { identity: Some((cert, key)), ..server.config.clone() }).unwrap();
    assert!(timeout(Duration::from_secs(5), stranger.get("/a")).await.unwrap_or(Ok(None)).is_err());
}

#[test]
fn t27_a_private_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, cert, key) = Pki::new().write(dir.path(), "client");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config =
        Config { endpoints: vec!["https://127.0.0.1:1".into()], ca: Some(ca), identity: Some((cert, key)) };
    let Err(EtcdError::Key(e)) = Etcd::new(&config) else { panic!() };
    assert!(e.to_string().contains("mode 0644"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_of_several_endpoints_one_that_lives_is_found() {
    let Some(server) = Server::plain().await else { return };
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints = vec![format!("http://{dead}"), server.url.clone()];
    let etcd = Etcd::new(&Config { endpoints, ca: None, identity: None }).unwrap();
    let e = etcd.get("/a").await.unwrap_err().to_string();
    assert!(e.contains("Connection refused"), "{e}");
    etcd.get("/a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leased_record_goes_away_when_its_writer_does() {
    let Some(server) = Server::plain().await else { return };
    let plex = Sysplex::new(server.facility(), "PLEX1", KEY);
    let path = plex.paths().member("SYSA", "TCPCS1");
    plex.put_leased(path.clone(), Some(&member())).await.unwrap();
    let limit = Instant::now() + PATIENCE;
    while server.facility().get(&path).await.unwrap().is_some() {
        assert!(Instant::now() < limit);
        sleep(Duration::from_millis(200)).await;
    }
}

/// A daemon's keeper.
struct Host {
    orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Report>,
}

fn vip() -> IpAddr {
    "203.0.113.10".parse().unwrap()
}

fn member() -> Member {
    Member { xcf: None, start: 1, distributor: true, target: false }
}

impl Host {
    fn new(server: &Server, system: &str) -> Self {
        let (report_tx, reports) = mpsc::channel(4096);
        let (orders, rx) = mpsc::channel(64);
        let etcd = server.facility();
        let settings = Settings {
            name: "PLEX1".into(),
            system: system.into(),
            key: KEY.into(),
            continued: BTreeSet::from([vip()]),
            clock: Box::new(super::super::keeper::boot_ns),
        };
        let open = move || std::future::ready(Ok(etcd.clone()));
        tokio::spawn(Keeper::new(open, settings, report_tx).run(rx));
        Self { orders, reports }
    }

    async fn order(&self, order: Order) {
        self.orders.send(order).await.unwrap();
    }

    async fn serve(&self, lease: Duration) {
        self.order(Order::Serve { stack: "TCPCS1".into(), member: member(), lease: Some(lease) }).await;
    }

    async fn claim(&self, over: Option<AliveSeen>) {
        self.order(Order::Claim { dvipa: vip(), stack: "TCPCS1".into(), expected: Expected::Any, over })
            .await;
    }

    async fn until<T>(&mut self, what: &str, mut f: impl FnMut(Report) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = f(self.reports.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} never comes"))
    }

    async fn owned(&mut self) -> u64 {
        self.until("ownership", |r| if let Report::Owned { epoch, .. } = r { Some(epoch) } else { None })
            .await
    }

    async fn protected(&mut self, wanted: bool) {
        let is = |r| matches!(r, Report::Protected { protected, .. } if protected == wanted).then_some(());
        self.until("protection", is).await;
    }

    async fn raised(&mut self, wanted: u64) {
        self.order(Order::Ceiling { dvipa: vip(), highest: wanted }).await;
        let is = |r| matches!(r, Report::CeilingRaised { highest, .. } if highest == wanted).then_some(());
        self.until("the ceiling", is).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_etcd_killed_and_back() {
    let Some(mut server) = Server::plain().await else { return };
    let mut a = Host::new(&server, "SYSA");
    a.order(Order::Watch { dvipas: vec![vip()] }).await;
    a.serve(Duration::from_millis(500)).await;
    a.claim(None).await;
    assert_eq!(a.owned().await, 1);
    a.raised(100).await;
    server.kill();
    a.protected(false).await;
    a.order(Order::Ceiling { dvipa: vip(), highest: 200 }).await;
    server.start();
    a.until("the ceiling", |r| {
        matches!(r, Report::CeilingRaised { highest: 200, epoch: 1, .. }).then_some(())
    })
    .await;
    a.protected(true).await;
    a.until("a renewal", |r| matches!(r, Report::Renewed { .. }).then_some(())).await;
    // What others write is seen again too.
    let b = Host::new(&server, "SYSB");
    b.serve(Duration::from_millis(500)).await;
    a.until("the other one", |r| {
        matches!(r, Report::Alive { system, alive: Some(_), .. } if system == "SYSB").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_etcd_that_hangs_is_told_in_time_and_recovers() {
    let Some(server) = Server::plain().await else { return };
    let mut a = Host::new(&server, "SYSA");
    a.serve(Duration::from_millis(500)).await;
    a.claim(None).await;
    a.owned().await;
    a.until("a renewal", |r| matches!(r, Report::Renewed { .. }).then_some(())).await;
    server.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    a.protected(false).await;
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    server.signal(Signal::SIGCONT);
    a.protected(true).await;
    a.raised(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t47_a_backup_takes_over_from_a_stopped_owner_and_fences_it() {
    let Some(server) = Server::plain().await else { return };
    let (mut a, mut b) = (Host::new(&server, "SYSA"), Host::new(&server, "SYSB"));
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    a.serve(Duration::from_millis(500)).await;
    a.claim(None).await;
    a.owned().await;
    a.order(Order::End { stack: "TCPCS1".into() }).await;
    let over = b
        .until("the end", |r| match r {
            Report::Alive { system, stack, revision, alive: Some(Alive { ended: true, .. }) } => {
                Some(AliveSeen { system, stack, revision })
            }
            _ => None,
        })
        .await;
    b.claim(Some(over.clone())).await;
    assert_eq!(b.owned().await, 2);
    let plex = Sysplex::new(server.facility(), "PLEX1", KEY);
    assert_eq!(plex.owner(vip()).await.unwrap().unwrap().0.system, "SYSB");
    a.order(Order::Ceiling { dvipa: vip(), highest: 9 }).await;
    a.until("the loss", |r| matches!(r, Report::Lost(_)).then_some(())).await;
    // The same proof once more.
    a.claim(Some(over)).await;
    a.until("a refusal", |r| matches!(r, Report::NotOwned { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t47_a_renewal_after_the_takeover_fails() {
    let Some(server) = Server::plain().await else { return };
    let plex = Sysplex::new(server.facility(), "PLEX1", KEY);
    let (fence, _) = plex.claim(vip(), "SYSA", "TCPCS1", &Expected::Any, None).await.unwrap();
    let alive = Alive { start: 1, count: 1, lease_ms: 100, ended: false };
    let fences = [fence];
    let super::super::Outcome::Committed(revision) =
        plex.renew("SYSA", "TCPCS1", &alive, &fences).await.unwrap()
    else {
        panic!()
    };
    let over = AliveSeen { system: "SYSA".into(), stack: "TCPCS1".into(), revision };
    // The claim and many renewals at once: after the claim none holds.
    let renewals = (0..20).map(|_| {
        let (plex, fences) = (Sysplex::new(server.facility(), "PLEX1", KEY), fences.clone());
        tokio::spawn(async move { plex.renew("SYSA", "TCPCS1", &alive, &fences).await.unwrap() })
    });
    let renewals: Vec<_> = renewals.collect();
    let other = Sysplex::new(server.facility(), "PLEX1", KEY);
    let claimed = other.claim(vip(), "SYSB", "BACKUP", &Expected::Any, Some(&over)).await;
    let mut held = Vec::new();
    for r in renewals {
        if let super::super::Outcome::Committed(r) = r.await.unwrap() {
            held.push(r);
        }
    }
    let (_, owner) = plex.owner(vip()).await.unwrap().unwrap();
    match claimed {
        Ok(_) => {
            assert!(held.iter().all(|r| *r < owner), "a renewal held after the claim: {held:?} {owner:?}")
        }
        Err(FenceError::NotOwned { .. }) => assert!(!held.is_empty(), "nobody won"),
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_etcd_restored_from_an_old_copy_is_noticed() {
    let Some(mut server) = Server::plain().await else { return };
    let (mut a, mut b) = (Host::new(&server, "SYSA"), Host::new(&server, "SYSB"));
    a.claim(None).await;
    a.owned().await;
    a.raised(100).await;
    // A copy of it at rest.
    server.kill();
    let backup = server.dir.path().join("backup");
    copy(&server.data(), &backup);
    server.start();
    server.ready().await;
    b.order(Order::Watch { dvipas: vec![vip()] }).await;
    a.claim(None).await;
    assert_eq!(a.owned().await, 2);
    a.raised(200).await;
    b.until("the owner", |r| {
        matches!(r, Report::OwnerIs { owner: Some(Owner { epoch: 2, .. }), .. }).then_some(())
    })
    .await;
    server.kill();
    std::fs::remove_dir_all(server.data()).unwrap();
    copy(&backup, &server.data());
    server.start();
    let found = b
        .until("the set-back", |r| match r {
            Report::StoreSetBack { seen, found, .. } => Some((seen.epoch, found.epoch)),
            _ => None,
        })
        .await;
    assert_eq!(found, (2, 1));
    a.order(Order::Ceiling { dvipa: vip(), highest: 300 }).await;
    a.until("the set-back", |r| matches!(r, Report::StoreSetBack { .. }).then_some(())).await;
    a.claim(None).await;
    let (epoch, set_back) = a
        .until("ownership", |r| match r {
            Report::Owned { epoch, left, .. } => Some((epoch, left.set_back)),
            _ => None,
        })
        .await;
    assert_eq!(epoch, 3);
    assert_eq!(set_back.unwrap().seen.ceiling, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t48_a_store_that_never_answers_costs_one_deadline() {
    // Somebody listens, takes the connection, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoints = vec![format!("http://{}", silent.local_addr().unwrap())];
    let plex =
        Sysplex::new(Etcd::new(&Config { endpoints, ca: None, identity: None }).unwrap(), "PLEX1", KEY);
    let begin = Instant::now();
    let Err(FenceError::Store(CfError::Timeout(_) | CfError::Store(_))) = plex.owner(vip()).await else {
        panic!()
    };
    assert!(begin.elapsed() < Duration::from_secs(10));
}

/// What a takeover waits for in the store; nothing is asserted of a busy machine but that it works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_and_a_claim_with_a_thousand_tunnels_are_timed() {
    let Some(server) = Server::plain().await else { return };
    let mut a = Host::new(&server, "SYSA");
    a.claim(None).await;
    a.owned().await;
    for n in 0..1000u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let id = RecordId(id);
        let p1 = Record::Phase1(Box::new(phase1()));
        let p2 = Record::Phase2(Box::new(phase2(id, n)));
        a.order(Order::Write { dvipa: vip(), key: RecordKey::Phase1(id), record: Some(p1) }).await;
        a.order(Order::Write { dvipa: vip(), key: RecordKey::Phase2(id), record: Some(p2) }).await;
        let keys = Some(Secret::new(vec![7; 1500]));
        a.order(Order::Keys { dvipa: vip(), id, keys, ticket: n.into() }).await;
    }
    let (mut written, mut stored) = (0, 0);
    a.until("the records", |r| {
        match r {
            Report::Written { keys, .. } => written += keys.len(),
            Report::KeysStored { tickets, .. } => stored += tickets.len(),
            _ => {}
        }
        (written >= 2000 && stored >= 1000).then_some(())
    })
    .await;
    let begin = Instant::now();
    a.claim(None).await;
    let (acquired, n) = a
        .until("ownership", |r| match r {
            Report::Owned { left, .. } => Some((left.acquired.unwrap(), left.phase2.len() + left.keys.len())),
            _ => None,
        })
        .await;
    assert_eq!(n, 2000);
    let acquired = acquired - begin.into_std();
    println!("claim of 1000 tunnels: owner record {acquired:?}, all {:?}", begin.elapsed());
    // By another one, which has watched them come.
    let mut b = Host::new(&server, "SYSB");
    b.order(Order::Backup { dvipa: vip(), rank: 1, stack: Some("TCPCS2".into()) }).await;
    let plex = Sysplex::new(server.facility(), "PLEX1", KEY);
    let path = plex.paths().backup(vip(), 1);
    while plex.get(&path).await.unwrap().is_none() {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(500)).await;
    a.order(Order::Release { dvipa: vip() }).await;
    a.until("the release", |r| matches!(r, Report::Released { .. }).then_some(())).await;
    let begin = Instant::now();
    b.claim(None).await;
    let (acquired, n) = b
        .until("ownership", |r| match r {
            Report::Owned { left, .. } => Some((left.acquired.unwrap(), left.phase2.len() + left.keys.len())),
            _ => None,
        })
        .await;
    assert_eq!(n, 2000);
    let (acquired, all) = (acquired - begin.into_std(), begin.elapsed());
    println!("claim of 1000 tunnels by a backup: owner record {acquired:?}, all {all:?}");
    let mut a = b;
    let lease = Duration::from_millis(100);
    a.serve(lease).await;
    a.until("a renewal", |r| matches!(r, Report::Renewed { .. }).then_some(())).await;
    let (begin, mut last, mut longest, mut count) = (Instant::now(), Instant::now(), Duration::ZERO, 0u32);
    while begin.elapsed() < Duration::from_secs(2) {
        a.until("a renewal", |r| matches!(r, Report::Renewed { .. }).then_some(())).await;
        longest = longest.max(last.elapsed());
        (last, count) = (Instant::now(), count + 1);
    }
    println!("lease of {lease:?}: {count} renewals in {:?}, longest gap {longest:?}", begin.elapsed());
    assert!(count > 0);
}
