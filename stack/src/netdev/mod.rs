//! What a stack needs of its network namespace: desired state ↔ kernel.
//!
//! Routing sorts the packets (`rules`), the home addresses sit on `lo` (`addresses`), proxy neighbour entries answer
//! for those that this stack owns (`neighbours`, `announce`), and some `sysctl`s have to have certain values.
//! Everything that is added carries [`OWN_PROTOCOL`], so that it is recognised and adopted, not doubled, when the
//! stack comes back after a crash, and removed when it stops.
//!
//! The order is what keeps clear packets in: rules and the discarding route come **before** addresses, and go after
//! them. A stack that dies leaves both, and the TUN goes with the process: everything is discarded then.

pub mod addresses;
pub mod announce;
pub mod firewall;
pub mod guard;
pub mod links;
pub mod neighbours;
pub mod routes;
pub mod rules;
pub mod sockets;
pub mod sysctl;

use crate::control::{Home, InterfaceView, Role, StackConfig};
use crate::driver::raw::Family;
use crate::driver::tun::{self, Tun, TunError};
use crate::engine::Links;
use links::Link;
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Who added a rule, route, address or neighbour entry, in the fields that the kernel has for it (`ip -d rule`).
/// A number that no routing daemon in iproute2's `rt_protos` uses.
pub const OWN_PROTOCOL: u8 = 105;

/// MTU where there is no interface to the network.
const DEFAULT_MTU: u16 = 1500;

/// Why the namespace could not be made ready.
#[derive(Debug, Error)]
pub enum NetDevError {
    /// The configuration names an interface that is not there.
    #[error("there is no interface {0} in this network namespace")]
    NoInterface(String),
    /// The configuration names one that cannot be.
    #[error("\"{0}\" cannot be the name of an interface")]
    BadName(String),
    /// Marks must leave something to compare.
    #[error("mark {mark:#x} under mask {mask:#x} marks nothing")]
    BadMark {
        /// The mark.
        mark: u32,
        /// Its mask.
        mask: u32,
    },
    /// There is no TUN.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// The kernel refused something.
    #[error("{what}: {error}")]
    Kernel {
        /// What was wanted.
        what: String,
        /// What the kernel said.
        error: rtnetlink::Error,
    },
    /// The file with the values before could not be written; nothing was changed then.
    #[error("{path}: {error}; without it the values before could not be restored, so nothing is changed")]
    StateFile {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Says what was wanted when the kernel refuses.
trait Wanted<T> {
    fn wanted(self, what: impl FnOnce() -> String) -> Result<T, NetDevError>;
}

impl<T> Wanted<T> for Result<T, rtnetlink::Error> {
    fn wanted(self, what: impl FnOnce() -> String) -> Result<T, NetDevError> {
        self.map_err(|error| NetDevError::Kernel { what: what(), error })
    }
}

/// The `errno` of a refusal.
fn errno(error: &rtnetlink::Error) -> Option<nix::errno::Errno> {
    match error {
        rtnetlink::Error::NetlinkError(m) => Some(nix::errno::Errno::from_raw(m.raw_code().abs())),
        _ => None,
    }
}

/// It is there already.
fn exists(error: &rtnetlink::Error) -> bool {
    errno(error) == Some(nix::errno::Errno::EEXIST)
}

/// It is not there (any more).
fn absent(error: &rtnetlink::Error) -> bool {
    use nix::errno::Errno as E;
    matches!(errno(error), Some(E::ENOENT | E::ESRCH | E::EADDRNOTAVAIL | E::ENODEV | E::ENXIO))
}

/// What [`NetDev::prepare`] found and made.
#[derive(Debug)]
pub struct Prepared {
    /// For the engine.
    pub links: Links,
    /// The TUN, the first time; the worker keeps it.
    pub tun: Option<Tun>,
    /// The XCF interface is another one than the last time: its socket is to be bound again.
    pub rebind_xcf: bool,
    /// What would break the configuration, for the operator.
    pub warnings: Vec<String>,
}

/// What [`NetDev::publish`] made.
#[derive(Debug)]
pub struct Published {
    /// To be sent to the neighbours.
    pub announcements: Vec<announce::Announcement>,
    /// The interfaces that the configuration is about, as they are now.
    pub links: Vec<Link>,
}

/// One stack's part of its network namespace.
#[derive(Debug)]
pub struct NetDev {
    handle: Handle,
    sysctl: sysctl::Sysctl,
    tun_name: String,
    tun_made: bool,
    has_v6: bool,
    xcf_index: Option<u32>,
    announced: BTreeSet<(IpAddr, u64)>,
    /// What the guard was made of last, and what was to be said about it: a change of roles alone does not touch it.
    secured: Option<(String, Vec<String>)>,
    /// Addresses that went, of which sockets are left that would send in clear.
    lingering: BTreeSet<IpAddr>,
}

impl NetDev {
    /// For the stack `name`, over a netlink connection in its namespace. The values that `sysctl`s had before are
    /// kept in `state_file`; one that an earlier start left there is taken over.
    #[must_use]
    pub fn new(handle: Handle, name: &str, state_file: PathBuf) -> Self {
        let mut tun_name = format!("ipsec-{name}");
        tun_name.truncate(tun::MAX_NAME);
        Self {
            handle,
            sysctl: sysctl::Sysctl::open(state_file),
            tun_name,
            tun_made: false,
            has_v6: std::path::Path::new("/proc/sys/net/ipv6").is_dir(),
            xcf_index: None,
            announced: BTreeSet::new(),
            secured: None,
            lingering: BTreeSet::new(),
        }
    }

    /// Whether the configuration is about this interface.
    #[must_use]
    pub fn uses(&self, config: &StackConfig, link: &Link) -> bool {
        config.network.contains(&link.name)
            || config.xcf.as_ref().is_some_and(|x| x.interface == link.name)
            || self.tun_name == link.name
    }

    /// The interfaces that the configuration is about, as they are now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn links(&self, config: &StackConfig) -> Result<Vec<Link>, NetDevError> {
        Ok(links::read(&self.handle).await?.into_iter().filter(|l| self.uses(config, l)).collect())
    }

    fn families(&self) -> &'static [Family] {
        if self.has_v6 { &Family::BOTH } else { &[Family::V4] }
    }

