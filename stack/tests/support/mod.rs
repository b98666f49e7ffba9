//! Hosts in network namespaces, a real `stackd` and its control socket, and captures: what the tests need of the
//! system.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};
use nix::unistd::Pid;
use stack::control::*;
use stack::framing::{self, Decoder};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Set in the copy of the test that runs inside of a user namespace.
const INSIDE: &str = "STACK_TEST_INSIDE";

/// Whether the test can go on here. Without root it runs a copy of itself where it is root of a user namespace; where
/// that is forbidden, too, it says so and is skipped.
pub(crate) fn privileged(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os(INSIDE).is_none(), "not root inside of the user namespace");
    let unshare = |arguments: &[&str]| {
        let mut c = Command::new("unshare");
        c.args(["--user", "--map-root-user", "--net", "--mount", "--"]).args(arguments);
        c
    };
    let allowed = unshare(&["true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !allowed {
        eprintln!(
            "SKIPPED {test}: neither root nor allowed to make user namespaces (sysctl kernel.unprivileged_userns_clone)"
        );
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs none /run && exec \"$0\" \"$@\"";
    let status = unshare(&["sh", "-c", script])
        .arg(own)
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside of a user namespace");
    false
}

pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tests against a real kernel")]
    Instant::now()
}

/// Waits for a condition; no test sleeps a fixed time.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + Duration::from_secs(15);
    while !holds() {
        assert!(now() < deadline, "not within 15 seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    try_run(program, arguments).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn try_run(program: &str, arguments: &str) -> Result<String, String> {
    let out = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        Ok(text)
    } else {
        Err(format!("{program} {arguments}: {}", String::from_utf8_lossy(&out.stderr)))
    }
}

/// Namespaces on two segments.
///
/// ```text
///   peer .11    dist .1     tgt .21
///  ==+===========+===========+====== ext 192.0.2.0/24, 2001:db8:2::/64
///                |           |
///               =+===========+====== xcf 10.99.0.0/24
/// ```
pub(crate) struct Net {
    prefix: String,
    names: Vec<String>,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) const SEGMENTS: [&str; 2] = ["ext", "xcf"];

impl Net {
    pub(crate) fn new(test: &str, nodes: &[(&str, u8, bool)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut net = Self { prefix: format!("{test}{}", std::process::id()), names: vec![], dir };
        net.add("sw");
        for segment in SEGMENTS {
            net.ip(
                "sw",
                &format!("link add {segment} type bridge stp_state 0 mcast_snooping 0 forward_delay 0"),
            );
            net.ip("sw", &format!("link set {segment} up"));
        }
        for (name, host, on_xcf) in nodes {
            net.add(name);
            net.sysctl(name, "net/ipv6/conf/default/accept_dad", "0");
            net.sysctl(name, "net/ipv6/conf/all/accept_dad", "0");
            net.ip(name, "link set lo up");
            net.join(name, "ext", *host);
            if *on_xcf {
                net.join(name, "xcf", *host);
            }
        }
        net
    }

    /// Adds two nodes that are joined directly.
    pub(crate) fn back_to_back(mut self, a: &str, b: &str) -> Self {
        for name in [a, b] {
            self.add(name);
            self.ip(name, "link set lo up");
        }
        let (na, nb) = (self.namespace(a), self.namespace(b));
        run("ip", &format!("-n {na} link add ext type veth peer name ext netns {nb}"));
        for (name, host) in [(a, 1), (b, 2)] {
            self.ip(name, &format!("addr add 192.0.2.{host}/24 dev ext"));
            self.ip(name, "link set ext up");
        }
        self
    }

    fn add(&mut self, name: &str) {
        run("ip", &format!("netns add {}-{name}", self.prefix));
        self.names.push(name.to_owned());
    }

    fn join(&self, name: &str, segment: &str, host: u8) {
        let (node, sw) = (self.namespace(name), self.namespace("sw"));
        run("ip", &format!("-n {sw} link add {segment}{host} type veth peer name {segment} netns {node}"));
        self.ip("sw", &format!("link set {segment}{host} master {segment} up"));
        let (v4, v6) = match segment {
            "ext" => (format!("192.0.2.{host}/24"), format!("2001:db8:2::{host}/64")),
            _ => (format!("10.99.0.{host}/24"), format!("fd00:99::{host}/64")),
        };
        self.ip(name, &format!("addr add {v4} dev {segment}"));
        self.ip(name, &format!("addr add {v6} dev {segment} nodad"));
        self.ip(name, &format!("link set {segment} up"));
    }

    pub(crate) fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn ip(&self, name: &str, arguments: &str) -> String {
        run("ip", &format!("-n {} {arguments}", self.namespace(name)))
    }

    pub(crate) fn sysctl(&self, name: &str, path: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{path}"), value.to_owned());
        self.inside(name, move || std::fs::write(&path, value).unwrap());
    }

    pub(crate) fn read_sysctl(&self, name: &str, path: &str) -> String {
        let path = format!("/proc/sys/{path}");
        self.inside(name, move || std::fs::read_to_string(path).unwrap().trim().to_owned())
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.namespace(name))).unwrap();
        std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Runs `work` on a thread that lives in the node's network.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self.spawn(name, work).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// What the stack changes, as text.
    pub(crate) fn state(&self, name: &str) -> String {
        let mut text = String::new();
        for family in ["-4", "-6"] {
            for what in ["rule", "addr show dev lo", "route show table 100", "neigh show proxy"] {
                // A table that does not exist is an error, and as good as an empty one.
                let line = format!("-n {} {family} {what}", self.namespace(name));
                text += &format!("{family} {what}\n{}", try_run("ip", &line).unwrap_or_default());
            }
        }
        for path in SYSCTLS {
            text += &format!("{path} {}\n", self.read_sysctl(name, path));
        }
        text + &self.nft(name, "list ruleset")
    }

