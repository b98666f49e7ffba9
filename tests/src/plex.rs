//! A sysplex of several systems: gateways that own the DVIPA in turn, targets behind them, a coupling facility.
//!
//! ```text
//!   PEER .11 ===+=========== ext ===========+=== .1 DIST (SYSA)   .2 BACK (SYSB)   .3 LAST (SYSD, on demand)
//!               |  DVIPA 192.0.2.100        |       | .1             | .2             | .3
//!               |                           |  =====+======== xcf ===+================+===
//!               |                           |       | .21  .22  .23
//!               +---------------------------+------ TGT1 TGT2 TGT3 (SYSC)
//!
//!   mgmt: CF .5 (etcd), SYSA .1, SYSB .2, SYSC .3, SYSD .4 (where the daemons themselves live)
//! ```
//!
//! With sled as the coupling facility all stacks belong to one daemon, SYSA.

use crate::etcd::{self, Etcd};
use crate::http::start_server;
use crate::lab::Lab;
use crate::meter;
use crate::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use crate::peers;
use crate::policy::{Pair, policy};
use crate::process::Background;
use crate::scenario::{DVIPA4, DVIPAS, Options, PEER4, PORT, SECRET, stack_table};
use crate::swan::{Connection, Swan};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The stack that owns the DVIPA first, and its backups by rank.
pub const GATEWAYS: [(&str, &str, u8); 3] = [("SYSA", "DIST", 1), ("SYSB", "BACK", 2), ("SYSD", "LAST", 3)];
/// The targets and their host numbers.
pub const TARGETS: [(&str, u8); 3] = [("TGT1", 21), ("TGT2", 22), ("TGT3", 23)];
const MGMT: [(&str, u8); 4] = [("SYSA", 1), ("SYSB", 2), ("SYSC", 3), ("SYSD", 4)];
const SOON: Duration = Duration::from_secs(20);

/// Where the systems keep what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facility {
    /// etcd, several systems.
    Etcd,
    /// The embedded store of one daemon.
    Sled,
}

/// What becomes of SAs when the DVIPA moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Negotiated anew.
    Renegotiate,
    /// They go on.
    Continue,
}

impl Mode {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Renegotiate => "renegotiate",
            Self::Continue => "continue",
        }
    }
}

/// What varies.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Coupling facility.
    pub facility: Facility,
    /// `takeover = …`.
    pub mode: Mode,
    /// The lease in milliseconds.
    pub lease_ms: u32,
    /// Gateways, 2 or 3.
    pub gateways: usize,
    /// `giveback = …`.
    pub giveback: &'static str,
    /// The DVIPA is served by the owner's own host too, for connections that end there.
    pub local_servers: bool,
    /// A static address of DIST that it protects towards the peer by itself.
    pub own_address: Option<&'static str>,
    /// IKE and ESP of the peer come from translated ports.
    pub napt: bool,
    /// Rule, port and filter options of the policy.
    pub options: Options,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            facility: Facility::Etcd,
            mode: Mode::Renegotiate,
            lease_ms: 400,
            gateways: 2,
            giveback: "manual",
            local_servers: false,
            own_address: None,
            napt: false,
            options: Options::default(),
        }
    }
}

/// A running sysplex. Its [`Lab`] must outlive it.
#[derive(Debug)]
pub struct Plex {
    /// The daemons by system name.
    pub systems: BTreeMap<&'static str, Daemon>,
    /// Web servers of the targets.
    pub servers: Vec<Background>,
    /// The coupling facility, where it is a process of its own.
    pub etcd: Option<Etcd>,
    /// How it was made.
    pub shape: Shape,
}

impl Plex {
    /// Makes the nodes and starts everything; the first gateway owns the DVIPA.
    ///
    /// # Errors
    /// When anything does not come up.
    pub fn start(lab: &mut Lab, shape: Shape) -> Result<Self> {
        let gateways = &GATEWAYS[..shape.gateways.clamp(2, GATEWAYS.len())];
        lab.node("PEER")?;
        lab.join("PEER", "ext", 11)?;
        for (_, stack, host) in gateways {
            lab.node(stack)?;
            lab.join(stack, "ext", *host)?;
            lab.join(stack, "xcf", *host)?;
            lab.ip(stack, &format!("route add {} via {PEER4} dev ext", peers::PREFIX))?;
        }
        for (stack, host) in TARGETS {
            lab.node(stack)?;
            lab.join(stack, "xcf", host)?;
            lab.join(stack, "ext", host)?;
        }
        let mut plex = Self { systems: BTreeMap::new(), servers: Vec::new(), etcd: None, shape };
        match plex.shape.facility {
            Facility::Sled => {
                let all: Vec<(&str, u8)> = gateways.iter().map(|(_, s, h)| (*s, *h)).chain(TARGETS).collect();
                let files = plex.files(lab, &all);
                let names: Vec<&str> = all.iter().map(|(s, _)| *s).collect();
                plex.systems.insert("SYSA", Daemon::start(lab, "SYSA", &files, &names)?);
            }
            Facility::Etcd => {
                ensure!(etcd::installed(), "etcd is not installed: apt-get install etcd-server etcd-client");
                plex.etcd = Some(Etcd::start(lab)?);
                for (system, host) in &MGMT[..gateways.len() + 1] {
                    lab.node(system)?;
                    lab.join(system, "mgmt", *host)?;
                }
                let owns = gateways.iter().map(|(system, stack, host)| (*system, vec![(*stack, *host)]));
                // The targets first: the owner finds them when it comes.
                for (system, stacks) in [("SYSC", TARGETS.to_vec())].into_iter().chain(owns) {
                    let files = plex.files(lab, &stacks);
                    let names: Vec<&str> = stacks.iter().map(|(s, _)| *s).collect();
                    plex.systems.insert(system, Daemon::start_inside(lab, system, &files, &names)?);
                }
            }
        }
        for (target, _) in TARGETS {
            plex.servers.push(start_server(lab, target, target, PORT)?);
        }
        if plex.shape.local_servers {
            for (_, stack, _) in gateways {
                plex.servers.push(start_server(lab, stack, stack, PORT)?);
            }
        }
        if plex.shape.napt {
            lab.masquerade("PEER", "ext", "udp dport { 500, 4500 } masquerade to :40000-40099")?;
        }
        plex.ready()?;
        Ok(plex)
    }