    /// First half of a configuration, before the sockets and the engine: takes back what is no longer published,
    /// then puts routes, rules and `sysctl`s in place, and home addresses where an engine runs already. Rules that are no
    /// longer wanted stay until [`Self::publish`].
    ///
    /// # Errors
    /// When an interface is missing or the kernel refuses; what was published stays published then, or is withdrawn.
    pub async fn prepare(&mut self, config: &StackConfig) -> Result<Prepared, NetDevError> {
        check(config)?;
        let links = links::read(&self.handle).await?;
        let find = |name: &String| {
            links.iter().find(|l| l.name == *name).ok_or_else(|| NetDevError::NoInterface(name.clone()))
        };
        let network: Vec<&Link> = config.network.iter().map(find).collect::<Result<_, _>>()?;
        let xcf = config.xcf.as_ref().map(|x| find(&x.interface)).transpose()?;

        neighbours::withdraw(&self.handle, &owned(config), &network).await?;
        let gone = addresses::withdraw(&self.handle, &on_loopback(config)).await?;
        self.gone(gone, config.home.iter().map(|h| h.address));

        // The discarding route first, then the rules that lead to it, then the TUN that takes their packets.
        for family in self.families() {
            routes::discard(&self.handle, *family).await?;
        }
        let wanted = self.wanted_rules(config);
        rules::add_missing(&self.handle, self.families(), &wanted).await?;
        let mut tun = None;
        let again = self.tun_made;
        if !again {
            tun = Some(Tun::open(&self.tun_name)?);
            self.sysctl.prepare_tun(&self.tun_name);
        }
        let mtu = network.iter().map(|l| l.mtu).min();
        let network_mtu = mtu.map_or(DEFAULT_MTU, |m| u16::try_from(m).unwrap_or(u16::MAX));
        links::raise_tun(&self.handle, &self.tun_name, network_mtu).await?;
        for family in self.families() {
            routes::divert(&self.handle, *family, &self.tun_name).await?;
        }
        self.tun_made = true;
        links::raise_loopback(&self.handle).await?;
        if again {
            // The kernel sends from no IPv4 address that it does not have: it is there before the engine uses it. Until then the
            // engine, which reads the TUN already, drops what is sent from it.
            addresses::add_missing(&self.handle, &on_loopback(config)).await?;
        }
        let mut warnings = self.sysctl.apply(config, &self.tun_name, self.has_v6)?;
        if tun.as_ref().is_some_and(|t| !t.udp_segmentation) {
            warnings.push(
                "this kernel's TUN takes no UDP super-packets (Linux 6.2 or later does): UDP is slower"
                    .into(),
            );
        }
        let index = xcf.map(|l| l.index);
        let rebind_xcf = index != self.xcf_index;
        self.xcf_index = index;
        let xcf_mtu = xcf.map_or(u32::from(network_mtu), |l| l.mtu.min(65_535));
        Ok(Prepared { links: Links { network_mtu, xcf_mtu }, tun, rebind_xcf, warnings })
    }

    /// Second half, when sockets and engine are ready: home addresses and, for the owner, ARP and ND; then the rules
    /// that are no longer wanted go. What it gives is to be announced at once: a takeover waits for it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn publish(&mut self, config: &StackConfig) -> Result<Published, NetDevError> {
        let links = self.links(config).await?;
        let network: Vec<&Link> = links.iter().filter(|l| config.network.contains(&l.name)).collect();
        addresses::add_missing(&self.handle, &on_loopback(config)).await?;
        let owned = owned(config);
        neighbours::add_missing(&self.handle, &owned, &network).await?;
        rules::remove_others(&self.handle, self.families(), &self.wanted_rules(config)).await?;