    pub(crate) fn nft(&self, name: &str, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.inside(name, move || run("nft", &arguments))
    }

    pub(crate) fn start(&self, node: &str, stack: &str) -> Stackd {
        let socket = self.dir.path().join(format!("{stack}.sock"));
        let log = self.dir.path().join(format!("{stack}.log"));
        let log = File::options().create(true).append(true).open(&log).unwrap();
        // Another build of it, for measurements.
        let program = std::env::var_os("STACKD").unwrap_or_else(|| env!("CARGO_BIN_EXE_stackd").into());
        let child = Command::new(program)
            .args(["--name", stack, "--netns", &self.namespace(node), "--control"])
            .arg(&socket)
            .stderr(log)
            .spawn()
            .unwrap();
        Stackd { child, socket, log: self.dir.path().join(format!("{stack}.log")) }
    }
}

const SYSCTLS: [&str; 16] = [
    "net/ipv4/ip_forward",
    "net/ipv4/ip_early_demux",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/ext/rp_filter",
    "net/ipv4/conf/xcf/rp_filter",
    "net/ipv4/conf/ext/forwarding",
    "net/ipv4/neigh/ext/proxy_delay",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/ext/forwarding",
    "net/ipv6/conf/ext/accept_ra",
    "net/ipv6/conf/all/proxy_ndp",
    "net/ipv6/neigh/ext/proxy_delay",
    "net/ipv6/conf/default/forwarding",
];

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|e| e == "log") {
                    eprintln!(
                        "{}:\n{}",
                        entry.path().display(),
                        std::fs::read_to_string(entry.path()).unwrap_or_default()
                    );
                }
            }
        }
        for name in &self.names {
            let _ = try_run("ip", &format!("netns del {}", self.namespace(name)));
        }
    }
}

/// A running `stackd`.
pub(crate) struct Stackd {
    child: Child,
    socket: PathBuf,
    pub(crate) log: PathBuf,
}