    /// Waits until the first gateway owns the DVIPA and has heard of every server: a connection that comes before is refused.
    fn ready(&self) -> Result<()> {
        let active = || {
            let state = self.vipa("DIST")?;
            ensure!(state["State"] == "ACTIVE", "{state}");
            Ok(())
        };
        crate::wait::until("an owner", SOON, active)
            .and_then(|()| self.of("DIST")?.servers_known("DIST", PORT, self.servers.len() * DVIPAS.len()))
            .with_context(|| self.logs())
    }

    /// The DVIPA as `stack` shows it.
    ///
    /// # Errors
    /// When its system does not answer.
    pub fn vipa(&self, stack: &str) -> Result<serde_json::Value> {
        let entries = self.of(stack)?.entries(&format!("-p {stack} vipa display {DVIPA4}"))?;
        entries.into_iter().next().context("no such DVIPA")
    }

    /// The gateway that says it owns the DVIPA, and another one that is ready to.
    ///
    /// # Errors
    /// When there are none within `limit`.
    pub fn owner_and_backup(&self, limit: Duration) -> Result<(&'static str, &'static str)> {
        crate::wait::until("an owner and a backup", limit, || {
            let state =
                |stack| Ok((stack, self.vipa(stack)?["State"].as_str().unwrap_or_default().to_owned()));
            let states = self.gateways().into_iter().map(state).collect::<Result<Vec<_>>>()?;
            let with = |wanted: &str| states.iter().find(|(_, s)| s == wanted).map(|(g, _)| *g);
            match (with("ACTIVE"), with("BACKUP").or_else(|| with("MOVING"))) {
                (Some(owner), Some(backup)) => Ok((owner, backup)),
                _ => bail!("{states:?}"),
            }
        })
    }

    /// The files of a daemon with these stacks.
    fn files(&self, lab: &Lab, stacks: &[(&str, u8)]) -> Files {
        let shape = &self.shape;
        let mut toml = "[ike]\nretries = 2\ninit_wait_secs = 1\nudp_encapsulation = \"always\"\n\n\
                        [sysplex]\nname = \"PLEX1\"\nkey_file = \"sysplex.key\"\n"
            .to_owned();
        let _ = match shape.facility {
            Facility::Sled => writeln!(toml, "coupling_facility = \"sled\"\n"),
            Facility::Etcd => writeln!(
                toml,
                "coupling_facility = \"etcd\"\nlease_ms = {}\n\n[sysplex.etcd]\nendpoints = [\"{}\"]\n",
                shape.lease_ms,
                etcd::ENDPOINT
            ),
        };
        for (stack, host) in stacks {
            let xcf = format!("10.99.0.{host}");
            let own = shape.own_address.filter(|_| *stack == "DIST");
            let home = own.map_or("[]".to_owned(), |a| format!("[\"{a}\"]"));
            stack_table(&mut toml, lab, stack, "[\"ext\"]", Some(&xcf), &home, None);
        }
        let gateways: Vec<&str> = GATEWAYS[..shape.gateways].iter().map(|g| g.1).collect();
        let mut targets: Vec<&str> = TARGETS.iter().map(|t| t.0).collect();
        if shape.local_servers {
            targets.extend(&gateways);
        }
        for address in DVIPAS {
            let _ = write!(
                toml,
                "[[dvipa]]\naddress = \"{address}\"\nowner = \"{}\"\nbackups = {:?}\ntakeover = \"{}\"\ngiveback = \"{}\"\n\n",
                gateways[0],
                &gateways[1..],
                shape.mode.word(),
                shape.giveback,
            );
            for (protocol, ports) in [("tcp", vec![PORT]), ("udp", vec![meter::PORT, peers::PORT])] {
                let to = if protocol == "udp" { &targets[..TARGETS.len()] } else { &targets[..] };
                let _ = write!(
                    toml,
                    "[[dvipa.distribute]]\nports = {ports:?}\nprotocol = \"{protocol}\"\nmethod = \"round-robin\"\ntargets = {to:?}\n\n"
                );
            }
        }
        let mut pairs = vec![
            Pair { name: "web", local: DVIPA4, remote: &shape.options.peer4, start: "toPeer" },
            Pair { name: "many", local: DVIPA4, remote: peers::PREFIX, start: "" },
        ];
        if let Some(own) = shape.own_address {
            pairs.push(Pair { name: "own", local: own, remote: &shape.options.peer4, start: "" });
        }
        Files {
            stacks: toml,
            policy: policy(&pairs, &shape.options),
            servauth: SERVAUTH_ROOT_ONLY.to_owned(),
        }
    }

