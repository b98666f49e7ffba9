//! The scenario of the demo and of most tests: a peer, a distributor with a DVIPA, targets behind it.

use crate::http::start_server;
use crate::lab::Lab;
use crate::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use crate::policy::{DENY_ALL, ExchangeOffer, Pair, policy};
use crate::process::Background;
use crate::swan::{Connection, Swan};
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The DVIPA, IPv4.
pub const DVIPA4: &str = "192.0.2.100";
/// The DVIPA, IPv6.
pub const DVIPA6: &str = "2001:db8:2::100";
/// Both.
pub const DVIPAS: [&str; 2] = [DVIPA4, DVIPA6];
/// The peer's address on the network.
pub const PEER4: &str = "192.0.2.11";
/// The peer's IPv6 address on the network.
pub const PEER6: &str = "2001:db8:2::11";
/// Home address of a peer that runs `iked`: never an interface's own address.
pub const PEER_HOME4: &str = "198.51.100.11";
/// The pre-shared key of all.
pub const SECRET: &str = "correct-horse-battery";
/// Port of the web servers.
pub const PORT: u16 = 80;

/// A peer that does not answer is given up after 1 + 2 + 4 seconds; ESP goes in UDP, as Debian's strongSwan does it.
const IKE: &str = "[ike]\nretries = 2\ninit_wait_secs = 1\nudp_encapsulation = \"always\"\n\n";

/// The DVIPA and port of one family.
#[must_use]
pub fn server(v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 { DVIPA6 } else { DVIPA4 }.parse().expect("a fixed address");
    SocketAddr::new(address, PORT)
}

/// What varies between scenarios.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of targets, 1 to 3.
    pub targets: u8,
    /// LivenessInterval in seconds.
    pub liveness_secs: u32,
    /// RefreshLifetimeProposed of child SAs in minutes.
    pub child_minutes: u32,
    /// RefreshLifetimeProposed of IKE SAs in minutes.
    pub ike_minutes: u32,
    /// Targets whose own policy denies everything.
    pub denying: Vec<String>,
    /// AllowOnDemand.
    pub on_demand: bool,
    /// Lines for servauth.toml.
    pub servauth: String,
    /// Targets have a leg on the network too.
    pub target_ext: bool,
    /// The peer's identity and endpoint (IPv4).
    pub peer4: String,
    /// Ports that are distributed, over all targets where `spread` names none.
    pub ports: Vec<u16>,
    /// Targets of `ports`; empty means all.
    pub spread: Vec<String>,
    /// Ports that are distributed to one target only.
    pub special: Vec<(u16, String)>,
    /// More `[[dvipa.distribute]]` tables, for the DVIPA of each family.
    pub distributions: String,
    /// Packets between stacks go in GRE in UDP.
    pub gre_in_udp: bool,
    /// Addresses, own and remote, that may talk in clear.
    pub permits: Vec<(String, String)>,
    /// More offers for child SAs, behind the usual ones: HowToEncrypt and HowToAuth. Weak ones are allowed.
    pub offers: Vec<(&'static str, &'static str)>,
    /// More offers for IKE SAs, behind the usual ones. Weak ones are allowed.
    pub exchange_offers: Vec<ExchangeOffer>,
    /// HowToAuthMe, and the keyring for it; `None`: the shared key.
    pub keyring: Option<(&'static str, PathBuf)>,
    /// A static home address of a target, protected towards the peer by its own IKE.
    pub home: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            targets: 3,
            liveness_secs: 30,
            child_minutes: 60,
            ike_minutes: 480,
            denying: Vec::new(),
            on_demand: false,
            servauth: SERVAUTH_ROOT_ONLY.to_owned(),
            target_ext: true,
            peer4: PEER4.to_owned(),
            ports: vec![PORT],
            spread: Vec::new(),
            special: Vec::new(),
            distributions: String::new(),
            gre_in_udp: false,
            permits: Vec::new(),
            offers: Vec::new(),
            exchange_offers: Vec::new(),
            keyring: None,
            home: None,
        }
    }
}

