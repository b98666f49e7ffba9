//! A strongSwan peer with its ESP in user space (kernel-libipsec), configured through `swanctl`.
//!
//! Its own packets carry a mark and go past the routes into its TUN device, so that the peer's own address may
//! be a traffic selector. Debian's build always wants UDP encapsulation: it pretends to be behind a NAT.

use crate::lab::Lab;
use crate::process::{Background, check, run};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const CHARON: &str = "/usr/lib/ipsec/charon";
const PLUGINS: &str = "/usr/lib/ipsec/plugins";
/// kernel-libipsec must come before kernel-netlink.
const WANTED: &[&str] = &[
    "random",
    "nonce",
    "drbg",
    "openssl",
    "pem",
    "pkcs1",
    "x509",
    "pubkey",
    "constraints",
    "aes",
    "sha1",
    "sha2",
    "hmac",
    "kdf",
    "gcm",
    "ctr",
    "chapoly",
    "xcbc",
    "md5",
    "curve25519",
    "gmp",
    "kernel-libipsec",
    "kernel-netlink",
    "socket-default",
    "vici",
    "updown",
    "counters",
];

/// Whether a test that needs strongSwan cannot be run, which is said.
#[must_use]
pub fn missing() -> bool {
    let missing = !installed();
    if missing {
        eprintln!("not run: strongSwan with kernel-libipsec is not installed");
    }
    missing
}

/// Whether Debian's strongSwan with kernel-libipsec is installed.
#[must_use]
pub fn installed() -> bool {
    Path::new(CHARON).exists()
        && Path::new("/usr/sbin/swanctl").exists()
        && Path::new(PLUGINS).join("libstrongswan-kernel-libipsec.so").exists()
}

/// A connection; one child of the same name.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Name of the connection and of its child.
    pub name: String,
    /// Own address.
    pub local: String,
    /// The other side's address.
    pub remote: String,
    /// Pre-shared key.
    pub secret: String,
    /// IKE proposal.
    pub ike: String,
    /// ESP proposal.
    pub esp: String,
    /// Own traffic selector.
    pub local_ts: String,
    /// The other side's traffic selector.
    pub remote_ts: String,
    /// Seconds between liveness checks, 0 = none.
    pub dpd_delay: u32,
    /// Pretends to be behind a NAT, so that ESP goes in UDP whatever the other side does.
    pub encap: bool,
    /// Both sides prove themselves with certificates, not with the key.
    pub certificates: Option<Certificates>,
}

/// Certificates of a connection, in PEM.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The peer's own.
    pub own: String,
    /// Its private key.
    pub key: String,
    /// The authority that vouches for the other side.
    pub ca: String,
}

impl Connection {
    /// Host to host between two addresses with AES-GCM.
    #[must_use]
    pub fn host_to_host(name: &str, local: &str, remote: &str, secret: &str) -> Self {
        Self {
            name: name.to_owned(),
            local: local.to_owned(),
            remote: remote.to_owned(),
            secret: secret.to_owned(),
            ike: "aes128gcm16-prfsha256-x25519".to_owned(),
            esp: "aes128gcm16".to_owned(),
            local_ts: "dynamic".to_owned(),
            remote_ts: "dynamic".to_owned(),
            dpd_delay: 0,
            encap: true,
            certificates: None,
        }
    }
}

/// A running charon.
#[derive(Debug)]
pub struct Swan {
    process: Background,
    dir: PathBuf,
}