impl Stackd {
    pub(crate) fn connect(&mut self) -> Iked {
        let mut stream = None;
        until("stackd listens", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "stackd ended ({status}):\n{}",
                    std::fs::read_to_string(&self.log).unwrap_or_default()
                );
            }
            stream = UnixStream::connect(&self.socket).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut iked =
            Iked { stream, decoder: Decoder::default(), aside: VecDeque::new(), id: 0, hello: None };
        let FromStack::Hello(hello) = iked.receive() else { panic!("Hello comes first") };
        iked.hello = Some(hello);
        iked
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn kill(&mut self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, which must be a success.
    pub(crate) fn ended(&mut self) {
        let mut status = None;
        until("stackd ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    pub(crate) fn terminate(&mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.ended();
    }
}

impl Drop for Stackd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end of a control socket.
pub(crate) struct Iked {
    stream: UnixStream,
    decoder: Decoder,
    aside: VecDeque<FromStack>,
    id: u64,
    pub(crate) hello: Option<Hello>,
}

impl Iked {
    pub(crate) fn send(&mut self, message: &ToStack) {
        let mut bytes = Vec::new();
        framing::encode(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn receive(&mut self) -> FromStack {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return message;
            }
            let mut bytes = [0; 65_536];
            let n = match self.stream.read(&mut bytes) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("stackd says nothing for 15 seconds"),
                Err(e) => panic!("control connection: {e}"),
            };
            assert!(n > 0, "stackd closed the connection");
            self.decoder.push(&bytes[..n]);
        }
    }

    /// Octets until the connection ends.
    pub(crate) fn read_to_end(&mut self, to: &mut Vec<u8>) -> usize {
        self.stream.read_to_end(to).unwrap()
    }

    /// The first message that `choose` wants; others are put aside.
    pub(crate) fn wait_for<T>(&mut self, mut choose: impl FnMut(&FromStack) -> Option<T>) -> T {
        if let Some(at) = self.aside.iter().position(|m| choose(m).is_some()) {
            let message = self.aside.remove(at).unwrap();
            return choose(&message).unwrap();
        }
        loop {
            let message = self.receive();
            if let Some(value) = choose(&message) {
                return value;
            }
            self.aside.push_back(message);
        }
    }

    pub(crate) fn configure(&mut self, config: &StackConfig) -> Vec<String> {
        self.try_configure(config).unwrap_or_else(|reason| panic!("{reason}"))
    }

    pub(crate) fn try_configure(&mut self, config: &StackConfig) -> Result<Vec<String>, String> {
        self.send(&ToStack::Configure(Box::new(config.clone())));
        self.wait_for(|m| match m {
            FromStack::Configured { warnings } => Some(Ok(warnings.clone())),
            FromStack::Refused { reason } => Some(Err(reason.clone())),
            _ => None,
        })
    }

    pub(crate) fn ask(&mut self, question: Question) -> Answer {
        self.id += 1;
        let wanted = self.id;
        self.send(&ToStack::Ask { id: wanted, question });
        self.wait_for(|m| match m {
            FromStack::Answer { id, answer } if *id == wanted => Some(answer.clone()),
            FromStack::Refused { reason } => panic!("{reason}"),
            _ => None,
        })
    }

    pub(crate) fn totals(&mut self) -> FilterTotals {
        let Answer::Summary(totals) = self.ask(Question::Summary) else { panic!("no summary") };
        totals
    }

    pub(crate) fn drops(&mut self, reason: &str) -> u64 {
        let Answer::Drops(drops) = self.ask(Question::Drops) else { panic!("no drops") };
        drops.iter().find(|d| d.reason == reason).map_or(0, |d| d.packets)
    }

    /// Filters take effect in order with whatever is asked afterwards.
    pub(crate) fn filters(&mut self, epoch: u64, rules: Vec<FilterRule>) {
        self.send(&ToStack::SetFilters(Box::new(FilterSet {
            epoch,
            policy: true,
            logging: false,
            predecap: false,
            log_implicit: false,
            implicit_icmp: false,
            rules,
        })));
        self.ask(Question::Summary);
    }
}

/// A pair of SAs between two hosts for all their traffic: tunnel mode, AES-GCM-128 in UDP, a key of its own for each SPI, under
/// the filters of [`everything`]. What a test asks otherwise it sets in it.
pub(crate) fn pair(local: IpAddr, remote: IpAddr, spi_in: u32, spi_out: u32) -> SaPair {
    let key = |spi: u32| KeyBytes((0..20u8).map(|i| i ^ spi.to_be_bytes()[3]).collect());
    let all =
        |a: IpAddr| Selector { addresses: AddressRange::single(a), protocol: None, ports: PortRange::ANY };
    SaPair {
        tunnel: 1,
        generation: 1,
        ike_tunnel: 1,
        spi_in,
        spi_out,
        local,
        remote,
        udp: Some((4500, 4500)),
        mode: Mode::Tunnel,
        suite: EspSuite::AesGcm16 { key_bits: 128 },
        key_in: key(spi_in),
        key_out: key(spi_out),
        esn: false,
        replay_window: 128,
        local_selectors: vec![all(local)],
        remote_selectors: vec![all(remote)],
        rule: "Everything".into(),
        outbound_active: true,
        df: DfMode::Copy,
        copy_dscp: true,
        soft_bytes: None,
        hard_bytes: None,
        ceiling_of: None,
        continued: None,
    }
}

/// Both directions of everything, of one family.
pub(crate) fn everything(v6: bool, action: FilterAction) -> Vec<FilterRule> {
    let any = if v6 { AddressRange::ANY_V6 } else { AddressRange::ANY_V4 };
    [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .zip(1..)
        .map(|(direction, extension)| FilterRule {
            scope: Scope::Either,
            ..FilterRule::new("Everything", extension, direction, any, any, action)
        })
        .collect()
}

/// One frame, as some interface saw it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) at: Instant,
    pub(crate) interface: String,
    pub(crate) outgoing: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Everything that passes the interfaces of a node, from its start to its end.
pub(crate) struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    pub(crate) fn start(net: &Net, node: &str) -> Self {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (to, end) = (frames.clone(), stop.clone());
        let (ready, wait) = std::sync::mpsc::channel();
        let thread = net.spawn(node, move || {
            let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll)
                .unwrap();
            nix::sys::socket::setsockopt(
                &fd,
                nix::sys::socket::sockopt::ReceiveTimeout,
                &nix::sys::time::TimeVal::new(0, 20_000),
            )
            .unwrap();
            ready.send(()).unwrap();
            let mut buffer = vec![0; 70_000];
            while !end.load(Ordering::Relaxed) {
                let Ok((n, Some(from))) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) else { continue };
                let Ok(index) = u32::try_from(from.ifindex()) else { continue };
                let interface = nix::net::if_::if_indextoname(index)
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default();
                let outgoing = from.pkttype() == libc::PACKET_OUTGOING;
                to.lock().unwrap().push(Frame {
                    at: now(),
                    interface,
                    outgoing,
                    bytes: buffer[..n].to_vec(),
                });
            }
        });
        wait.recv().unwrap();
        Self { frames, stop, thread: Some(thread) }
    }

    pub(crate) fn frames(&self) -> Vec<Frame> {
        self.frames.lock().unwrap().clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