        let epochs: BTreeSet<(IpAddr, u64)> =
            config.home.iter().filter(|h| is_owned(h)).map(|h| (h.address, h.epoch)).collect();
        let new = epochs.difference(&self.announced).map(|(address, _)| *address);
        let announcements = announce::announcements(new, &network);
        self.announced = epochs;
        Ok(Published { announcements, links })
    }

    /// What may take its time: the last guard, and a look at firewalls. Gives warnings.
    pub async fn secure(&mut self, config: &StackConfig) -> Vec<String> {
        let script = guard::script(config);
        // Two processes are started for this: a takeover has no time for them.
        if let Some((before, warnings)) = &self.secured
            && *before == script
        {
            return warnings.clone();
        }
        let mut warnings = firewall::dropping_forward_chains().await;
        warnings.extend(guard::set(config).await);
        self.secured = Some((script, warnings.clone()));
        warnings
    }

    /// Takes everything back that was added: addresses first, so that nothing can use them any more, then the values
    /// of `sysctl`s (forwarding above all), the rules last.
    ///
    /// # Errors
    /// When the kernel refuses; what can be taken back is.
    pub async fn remove(&mut self) -> Result<(), NetDevError> {
        let mut first_error = None;
        let mut keep = |result: Result<(), NetDevError>| {
            if let Err(e) = result {
                tracing::error!("at the end: {e}");
                first_error.get_or_insert(e);
            }
        };
        keep(neighbours::withdraw(&self.handle, &BTreeSet::new(), &[]).await);
        match addresses::withdraw(&self.handle, &BTreeSet::new()).await {
            Ok(gone) => self.gone(gone, std::iter::empty()),
            Err(e) => keep(Err(e)),
        }
        guard::remove().await;
        self.sysctl.restore();
        let lingering = self.lingering_rules();
        keep(rules::remove_all(&self.handle, self.families(), &lingering).await);
        for family in self.families() {
            if lingering.iter().any(|r| r.family == *family) {
                tracing::warn!(
                    addresses = ?self.lingering,
                    "sockets are still bound to addresses that went; the rules that keep their packets in stay"
                );
            } else {
                keep(routes::remove(&self.handle, *family).await);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// What `Question::Interfaces` asks: every address of every interface but the TUN.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn interfaces(&self, config: Option<&StackConfig>) -> Result<Vec<InterfaceView>, NetDevError> {
        let links = links::read(&self.handle).await?;
        let homes = config.map(|c| c.home.as_slice()).unwrap_or_default();
        Ok(addresses::read(&self.handle)
            .await?
            .into_iter()
            .filter_map(|a| {
                let link = links.iter().find(|l| l.index == a.interface && l.name != self.tun_name)?;
                let home = homes.iter().find(|h| h.address == a.address);
                Some(InterfaceView {
                    name: link.name.clone(),
                    address: a.address,
                    security_class: DEFAULT_SECURITY_CLASS,
                    active: link.up,
                    dvipa: home.is_some_and(|h| h.role != Role::Static),
                })
            })
            .collect())
    }

    fn wanted_rules(&self, config: &StackConfig) -> BTreeSet<rules::Rule> {
        let mut wanted = rules::wanted(config, &self.tun_name);
        wanted.retain(|r| self.has_v6 || r.family == Family::V4);
        wanted.extend(self.lingering_rules());
        wanted
    }

    fn lingering_rules(&self) -> BTreeSet<rules::Rule> {
        self.lingering.iter().map(|a| rules::keeping_in(*a)).collect()
    }

    /// Addresses went: what is connected by those of them that the configuration does not know any more is ended.
    fn gone(&mut self, mut gone: BTreeSet<IpAddr>, still_known: impl Iterator<Item = IpAddr> + Clone) {
        gone.append(&mut self.lingering);
        gone.retain(|a| !still_known.clone().any(|k| k == *a));
        self.lingering = sockets::end_connections(&gone);
    }
}

/// Security class of an interface that nothing else was said of, as in the product.
const DEFAULT_SECURITY_CLASS: u8 = 255;

/// Home addresses that applications of this host use.
fn on_loopback(config: &StackConfig) -> BTreeSet<IpAddr> {
    config.home.iter().filter(|h| h.role != Role::Backup).map(|h| h.address).collect()
}

/// Home addresses for which this stack answers ARP and ND: those that nobody else has.
fn owned(config: &StackConfig) -> BTreeSet<IpAddr> {
    config.home.iter().filter(|h| is_owned(h)).map(|h| h.address).collect()
}

/// Whether this stack answers ARP and ND for a home address.
#[must_use]
pub const fn is_owned(home: &Home) -> bool {
    matches!(home.role, Role::Owner { .. } | Role::Static)
}

/// What can be refused before anything is touched.
fn check(config: &StackConfig) -> Result<(), NetDevError> {
    let names = config.network.iter().chain(config.xcf.iter().map(|x| &x.interface));
    for name in names {
        let fits = (1..=tun::MAX_NAME).contains(&name.len()) && name != "." && name != "..";
        if !fits || name.bytes().any(|b| b == b'/' || b == b'"' || b.is_ascii_whitespace() || !b.is_ascii()) {
            return Err(NetDevError::BadName(name.clone()));
        }
    }
    if config.mark & config.mark_mask == 0 || config.mark & !config.mark_mask != 0 {
        return Err(NetDevError::BadMark { mark: config.mark, mask: config.mark_mask });
    }
    Ok(())
}