impl Swan {
    /// Starts charon in a node with these connections.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(lab: &Lab, node: &str, connections: &[Connection]) -> Result<Self> {
        let dir = lab.folder(&format!("swan-{node}"))?;
        for folder in ["run", "swanctl/conf.d", "swanctl/x509", "swanctl/x509ca", "swanctl/private"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let plugins: Vec<&str> = WANTED
            .iter()
            .copied()
            .filter(|p| Path::new(PLUGINS).join(format!("libstrongswan-{p}.so")).exists())
            .collect();
        fs::write(dir.join("strongswan.conf"), daemon_conf(&dir, &plugins.join(" ")))?;
        fs::write(
            dir.join("swanctl/swanctl.conf"),
            connections.iter().map(connection_conf).collect::<String>(),
        )?;
        for c in connections {
            let Some(Certificates { own, key, ca }) = &c.certificates else { continue };
            for (folder, pem) in [("x509", own), ("private", key), ("x509ca", ca)] {
                fs::write(dir.join("swanctl").join(folder).join(format!("{}.pem", c.name)), pem)?;
            }
        }
        // charon writes its pid to /run: a private one for each peer.
        let script = "mount --bind \"$1\" /run && exec \"$2\"";
        let mut command = lab.exec(node, Path::new("unshare"));
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.join("run")).arg(CHARON);
        command.env("STRONGSWAN_CONF", dir.join("strongswan.conf"));
        let mut swan = Self { process: Background::start(command, &dir.join("charon.out"))?, dir };
        crate::wait::until("charon", Duration::from_secs(15), || {
            ensure!(swan.process.running(), "ended: {}", swan.log());
            swan.swanctl(&["--stats"])
        })?;
        swan.swanctl(&["--load-all", "--noprompt"])?;
        Ok(swan)
    }

    /// Runs swanctl.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        check(&mut self.swanctl_command(arguments))
    }

    fn swanctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/sbin/swanctl");
        command.args(arguments).arg("--uri").arg(format!("unix://{}/run/charon.vici", self.dir.display()));
        command
            .env("STRONGSWAN_CONF", self.dir.join("strongswan.conf"))
            .env("SWANCTL_DIR", self.dir.join("swanctl"));
        command
    }

    /// Initiates the child `name`.
    ///
    /// # Errors
    /// When the negotiation fails; with charon's reason.
    pub fn initiate(&self, name: &str) -> Result<()> {
        let output = run(&mut self.swanctl_command(&["--initiate", "--timeout", "15", "--child", name]))?;
        if !output.status.success() {
            bail!("strongSwan could not initiate {name}: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(())
    }

    /// What `swanctl --list-sas` says.
    ///
    /// # Errors
    /// When charon does not answer.
    pub fn sas(&self) -> Result<String> {
        self.swanctl(&["--list-sas"])
    }

    /// Process id of charon.
    #[must_use]
    pub fn pid(&self) -> nix::unistd::Pid {
        self.process.pid()
    }

    /// Ends it; `SIGKILL` is a crash without Deletes.
    pub fn end(&mut self, signal: Signal) {
        self.process.end(signal);
    }

    /// charon's log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("charon.log")).unwrap_or_else(|_| self.process.output())
    }

    /// Every ESP key that charon has made, from its log.
    #[must_use]
    pub fn esp_keys(&self) -> Vec<Vec<u8>> {
        let (log, mut keys) = (self.log(), Vec::new());
        let mut lines = log.lines();
        while let Some(line) = lines.next() {
            let Some((_, rest)) = line
                .split_once("encryption initiator key => ")
                .or_else(|| line.split_once("encryption responder key => "))
            else {
                continue;
            };
            let length = rest.split(' ').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            let mut key = Vec::new();
            while key.len() < length {
                // "…[CHD]    0: 2B A2 … 16 octets with two digits each, then the same as text.
                let Some((_, dump)) = lines.next().and_then(|l| l.split_once(": ")) else { break };
                let wanted = (length - key.len()).min(16);
                let octets =
                    dump.split_whitespace().take(wanted).filter_map(|d| u8::from_str_radix(d, 16).ok());
                let before = key.len();
                key.extend(octets);
                if key.len() == before {
                    break;
                }
            }
            keys.push(key);
        }
        keys
    }

    /// Inbound and outbound SPI of each installed child, as `swanctl --list-sas` prints them; not of those that charon keeps for
    /// some seconds after their end.
    ///
    /// # Errors
    /// When charon does not answer.
    pub fn spis(&self) -> Result<Vec<(u32, u32)>> {
        let text = self.sas()?;
        let spi = |line: &str| {
            let word = line.split_whitespace().nth(1)?.trim_end_matches(',');
            u32::from_str_radix(word.trim_start_matches("0x"), 16).ok()
        };
        let (mut found, mut inbound, mut installed) = (Vec::new(), None, false);
        for line in text.lines().map(str::trim_start) {
            if line.contains(", reqid ") {
                installed = line.contains(", INSTALLED,");
            } else if line.starts_with("in ") {
                inbound = spi(line);
            } else if line.starts_with("out ") && installed {
                let pair = inbound.take().zip(spi(line));
                found.push(pair.with_context(|| format!("unexpected list of SAs: {text}"))?);
            }
        }
        Ok(found)
    }
}

fn daemon_conf(dir: &Path, plugins: &str) -> String {
    format!(
        "charon {{
  load = {plugins}
  install_routes = yes
  filelog {{
    main {{
      path = {dir}/charon.log
      flush_line = yes
      default = 1
      ike = 2
      cfg = 2
      chd = 4
    }}
  }}
  plugins {{
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
    kernel-netlink {{
      fwmark = !0x42
    }}
    socket-default {{
      fwmark = 0x42
    }}
    vici {{
      socket = unix://{dir}/run/charon.vici
    }}
  }}
}}
",
        dir = dir.display()
    )
}

fn connection_conf(c: &Connection) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "connections {{
  {name} {{
    version = 2
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = {ike}
    encap = {encap}
    mobike = no
    rekey_time = 4h
    dpd_delay = {dpd}
    local {{
      {own_proof}
      id = {local}
    }}
    remote {{
      auth = {proof}
      id = {remote}
    }}
    children {{
      {name} {{
        mode = tunnel
        local_ts = {local_ts}
        remote_ts = {remote_ts}
        esp_proposals = {esp}
        rekey_time = 1h
        dpd_action = clear
      }}
    }}
  }}
}}
secrets {{
  ike-{name} {{
    id-1 = {local}
    id-2 = {remote}
    secret = \"{secret}\"
  }}
}}
",
        name = c.name,
        proof = if c.certificates.is_some() { "pubkey" } else { "psk" },
        own_proof = match &c.certificates {
            Some(_) => format!("auth = pubkey\n      certs = {}.pem", c.name),
            None => "auth = psk".to_owned(),
        },
        encap = if c.encap { "yes" } else { "no" },
        local = c.local,
        remote = c.remote,
        ike = c.ike,
        esp = c.esp,
        dpd = c.dpd_delay,
        local_ts = c.local_ts,
        remote_ts = c.remote_ts,
        secret = c.secret,
    );
    text
}

/// Version line of the installed strongSwan.
///
/// # Errors
/// When it is not installed.
pub fn version() -> Result<String> {
    let text = check(Command::new("/usr/sbin/swanctl").arg("--version"))
        .or_else(|_| check(Command::new(CHARON).arg("--version")));
    Ok(text.context("strongSwan's version")?.lines().next().unwrap_or_default().trim().to_owned())
}