/// A distributor `DIST` and targets `TGT1` … of one `iked`, with a web server each.
#[derive(Debug)]
pub struct Sysplex {
    /// The daemon of all stacks.
    pub daemon: Daemon,
    /// Web servers of the targets.
    pub servers: Vec<Background>,
    /// Names of the targets.
    pub targets: Vec<String>,
}

impl Sysplex {
    /// The peer ends its IKE SA of this name, and the distributor has no tunnel left.
    ///
    /// # Errors
    /// When it has one for longer than a minute.
    pub fn ended_by(&self, peer: &Swan, connection: &str) -> Result<()> {
        peer.swanctl(&["--terminate", "--ike", connection])?;
        crate::wait::until("the tunnel is gone", Duration::from_secs(60), || {
            let left = self.daemon.entries("-p DIST -y display")?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
    }

    /// One target behind DIST, in a lab of this name.
    ///
    /// # Errors
    /// As [`Sysplex::start`].
    pub fn with_one_target(lab: &str) -> Result<(Lab, Self)> {
        let mut lab = Lab::new(lab)?;
        let options = Options { targets: 1, target_ext: false, ..Options::default() };
        let plex = Self::start(&mut lab, &options)?;
        Ok((lab, plex))
    }

    /// The same and strongSwan, which has begun nothing; `None`, which is said: strongSwan is not installed.
    ///
    /// # Errors
    /// As [`Sysplex::start`] and [`swan_peer`].
    pub fn with_strongswan(lab: &str) -> Result<Option<(Lab, Self, Swan)>> {
        if crate::swan::missing() {
            return Ok(None);
        }
        let (lab, plex) = Self::with_one_target(lab)?;
        let peer = swan_peer(&lab)?;
        Ok(Some((lab, plex, peer)))
    }

    /// Makes the nodes, starts the daemon and the servers.
    ///
    /// # Errors
    /// When anything does not come up.
    pub fn start(lab: &mut Lab, options: &Options) -> Result<Self> {
        let targets = make_nodes(lab, options)?;
        let names: Vec<&str> = std::iter::once("DIST").chain(targets.iter().map(String::as_str)).collect();
        let daemon = Daemon::start(lab, "SYSA", &sysplex_files(lab, options, &targets), &names)?;
        let servers =
            targets.iter().map(|t| start_server(lab, t, t, PORT)).collect::<Result<Vec<Background>>>()?;
        let spread = if options.spread.is_empty() { &targets } else { &options.spread };
        daemon.servers_known("DIST", PORT, spread.len() * DVIPAS.len())?;
        Ok(Self { daemon, servers, targets })
    }
}

/// Makes the nodes of the sysplex and of the peer; gives the names of the targets.
///
/// # Errors
/// When a namespace or link cannot be made.
pub fn make_nodes(lab: &mut Lab, options: &Options) -> Result<Vec<String>> {
    lab.node("PEER")?;
    lab.join("PEER", "ext", 11)?;
    lab.node("DIST")?;
    lab.join("DIST", "ext", 1)?;
    lab.join("DIST", "xcf", 1)?;
    let targets: Vec<String> = (1..=options.targets).map(|n| format!("TGT{n}")).collect();
    for (target, host) in targets.iter().zip(21u8..) {
        lab.node(target)?;
        lab.join(target, "xcf", host)?;
        if options.target_ext {
            lab.join(target, "ext", host)?;
        }
    }
    Ok(targets)
}

/// The files of the sysplex's `iked`.
#[must_use]
pub fn sysplex_files(lab: &Lab, options: &Options, targets: &[String]) -> Files {
    let keyring = options.keyring.as_ref().map(|(_, folder)| format!("keyring = {folder:?}\n"));
    let ike = IKE.replace("[ike]\n", &format!("[ike]\n{}", keyring.unwrap_or_default()));
    let mut toml = format!(
        "{ike}[sysplex]\nname = \"PLEX1\"\nkey_file = \"sysplex.key\"\ncoupling_facility = \"sled\"\ngre_in_udp = {}\n\n",
        options.gre_in_udp
    );
    stack_table(&mut toml, lab, "DIST", "[\"ext\"]", Some("10.99.0.1"), "[]", None);
    for (target, host) in targets.iter().zip(21u8..) {
        let network = if options.target_ext { "[\"ext\"]" } else { "[]" };
        let policy = options.denying.contains(target).then_some("denying.conf");
        let home = options.home.as_ref().filter(|(stack, _)| stack == target);
        let home = home.map_or("[]".to_owned(), |(_, address)| format!("[\"{address}\"]"));
        stack_table(&mut toml, lab, target, network, Some(&format!("10.99.0.{host}")), &home, policy);
    }
    let spread = if options.spread.is_empty() { targets } else { &options.spread };
    for address in DVIPAS {
        let _ = write!(toml, "[[dvipa]]\naddress = \"{address}\"\nowner = \"DIST\"\n\n");
        distribute(&mut toml, &options.ports, spread);
        for (port, target) in &options.special {
            distribute(&mut toml, &[*port], std::slice::from_ref(target));
        }
        toml.push_str(&options.distributions);
    }
    let mut pairs = vec![
        Pair { name: "web", local: DVIPA4, remote: &options.peer4, start: "toPeer" },
        Pair { name: "web6", local: DVIPA6, remote: PEER6, start: "toPeer6" },
    ];
    if let Some((_, address)) = &options.home {
        pairs.push(Pair { name: "own", local: address, remote: &options.peer4, start: "ownToPeer" });
    }
    if !options.denying.is_empty()
        && let Ok(folder) = lab.folder("SYSA")
    {
        // A file that is not there is told by the daemon.
        let _ = std::fs::write(folder.join("denying.conf"), DENY_ALL);
    }
    Files { stacks: toml, policy: policy(&pairs, options), servauth: options.servauth.clone() }
}

/// Appends a `[[dvipa.distribute]]` table.
fn distribute(toml: &mut String, ports: &[u16], targets: &[String]) {
    let _ = write!(
        toml,
        "[[dvipa.distribute]]\nports = {ports:?}\nprotocol = \"tcp\"\nmethod = \"round-robin\"\ntargets = {targets:?}\n\n"
    );
}

/// Appends a `[[stack]]` table.
pub fn stack_table(
    toml: &mut String,
    lab: &Lab,
    name: &str,
    network: &str,
    xcf: Option<&str>,
    home: &str,
    policy: Option<&str>,
) {
    let _ = write!(
        toml,
        "[[stack]]\nname = \"{name}\"\nnetns = \"{}\"\nnetwork = {network}\n",
        lab.namespace(name)
    );
    if let Some(address) = xcf {
        let _ = writeln!(toml, "xcf = {{ interface = \"xcf\", address = \"{address}\" }}");
    }
    if let Some(file) = policy {
        let _ = writeln!(toml, "policy = \"{file}\"");
    }
    let _ = write!(toml, "home = {home}\n\n");
}

/// strongSwan as the peer, with a connection for each family.
///
/// # Errors
/// When it does not come up.
pub fn swan_peer(lab: &Lab) -> Result<Swan> {
    let v4 = Connection::host_to_host("v4", PEER4, DVIPA4, SECRET);
    let v6 = Connection::host_to_host("v6", PEER6, DVIPA6, SECRET);
    Swan::start(lab, "PEER", &[v4, v6])
}

/// `iked` as the peer, with the static home address [`PEER_HOME4`].
///
/// # Errors
/// When it does not come up.
pub fn iked_peer(lab: &Lab) -> Result<Daemon> {
    let mut toml = IKE.to_owned();
    stack_table(&mut toml, lab, "PEER", "[\"ext\"]", None, &format!("[\"{PEER_HOME4}\"]"), None);
    let pairs = [Pair { name: "web", local: PEER_HOME4, remote: DVIPA4, start: "toDvipa" }];
    // It finds out soon when the other side has forgotten its SAs.
    let options = Options { on_demand: true, liveness_secs: 2, ..Options::default() };
    let files =
        Files { stacks: toml, policy: policy(&pairs, &options), servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    let daemon = Daemon::start(lab, "SYSP", &files, &["PEER"])?;
    lab.ip("PEER", &format!("route add {DVIPA4}/32 dev ext src {PEER_HOME4}"))?;
    lab.ip("DIST", &format!("route add {PEER_HOME4}/32 via {PEER4} dev ext"))?;
    Ok(daemon)
}
