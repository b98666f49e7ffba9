//! From the file's shape to a consistent [`Config`]: every problem is found and told, none only the first.

use super::file::{self, File, LogFormat, Ports, Protocol};
use super::{
    Config, Defense, Distribute, Dvipa, Etcd, Facility, Ike, Log, MAX_STACKS, Method, Name, Nmi, Problem,
    StackEntry, Sysplex, Target, XcfEntry, profile,
};
use crate::cf::seal::SysplexKey;
use ipnet::IpNet;
use policy::ike_config::IkeConfig;
use policy::profile::{DEFAULT_WEIGHT, MAX_AFFINITY_SECS};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Mark of a stack's own sockets, unless the file says otherwise: the upper byte is rarely used by firewalls.
const DEFAULT_MARK: (u32, u32) = (0x4900_0000, 0xff00_0000);
/// Connections that a stack remembers, unless the file says otherwise.
const DEFAULT_CONNECTIONS: u32 = 262_144;
/// How long a renewal lets a stack use its DVIPAs, unless the file says otherwise.
const DEFAULT_LEASE_MS: u32 = 1000;
/// DVIPAs: a stack's lease is renewed on the condition that all of its DVIPAs are still its own, in one transaction.
const MAX_DVIPAS: usize = crate::cf::PAGE;
/// Endpoints of an etcd cluster.
const MAX_ENDPOINTS: usize = 16;
/// Longest lifetime of a defensive filter: a year.
const MAX_LIFETIME_MIN: u32 = 366 * 24 * 60;
/// Addresses that defensive filters do not touch: each packet that one matches is compared with all of them.
const MAX_EXCLUDED: usize = 10;
/// Longest interface name of Linux (`IFNAMSIZ` less the final zero).
const MAX_INTERFACE: usize = 15;

pub(super) fn check(file: File, folder: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    let mut c = Checker { folder, text, many_systems: false, profiles: Vec::new(), problems: Vec::new() };
    let config = c.config(file);
    c.problems.sort();
    match config {
        Some(config) if c.problems.is_empty() => Ok(config),
        _ => Err(c.problems),
    }
}

pub(super) struct Checker<'a> {
    folder: &'a Path,
    text: &'a str,
    /// DVIPAs may name stacks of other systems.
    many_systems: bool,
    /// Profiles of the stacks.
    profiles: Vec<profile::Loaded>,
    problems: Vec<Problem>,
}

/// What an address is already used for, to name it in the second use's message.
type Uses = BTreeMap<IpAddr, String>;

