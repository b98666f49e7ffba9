//! Namespaces and the segments that join them.
//!
//! ```text
//!   PEER                                   TGT1   TGT2   TGT3     (targets have an external leg too)
//!     | .11                                | .21  | .22  | .23
//!  ===+==========================+=========+======+======+===  ext 192.0.2.0/24, 2001:db8:2::/64
//!                                | .1
//!                              DIST
//!                                | .1      | .21  | .22  | .23
//!                       =========+=========+======+======+===  xcf 10.99.0.0/24, fd00:99::/64
//!
//!   with several systems, the daemons themselves live in SYSA, SYSB, … and reach etcd in CF by
//!                                                            mgmt 10.98.0.0/24, fd00:98::/64
//! ```

use crate::process::{check, command};
use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

/// MTU of the XCF segment: as large as a HiperSockets link's, so that one GRE packet can carry a super-packet.
pub const XCF_MTU: u32 = 65535;

/// A set of namespaces; removed when dropped, unless [`Lab::keep`] was called.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    nodes: Vec<String>,
    /// Folder for configuration, logs and captures of this lab.
    pub dir: PathBuf,
    keep: bool,
    _temporary: Option<tempfile::TempDir>,
    _one_at_a_time: Option<Flock<File>>,
}

impl Lab {
    /// An empty lab with its switch. Labs of one machine run one after the other: they would take each other's
    /// processor time, and figures and deadlines would mean less.
    ///
    /// # Errors
    /// When namespaces cannot be made (not root, or no kernel support).
    pub fn new(name: &str) -> Result<Self> {
        let lock = File::create(std::env::temp_dir().join(format!("e2e-lab-{}.lock", user()?)))
            .context("lab lock")?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).context("lab lock")?;
        Self::with_lock(name, Some(lock))
    }

    /// The same, beside others: for what hardly does anything but wait, and measures nothing.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn idle(name: &str) -> Result<Self> {
        Self::with_lock(name, None)
    }

    fn with_lock(name: &str, lock: Option<Flock<File>>) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        let mut lab = Self {
            prefix: format!("{name}{}", std::process::id()),
            nodes: Vec::new(),
            dir: temporary.path().to_owned(),
            keep: false,
            _temporary: Some(temporary),
            _one_at_a_time: lock,
        };
        lab.node("sw")?;
        for segment in ["ext", "xcf", "mgmt"] {
            let mtu = mtu(segment);
            lab.ip(
                "sw",
                &format!(
                    "link add {segment} mtu {mtu} type bridge stp_state 0 mcast_snooping 0 forward_delay 0"
                ),
            )?;
            lab.ip("sw", &format!("link set {segment} up"))?;
        }
        Ok(lab)
    }

    /// Leaves everything as it is when dropped; the folder too.
    pub fn keep(&mut self) {
        self.keep = true;
        if let Some(temporary) = self._temporary.take() {
            self.dir = temporary.keep();
        }
    }

    /// Makes a node without links.
    ///
    /// # Errors
    /// When `ip netns add` fails.
    pub fn node(&mut self, node: &str) -> Result<()> {
        let name = self.namespace(node);
        check(&mut command("ip", &format!("netns add {name}")))?;
        self.nodes.push(node.to_owned());
        self.ip(node, "link set lo up")?;
        for (key, value) in [
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ] {
            self.sysctl(node, key, value)?;
        }
        Ok(())
    }

    /// Joins a node to a segment with host number `host`: `192.0.2.HOST`, `2001:db8:2::HOST` and likewise on xcf.
    ///
    /// # Errors
    /// When a link or an address cannot be made.
    pub fn join(&self, node: &str, segment: &str, host: u8) -> Result<()> {
        let (v4, v6) = match segment {
            "xcf" => (format!("10.99.0.{host}/24"), format!("fd00:99::{host}/64")),
            "mgmt" => (format!("10.98.0.{host}/24"), format!("fd00:98::{host}/64")),
            _ => (format!("192.0.2.{host}/24"), format!("2001:db8:2::{host}/64")),
        };
        let mtu = mtu(segment);
        let (sw, ns) = (self.namespace("sw"), self.namespace(node));
        let port = port(node, segment);
        check(&mut command(
            "ip",
            &format!("-n {sw} link add {port} mtu {mtu} type veth peer name {segment} netns {ns} mtu {mtu}"),
        ))?;
        self.ip("sw", &format!("link set {port} master {segment} up"))?;
        self.ip(node, &format!("link set {segment} up"))?;
        self.ip(node, &format!("addr add {v4} dev {segment}"))?;
        self.ip(node, &format!("addr add {v6} dev {segment} nodad"))
    }

    /// Cuts a node off a segment. Its interface stays up: only silence tells.
    ///
    /// # Errors
    /// When the node is not on the segment.
    pub fn cut(&self, node: &str, segment: &str) -> Result<()> {
        self.bridge(&format!("link set dev {} state 0", port(node, segment)))
    }

    /// Joins a node that was cut off to its segment again.
    ///
    /// # Errors
    /// When the node is not on the segment.
    pub fn heal(&self, node: &str, segment: &str) -> Result<()> {
        self.bridge(&format!("link set dev {} state 3", port(node, segment)))
    }

    fn bridge(&self, line: &str) -> Result<()> {
        check(&mut command("bridge", &format!("-n {} {line}", self.namespace("sw")))).map(drop)
    }

    /// The MAC address of an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, node: &str, interface: &str) -> Result<[u8; 6]> {
        // `/sys` shows the namespace in which it was mounted; `ip netns exec` mounts it anew.
        let path = format!("/sys/class/net/{interface}/address");
        let text = check(self.exec(node, "cat".as_ref()).arg(path))?;
        let bytes = hex::decode(text.trim().replace(':', ""))?;
        <[u8; 6]>::try_from(bytes)
            .map_err(|_| anyhow::anyhow!("{interface} of {node} has no MAC address: {text}"))
    }

    /// An interface carries each datagram as a frame of its own, so that a capture there can be counted: what the stack
    /// sends in one call (UDP_SEGMENT) is cut before it.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn frame_each_datagram(&self, node: &str, interface: &str) -> Result<()> {
        let line = ["-K", interface, "tx-udp-segmentation", "off"];
        check(self.exec(node, "ethtool".as_ref()).args(line)).map(drop)
    }

    /// Name of a node's namespace.
    #[must_use]
    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{}", self.prefix, node.to_lowercase())
    }

    /// `ip` inside a node.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, node: &str, line: &str) -> Result<()> {
        check(&mut command("ip", &format!("-n {} {line}", self.namespace(node)))).map(drop)
    }

    /// Whether [`Lab::masquerade`] can work here.
    #[must_use]
    pub fn can_masquerade() -> bool {
        Path::new("/usr/sbin/nft").exists()
    }

    /// Makes a node translate the sources (NAPT) of what leaves by `interface`; `what` are matches of nft, and the ports to take.
    ///
    /// # Errors
    /// When nft does not do it.
    pub fn masquerade(&self, node: &str, interface: &str, what: &str) -> Result<()> {
        for rule in [
            "add table ip nat",
            "add chain ip nat post { type nat hook postrouting priority 100 ; }",
            &format!("add rule ip nat post oifname {interface} {what}"),
        ] {
            check(self.exec(node, Path::new("nft")).args(rule.split_whitespace()))?;
        }
        Ok(())
    }

    /// A command that runs inside a node.
    #[must_use]
    pub fn exec(&self, node: &str, program: &Path) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.namespace(node)]).arg(program);
        c
    }

    /// Sets a sysctl (path under `/proc/sys`) inside a node.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sysctl(&self, node: &str, key: &str, value: &str) -> Result<()> {
        let (path, value) = (PathBuf::from("/proc/sys").join(key), value.to_owned());
        self.inside(node, move || std::fs::write(&path, value).with_context(|| path.display().to_string()))?
    }

    /// Runs `work` on a thread of its own that lives in the node's network.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        node: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let path = Path::new("/run/netns").join(self.namespace(node));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        Ok(std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("enter namespace")?;
            Ok(work())
        }))
    }

    /// Runs `work` inside the node and waits for it.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` panicked.
    pub fn inside<T: Send + 'static>(
        &self,
        node: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        match self.spawn(node, work)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Folder of a node, made at the first call.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name.to_lowercase());
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

fn mtu(segment: &str) -> u32 {
    if segment == "xcf" { XCF_MTU } else { 1500 }
}

/// Name of the switch's interface to a node: at most 15 characters.
fn port(node: &str, segment: &str) -> String {
    format!("{segment}-{}", node.to_lowercase())
}

/// The user as the machine knows him, also inside a user namespace where he is root.
fn user() -> Result<String> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    let outer = map.split_whitespace().nth(1).unwrap_or("0");
    Ok(if outer == "0" { nix::unistd::getuid().to_string() } else { outer.to_owned() })
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Logs and captures outlive the lab where somebody asks for them.
        if let Some(evidence) = std::env::var_os("E2E_EVIDENCE") {
            let to = Path::new(&evidence).join(&self.prefix);
            let _ = std::fs::create_dir_all(&evidence);
            let _ = Command::new("cp").arg("-r").arg(&self.dir).arg(to).status();
        }
        for node in &self.nodes {
            let _ = check(&mut command("ip", &format!("netns del {}", self.namespace(node))));
        }
    }
}