    /// The daemon that has the stack.
    ///
    /// # Errors
    /// When none has it.
    pub fn of(&self, stack: &str) -> Result<&Daemon> {
        self.systems.get(self.system_of(stack)?).context("the system does not run")
    }

    /// As [`Plex::of`], to act on it.
    ///
    /// # Errors
    /// When none has it.
    pub fn of_mut(&mut self, stack: &str) -> Result<&mut Daemon> {
        let system = self.system_of(stack)?;
        self.systems.get_mut(system).context("the system does not run")
    }

    /// The system that has the stack.
    ///
    /// # Errors
    /// When none has it.
    pub fn system_of(&self, stack: &str) -> Result<&'static str> {
        if self.shape.facility == Facility::Sled {
            return Ok("SYSA");
        }
        if let Some((system, ..)) = GATEWAYS.iter().find(|g| g.1 == stack) {
            return Ok(system);
        }
        ensure!(TARGETS.iter().any(|t| t.0 == stack), "no stack {stack}");
        Ok("SYSC")
    }

    /// The gateways of this sysplex.
    #[must_use]
    pub fn gateways(&self) -> Vec<&'static str> {
        GATEWAYS[..self.shape.gateways].iter().map(|g| g.1).collect()
    }

    /// Waits until `stack` has a dynamic tunnel that carries traffic.
    ///
    /// # Errors
    /// When it has none in time.
    pub fn tunnel(&self, stack: &str) -> Result<serde_json::Value> {
        let daemon = self.of(stack)?;
        crate::wait::until("a dynamic tunnel", SOON, || {
            let mut tunnels = daemon.entries(&format!("-p {stack} -y display"))?;
            if tunnels.is_empty() {
                bail!("{stack} has none: {}", daemon.log());
            }
            Ok(tunnels.remove(0))
        })
    }

    /// The last `lines` of each daemon's log.
    #[must_use]
    pub fn last_of_logs(&self, lines: usize) -> String {
        let last = |log: String| {
            let all: Vec<&str> = log.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        };
        self.systems.iter().map(|(name, d)| format!("--- {name}\n{}\n", last(d.log()))).collect()
    }

    /// What the stacks have dropped, a line each; those that are gone say nothing.
    #[must_use]
    pub fn drops(&self) -> String {
        let stacks = self.gateways().into_iter().chain(TARGETS.iter().map(|t| t.0));
        let of_stack = |stack: &str| {
            let drops = self.of(stack).and_then(|d| d.all_drops(stack)).ok()?;
            let some: Vec<String> =
                drops.iter().filter(|(_, n)| **n > 0).map(|(r, n)| format!("{r} {n}")).collect();
            Some(format!("dropped by {stack}: {}\n", some.join(", ")))
        };
        stacks.filter_map(of_stack).collect()
    }

    /// The logs of all, for the message of a failure.
    #[must_use]
    pub fn logs(&self) -> String {
        self.systems.iter().map(|(name, d)| format!("--- {name}\n{}\n", d.log())).collect()
    }
}

/// strongSwan as the peer: reachable (no NAT pretended), and fenced, so that its own kernel says nothing in clear to the DVIPA
/// while charon has no SA.
///
/// # Errors
/// When it does not come up.
pub fn swan_peer(lab: &Lab) -> Result<Swan> {
    swan_peer_with(lab, &[])
}

/// As [`swan_peer`], with connections `own0`, `own1`, … to further addresses of DIST.
///
/// # Errors
/// When it does not come up.
pub fn swan_peer_with(lab: &Lab, more: &[&str]) -> Result<Swan> {
    // After strongSwan's own rule (220); what charon itself sends carries its mark.
    lab.ip("PEER", "rule add pref 299 fwmark 0x42 lookup main")?;
    lab.ip("PEER", &format!("rule add pref 300 to {DVIPA4} lookup 999"))?;
    lab.ip("PEER", "route add blackhole default table 999")?;
    let mut connections = vec![Connection::host_to_host("v4", PEER4, DVIPA4, SECRET)];
    for (number, address) in more.iter().enumerate() {
        lab.ip("PEER", &format!("route add {address}/32 via 192.0.2.1"))?;
        connections.push(Connection::host_to_host(&format!("own{number}"), PEER4, address, SECRET));
    }
    for connection in &mut connections {
        connection.encap = false;
    }
    Swan::start(lab, "PEER", &connections)
}