impl Checker<'_> {
    pub(super) fn problem(&mut self, offset: usize, message: impl Into<String>) {
        self.problems.push(Problem::at(self.text, offset, message.into()));
    }

    pub(super) fn path(&self, p: impl AsRef<Path>) -> PathBuf {
        self.folder.join(p)
    }

    fn name(&mut self, s: &Spanned<String>) -> Option<Name> {
        Name::parse(s.get_ref()).map_err(|m| self.problem(s.span().start, m)).ok()
    }

    fn config(&mut self, file: File) -> Option<Config> {
        let system = self.name(&file.system);
        let max_clients = file.nmi.max_clients.map_or(50, |n| {
            if !(1..=1000).contains(n.get_ref()) {
                self.problem(n.span().start, format!("max_clients = {}: expected 1 to 1000", n.get_ref()));
            }
            *n.get_ref()
        });
        let nmi = Nmi {
            socket: self.path(file.nmi.socket),
            max_clients: max_clients as usize,
            text: file.nmi.text,
        };
        let (ike, level) = self.ike(&file.ike);
        let has_sysplex = file.sysplex.is_some();
        let sysplex = file.sysplex.and_then(|s| self.sysplex(s.into_inner()));
        self.many_systems = sysplex.as_ref().is_some_and(|s| s.facility == Facility::Etcd);
        let mut uses = Uses::new();
        let stacks = self.stacks(file.stack, &mut uses);
        let profiles = std::mem::take(&mut self.profiles);
        let mut dvipas = file.dvipa;
        dvipas.extend(self.profile_dvipas(&profiles, &stacks));
        let dvipas = self.dvipas(dvipas, &stacks, has_sysplex, &mut uses);
        let (filter_at, filter) = match file.log.filter {
            Some(filter) => (filter.span().start, filter.into_inner()),
            None => (0, level.to_owned()),
        };
        if let Err(e) = tracing_subscriber::EnvFilter::builder().parse(&filter) {
            self.problem(filter_at, format!("filter: {e}; expected as in \"iked=debug,info\""));
        }
        Some(Config {
            system: system?,
            state_dir: self.path(file.state_dir),
            policy: file.policy.map(|p| self.path(p)),
            servauth: file.servauth.map(|p| self.path(p)),
            nmi,
            metrics: file.metrics.listen,
            sysplex,
            stacks,
            dvipas,
            ike,
            log: Log { filter, json: file.log.format == LogFormat::Json },
        })
    }

    /// The settings of IKE, and what is logged unless the configuration says it.
    fn ike(&mut self, ike: &file::Ike) -> (Ike, &'static str) {
        let base = ike.file.as_ref().and_then(|path| self.ike_config(path)).unwrap_or_default();
        let mut within = |key: &str, value: &Option<Spanned<u32>>, default: u32, most: u32| {
            let Some(value) = value else { return default };
            if !(1..=most).contains(value.get_ref()) {
                self.problem(
                    value.span().start,
                    format!("{key} = {}: expected 1 to {most}", value.get_ref()),
                );
            }
            *value.get_ref()
        };
        let wait = u32::try_from(base.init_wait.as_secs()).unwrap_or(u32::MAX);
        let settings = Ike {
            retries: within("retries", &ike.retries, base.retries, 20),
            init_wait: Duration::from_secs(within("init_wait_secs", &ike.init_wait_secs, wait, 60).into()),
            udp_encapsulation: ike.udp_encapsulation,
            keyring: ike.keyring.as_ref().map(|path| self.path(path)),
        };
        // Bit 1 is what happens; what is above it tells how.
        let level = match base.syslog_level {
            0 => "warn",
            1 => "info",
            _ => "iked=debug,info",
        };
        (settings, level)
    }

    fn ike_config(&mut self, path: &Spanned<PathBuf>) -> Option<IkeConfig> {
        let at = path.span().start;
        let path = self.path(path.get_ref());
        let text = super::read_bounded(&path)
            .map_err(|reason| self.problem(at, format!("{}: {reason}", path.display())))
            .ok()?;
        let source = policy::Source::common(path.display().to_string(), text.into_bytes());
        policy::ike_config::load(&source)
            .map_err(|report| self.problem(at, report.to_string()))
            .ok()
            .map(|(config, _)| config)
    }

    fn sysplex(&mut self, s: file::Sysplex) -> Option<Sysplex> {
        let name = self.name(&s.name);
        let key_file = self.path(s.key_file.get_ref());
        if let Err(e) = SysplexKey::load(&key_file) {
            self.problem(s.key_file.span().start, e.to_string());
        }
        let facility = *s.coupling_facility.get_ref();
        let at = s.coupling_facility.span().start;
        let etcd = match (facility, s.etcd) {
            (Facility::Sled, None) => None,
            (Facility::Sled, Some(e)) => {
                self.problem(e.span().start, "[sysplex.etcd] goes with coupling_facility = \"etcd\"");
                None
            }
            (Facility::Etcd, None) => {
                self.problem(at, "coupling_facility = \"etcd\" needs [sysplex.etcd] with endpoints");
                None
            }
            (Facility::Etcd, Some(e)) => Some(self.etcd(at, e.into_inner())),
        };
        let lease_ms = s.lease_ms.map_or(DEFAULT_LEASE_MS, |l| {
            if !(100..=60_000).contains(l.get_ref()) {
                self.problem(l.span().start, format!("lease_ms = {}: expected 100 to 60000", l.get_ref()));
            }
            *l.get_ref()
        });
        let lease = Duration::from_millis(lease_ms.into());
        Some(Sysplex { name: name?, key_file, facility, etcd, lease, gre_in_udp: s.gre_in_udp })
    }

    fn etcd(&mut self, at: usize, e: file::Etcd) -> Etcd {
        if cfg!(not(feature = "etcd")) {
            self.problem(
                at,
                "coupling_facility = \"etcd\": this iked was built without etcd (--features etcd)",
            );
        }
        let endpoints = e.endpoints.get_ref();
        if !(1..=MAX_ENDPOINTS).contains(&endpoints.len()) {
            self.problem(e.endpoints.span().start, format!("endpoints: expected 1 to {MAX_ENDPOINTS} URLs"));
        }
        let tls = endpoints.first().is_some_and(|first| first.get_ref().starts_with("https://"));
        let scheme = if tls { "https://" } else { "http://" };
        for endpoint in endpoints {
            let url = endpoint.get_ref();
            let host = url.strip_prefix(scheme).unwrap_or_default();
            let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
            if host.is_empty() || host.contains(odd) {
                let message =
                    format!("{url:?}: expected {scheme}HOST:PORT, all endpoints with TLS or all without");
                self.problem(endpoint.span().start, message);
            }
        }
        match (&e.ca, tls) {
            (None, true) => self.problem(e.endpoints.span().start, "endpoints with https need `ca`"),
            (Some(ca), false) => self.problem(ca.span().start, "`ca` goes with endpoints with https"),
            _ => {}
        }
        let identity = match (&e.cert, &e.key) {
            (Some(cert), Some(key)) => Some((self.path(cert.get_ref()), self.path(key.get_ref()))),
            (Some(one), None) | (None, Some(one)) => {
                self.problem(one.span().start, "`cert` and `key` go together");
                None
            }
            (None, None) => None,
        };
        if let (Some(cert), false) = (&e.cert, tls) {
            self.problem(cert.span().start, "`cert` and `key` go with endpoints with https");
        }
        let endpoints = endpoints.iter().map(|u| u.get_ref().clone()).collect();
        let etcd = Etcd { endpoints, ca: e.ca.map(|p| self.path(p.get_ref())), identity };
        #[cfg(feature = "etcd")]
        if let Err(e) = crate::cf::etcd::Etcd::new(&etcd) {
            self.problem(at, e.to_string());
        }
        etcd
    }

    fn stacks(&mut self, entries: Vec<Spanned<file::Stack>>, uses: &mut Uses) -> Vec<StackEntry> {
        let mut stacks: Vec<StackEntry> = Vec::new();
        if entries.is_empty() {
            self.problem(0, "no [[stack]]: expected at least one");
        }
        if entries.len() > MAX_STACKS {
            self.problem(entries[MAX_STACKS].span().start, format!("more than {MAX_STACKS} stacks"));
        }
        for entry in entries.into_iter().take(MAX_STACKS) {
            let start = entry.span().start;
            let Some(stack) = self.stack(entry.into_inner(), uses) else { continue };
            if let Some(other) = stacks.iter().find(|s| s.name.is(stack.name.as_str())) {
                self.problem(start, format!("a second stack called {}", other.name));
            }
            if let Some(other) = stacks.iter().find(|s| s.netns == stack.netns) {
                let place = stack.netns.as_ref().map_or("the daemon's".to_owned(), |n| format!("{n:?}"));
                self.problem(
                    start,
                    format!(
                        "stacks {} and {} share a network namespace ({place}): expected one each (netns = …)",
                        other.name, stack.name
                    ),
                );
            }
            stacks.push(stack);
        }
        if let Some(first) = stacks.iter().find_map(|s| s.xcf.as_ref())
            && stacks
                .iter()
                .filter_map(|s| s.xcf.as_ref())
                .any(|x| x.address.is_ipv4() != first.address.is_ipv4())
        {
            self.problem(0, "XCF addresses of both families: expected all IPv4 or all IPv6");
        }
        stacks
    }

    fn stack(&mut self, s: file::Stack, uses: &mut Uses) -> Option<StackEntry> {
        let name = self.name(&s.name);
        let shown = s.name.get_ref().clone();
        if let Some(netns) = &s.netns
            && (netns.get_ref().is_empty()
                || netns.get_ref().contains(['/', '\0'])
                || netns.get_ref().starts_with('.'))
        {
            self.problem(
                netns.span().start,
                format!("{:?} is no name of a network namespace", netns.get_ref()),
            );
        }
        if s.network.get_ref().is_empty() && s.xcf.is_none() {
            self.problem(s.network.span().start, "network = [] without xcf: expected at least one interface");
        }
        for interface in s.network.get_ref() {
            self.interface(interface);
        }
        let profile = s.profile.as_ref().and_then(|path| self.profile(&shown, path));
        let xcf = s.xcf.and_then(|x| {
            let x = x.into_inner();
            self.interface(&x.interface);
            if s.network.get_ref().iter().any(|n| n.get_ref() == x.interface.get_ref()) {
                self.problem(
                    x.interface.span().start,
                    format!(
                        "{:?} is both the XCF link and a network interface of {shown}: the trusted link must be its own",
                        x.interface.get_ref()
                    ),
                );
            }
            let dynamic = profile.as_ref().and_then(profile::Loaded::xcf);
            let at = x.interface.span();
            let address = match (x.address, dynamic) {
                (Some(address), Some(other)) if *address.get_ref() != other => {
                    let message = format!("the XCF address of {shown} is {other} in its profile");
                    self.problem(address.span().start, message);
                    address
                }
                (Some(address), _) => address,
                (None, Some(address)) => Spanned::new(at, address),
                (None, None) => {
                    self.problem(at.start, "xcf needs an address, here or as DYNAMICXCF of the profile");
                    return None;
                }
            };
            self.address(&address, format!("the XCF address of {shown}"), uses);
            Some(XcfEntry { interface: x.interface.into_inner(), address: address.into_inner() })
        });
        let default_filters = profile.as_ref().and_then(profile::Loaded::ipsec);
        self.profiles.extend(profile);
        for home in &s.home {
            self.address(home, format!("a home address of {shown}"), uses);
        }
        let mask = s.mark_mask.as_ref().map_or(DEFAULT_MARK.1, |m| *m.get_ref());
        let mark = s.mark.unwrap_or(DEFAULT_MARK.0);
        if mark == 0 || mark & !mask != 0 {
            let at = s.mark_mask.as_ref().map_or(s.name.span().start, |m| m.span().start);
            self.problem(
                at,
                format!("mark {mark:#x} with mask {mask:#x}: expected bits of the mask only, and not 0"),
            );
        }
        let max_connections = s.max_connections.map_or(DEFAULT_CONNECTIONS, |n| {
            if !(1..=16_777_216).contains(n.get_ref()) {
                self.problem(
                    n.span().start,
                    format!("max_connections = {}: expected 1 to 16777216", n.get_ref()),
                );
            }
            *n.get_ref()
        });
        let defense = self.defense(s.defense);
        Some(StackEntry {
            name: name?,
            netns: s.netns.map(Spanned::into_inner),
            network: s.network.into_inner().into_iter().map(Spanned::into_inner).collect(),
            xcf,
            home: s.home.into_iter().map(Spanned::into_inner).collect(),
            policy: s.policy.map(|p| self.path(p)),
            default_filters,
            stackd: s.stackd.map_or_else(default_stackd, |p| self.path(p)),
            mark: (mark, mask),
            max_connections,
            defense,
        })
    }

    fn defense(&mut self, d: file::Defense) -> Defense {
        let default = Defense::default();
        let max_lifetime_min = d.max_lifetime.map_or(default.max_lifetime_min, |n| {
            if !(1..=MAX_LIFETIME_MIN).contains(n.get_ref()) {
                let text =
                    format!("max_lifetime = {}: expected 1 to {MAX_LIFETIME_MIN} minutes", n.get_ref());
                self.problem(n.span().start, text);
            }
            *n.get_ref()
        });
        let mut exclude = Vec::new();
        for e in &d.exclude {
            match prefix(e.get_ref()) {
                Some(prefix) => exclude.push(prefix),
                None => {
                    let text = format!("{:?}: expected an address or address/prefix length", e.get_ref());
                    self.problem(e.span().start, text);
                }
            }
        }
        if let Some(beyond) = d.exclude.get(MAX_EXCLUDED) {
            self.problem(beyond.span().start, format!("more than {MAX_EXCLUDED} excluded addresses"));
        }
        Defense {
            mode: d.mode,
            max_lifetime_min,
            log_limit: d.log_limit.unwrap_or(default.log_limit),
            exclude,
        }
    }

    fn interface(&mut self, i: &Spanned<String>) {
        let n = i.get_ref();
        if n.is_empty() || n.len() > MAX_INTERFACE || n.contains(['/', ' ', '\0']) {
            self.problem(i.span().start, format!("{n:?} is no interface name: expected 1 to 15 characters"));
        }
    }

    fn address(&mut self, a: &Spanned<IpAddr>, what: String, uses: &mut Uses) {
        let at = a.span().start;
        let a = *a.get_ref();
        if a.is_unspecified() || a.is_multicast() || a.is_loopback() || is_broadcast(a) {
            self.problem(at, format!("{a} cannot be {what}: expected a unicast address"));
        }
        if let Some(other) = uses.get(&a) {
            self.problem(at, format!("{a} is {what} and {other}: expected one use of an address"));
        } else {
            uses.insert(a, what);
        }
    }

    fn dvipas(
        &mut self,
        entries: Vec<Spanned<file::Dvipa>>,
        stacks: &[StackEntry],
        has_sysplex: bool,
        uses: &mut Uses,
    ) -> Vec<Dvipa> {
        if let Some(beyond) = entries.get(MAX_DVIPAS) {
            self.problem(beyond.span().start, format!("more than {MAX_DVIPAS} DVIPAs"));
        }
        if let (Some(first), false) = (entries.first(), has_sysplex) {
            self.problem(first.span().start, "a [[dvipa]] needs a [sysplex] with a name and a key file");
        }
        entries.into_iter().filter_map(|e| self.dvipa(e.into_inner(), stacks, uses)).collect()
    }

    fn dvipa(&mut self, d: file::Dvipa, stacks: &[StackEntry], uses: &mut Uses) -> Option<Dvipa> {
        self.address(&d.address, "a DVIPA".into(), uses);
        let owner = self.member(&d.owner, "owner", stacks);
        let mut backups = Vec::new();
        for b in &d.backups {
            let Some(name) = self.member(b, "backup", stacks) else { continue };
            if owner.as_ref() == Some(&name) || backups.contains(&name) {
                self.problem(b.span().start, format!("{name} stands twice among owner and backups"));
            }
            backups.push(name);
        }
        let mut distribute: Vec<Distribute> = Vec::new();
        for entry in &d.distribute {
            let next = self.distribute(entry.get_ref(), owner.as_ref(), stacks);
            let clash = |a: &(u16, u16), b: &(u16, u16)| a.0 <= b.1 && b.0 <= a.1;
            let taken = distribute
                .iter()
                .filter(|o| o.protocol == next.protocol)
                .any(|o| o.ports.iter().any(|a| next.ports.iter().any(|b| clash(a, b))));
            if taken {
                let at = entry.get_ref().ports.span().start;
                self.problem(at, format!("a port of {} is already distributed above", d.address.get_ref()));
            }
            distribute.push(next);
        }
        let needs_xcf = owner.iter().chain(&backups).filter(|_| !backups.is_empty());
        for name in needs_xcf.filter(|n| no_xcf(stacks, n)) {
            let message = format!(
                "{name} has no xcf: a DVIPA with backups or targets needs `xcf = {{ interface = …, address = … }}` there"
            );
            self.problem(d.owner.span().start, message);
        }
        Some(Dvipa {
            address: d.address.into_inner(),
            owner: owner?,
            backups,
            takeover: d.takeover,
            giveback: d.giveback,
            distribute,
        })
    }

    fn distribute(
        &mut self,
        d: &file::Distribute,
        owner: Option<&Name>,
        stacks: &[StackEntry],
    ) -> Distribute {
        if d.ports.get_ref().is_empty() {
            self.problem(d.ports.span().start, "ports = []: expected at least one port or range");
        }
        let mut ports = Vec::new();
        for p in d.ports.get_ref() {
            match port_range(p.get_ref()) {
                Some(range) => ports.push(range),
                None => self.problem(p.span().start, "expected a port from 1 or a range \"low-high\""),
            }
        }
        if d.targets.get_ref().is_empty() {
            self.problem(d.targets.span().start, "targets = []: expected at least one stack");
        }
        let method = self.method(d);
        let mut targets: Vec<Target> = Vec::new();
        for t in d.targets.get_ref() {
            let (stack, weight) = match t.get_ref() {
                file::Target::Name(stack) => (stack, None),
                file::Target::Weighted(w) => (&w.stack, Some(w.weight)),
            };
            if weight.is_some() && !method.has_weights() {
                let text = "weight goes with the methods weighted-active, wlm and maglev";
                self.problem(t.span().start, text);
            }
            let weight = match weight.map(u8::try_from) {
                None => DEFAULT_WEIGHT,
                Some(Ok(weight @ 1..)) => weight,
                Some(_) => {
                    self.problem(t.span().start, "weight: expected 1 to 255");
                    continue;
                }
            };
            let stack = Spanned::new(t.span(), stack.clone());
            let Some(name) = self.member(&stack, "target", stacks) else { continue };
            if targets.iter().any(|t| t.stack == name) {
                self.problem(t.span().start, format!("{name} stands twice among the targets"));
            }
            if Some(&name) != owner {
                for lacking in [Some(&name), owner].into_iter().flatten().filter(|n| no_xcf(stacks, n)) {
                    let message = format!(
                        "{lacking} has no xcf: distribution from {} to {name} goes over it",
                        owner.map_or("the owner", Name::as_str)
                    );
                    self.problem(t.span().start, message);
                }
            }
            targets.push(Target { stack: name, weight });
        }
        let protocol = match d.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let affinity_secs = d.affinity_secs.as_ref().map_or(0, |secs| {
            if *secs.get_ref() > MAX_AFFINITY_SECS {
                let text = format!("affinity_secs = {}: expected 0 to {MAX_AFFINITY_SECS}", secs.get_ref());
                self.problem(secs.span().start, text);
            }
            *secs.get_ref()
        });
        Distribute { protocol, ports, method, affinity_secs, targets }
    }

    fn method(&mut self, d: &file::Distribute) -> Method {
        if d.method != file::Method::HotStandby {
            for (key, value) in [("autoswitchback", &d.autoswitchback), ("healthswitch", &d.healthswitch)] {
                if let Some(value) = value {
                    self.problem(value.span().start, format!("{key} goes with method = \"hot-standby\""));
                }
            }
        }
        let on = |switch: &Option<Spanned<bool>>| switch.as_ref().is_none_or(|s| *s.get_ref());
        match d.method {
            file::Method::RoundRobin => Method::RoundRobin,
            file::Method::WeightedActive => Method::WeightedActive,
            file::Method::HotStandby => Method::HotStandby {
                autoswitchback: on(&d.autoswitchback),
                healthswitch: on(&d.healthswitch),
            },
            file::Method::Wlm => Method::Wlm,
            file::Method::Maglev => Method::Maglev,
        }
    }

    /// The stack that `s` names, with its name as it stands in its own table.
    fn member(&mut self, s: &Spanned<String>, what: &str, stacks: &[StackEntry]) -> Option<Name> {
        let found = stacks.iter().find(|e| e.name.is(s.get_ref())).map(|e| e.name.clone());
        if found.is_none() && self.many_systems {
            return self.name(s);
        }
        if found.is_none() {
            let known = stacks.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
            self.problem(
                s.span().start,
                format!("{what} {:?} is no [[stack]]: expected one of {known}", s.get_ref()),
            );
        }
        found
    }
}

fn no_xcf(stacks: &[StackEntry], name: &Name) -> bool {
    stacks.iter().any(|s| s.name == *name && s.xcf.is_none())
}

fn is_broadcast(a: IpAddr) -> bool {
    matches!(a, IpAddr::V4(v4) if v4.is_broadcast())
}

/// An address, or address and prefix length.
fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
}

fn port_range(p: &Ports) -> Option<(u16, u16)> {
    let (low, high) = match p {
        Ports::One(p) => (*p, *p),
        Ports::Range(text) => {
            let (low, high) = text.split_once('-')?;
            (low.trim().parse().ok()?, high.trim().parse().ok()?)
        }
    };
    (low > 0 && low <= high).then_some((low, high))
}

/// `stackd` beside the running program, as both are installed together.
fn default_stackd() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or_else(|| Path::new("/usr/sbin")).join("stackd")
}
