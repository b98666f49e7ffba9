//! Profiles of stacks: VIPADYNAMIC of all of them together is another spelling of `[[dvipa]]`, IPSEC of the default
//! filters, DYNAMICXCF of the XCF address.
//!
//! A profile is written from the view of one stack, the configuration from that of the DVIPA: who defines it owns it, who
//! backs it up comes in the order of rank, and the owner's VIPADISTRIBUTE is in force wherever the DVIPA is.

use super::check::Checker;
use super::file::{self, Ports, Protocol};
use super::{Giveback, StackEntry, Takeover};
use policy::Source;
use policy::profile::{self, Moveable, Profile, VipaRole};
use std::net::IpAddr;
use std::path::Path;
use toml::Spanned;

/// The profile of one stack.
pub(super) struct Loaded {
    /// Where the configuration names it.
    at: usize,
    /// The stack, as its table spells it.
    stack: String,
    pub(super) profile: Profile,
}

impl Loaded {
    /// IPSEC, where IPCONFIG says that it has an effect.
    pub(super) fn ipsec(&self) -> Option<profile::Ipsec> {
        let p = &self.profile;
        p.ipsec.clone().filter(|_| p.ipsecurity || p.ipsecurity6)
    }

    /// DYNAMICXCF.
    pub(super) fn xcf(&self) -> Option<IpAddr> {
        self.profile.xcf4.or(self.profile.xcf6).map(|x| x.address)
    }
}

impl Checker<'_> {
    /// Reads the profile of the stack called `stack`.
    pub(super) fn profile(&mut self, stack: &str, path: &Spanned<std::path::PathBuf>) -> Option<Loaded> {
        let at = path.span().start;
        let path = self.path(path.get_ref());
        let text = match super::read_bounded(&path) {
            Ok(text) => text,
            Err(reason) => {
                self.problem(at, format!("{}: {reason}", path.display()));
                return None;
            }
        };
        match profile::load(&Source::stack(shown(&path), text.into_bytes())) {
            Ok((profile, _)) => Some(Loaded { at, stack: stack.to_owned(), profile }),
            Err(report) => {
                self.problem(at, format!("the profile of {stack}:\n{report}"));
                None
            }
        }
    }

    /// The DVIPAs that the profiles define.
    pub(super) fn profile_dvipas(
        &mut self,
        profiles: &[Loaded],
        stacks: &[StackEntry],
    ) -> Vec<Spanned<file::Dvipa>> {
        let mut dvipas = Vec::new();
        for owner in profiles {
            for vipa in owner.profile.vipas.iter().filter(|v| v.role == VipaRole::Owner) {
                let mut backups: Vec<(u8, &Loaded)> = profiles
                    .iter()
                    .filter_map(|p| Some((backup_rank(&p.profile, vipa.address)?, p)))
                    .collect();
                backups.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
                let distribute = self.distributions(owner, vipa.address, stacks);
                let dvipa = file::Dvipa {
                    address: owner.place(vipa.address),
                    owner: owner.place(owner.stack.clone()),
                    backups: backups.iter().map(|(_, p)| p.place(p.stack.clone())).collect(),
                    takeover: Takeover::default(),
                    giveback: match vipa.moveable {
                        Some(Moveable::WhenIdle) => Giveback::WhenIdle,
                        Some(Moveable::Immediate) | None => Giveback::Immediate,
                    },
                    distribute,
                };
                dvipas.push(owner.place(dvipa));
            }
        }
        let defined = |a: IpAddr| {
            profiles
                .iter()
                .any(|p| p.profile.vipas.iter().any(|v| v.address == a && v.role == VipaRole::Owner))
        };
        for (loaded, vipa) in profiles.iter().flat_map(|p| p.profile.vipas.iter().map(move |v| (p, v))) {
            if !defined(vipa.address) {
                self.problem(
                    loaded.at,
                    format!(
                        "VIPABACKUP {} in the profile of {}: no profile here has VIPADEFINE for it",
                        vipa.address, loaded.stack
                    ),
                );
            }
        }
        dvipas
    }

    fn distributions(
        &mut self,
        owner: &Loaded,
        address: IpAddr,
        stacks: &[StackEntry],
    ) -> Vec<Spanned<file::Distribute>> {
        let mut made = Vec::new();
        for d in owner.profile.distributions.iter().filter(|d| d.address == address) {
            let refuse = |c: &mut Self, what: &str| {
                c.problem(
                    owner.at,
                    format!("VIPADISTRIBUTE {address} in the profile of {}: {what}", owner.stack),
                );
            };
            if d.optlocal.is_some_and(|n| n > 0) {
                refuse(self, "OPTLOCAL is not supported: expected NOOPTLOCAL");
            }
            if d.sysplex_ports {
                refuse(self, "SYSPLEXPORTS is not supported");
            }
            let (method, switches) = match d.method {
                // Weights come from the capacity of hosts: servers of one host share it.
                profile::Method::BaseWlm | profile::Method::ServerWlm => (file::Method::Wlm, None),
                profile::Method::RoundRobin => (file::Method::RoundRobin, None),
                profile::Method::WeightedActive => (file::Method::WeightedActive, None),
                profile::Method::HotStandby { autoswitchback, healthswitch } => {
                    (file::Method::HotStandby, Some((autoswitchback, healthswitch)))
                }
            };
            let mut named: Vec<&profile::Target> = d.targets.iter().collect();
            if method == file::Method::HotStandby {
                // The preferred one, then the backups from the highest rank down.
                named.sort_by_key(|t| t.backup_rank.map_or((0, 0), |rank| (1, u8::MAX - rank)));
            }
            let place = |stack: &StackEntry, weight: Option<u8>| {
                let stack = stack.name.as_str().to_owned();
                owner.place(match weight {
                    Some(weight) => file::Target::Weighted(file::Weighted { stack, weight: weight.into() }),
                    None => file::Target::Name(stack),
                })
            };
            let mut targets = Vec::new();
            if named.is_empty() {
                targets.extend(stacks.iter().filter(|s| s.xcf.is_some()).map(|s| place(s, None)));
            }
            for target in named {
                let found = stacks.iter().find(|s| s.xcf.as_ref().is_some_and(|x| x.address == target.xcf));
                let weight = (method == file::Method::WeightedActive).then_some(target.weight);
                match found {
                    Some(stack) => targets.push(place(stack, weight)),
                    None => refuse(self, &format!("no stack has the XCF address {}", target.xcf)),
                }
            }
            // Without PORT: every port on which a server listens.
            let all = [(1, u16::MAX)];
            let coded: Vec<_> = d.ports.iter().map(|p| (p.low(), p.high())).collect();
            let ports = if coded.is_empty() { &all[..] } else { &coded };
            let ports = ports.iter().map(|(a, b)| owner.place(Ports::Range(format!("{a}-{b}"))));
            made.push(owner.place(file::Distribute {
                ports: owner.place(ports.collect()),
                protocol: Protocol::Tcp,
                method,
                autoswitchback: switches.map(|(back, _)| owner.place(back)),
                healthswitch: switches.map(|(_, health)| owner.place(health)),
                affinity_secs: Some(owner.place(d.affinity_secs)),
                targets: owner.place(targets),
            }));
        }
        made
    }
}

impl Loaded {
    /// A value that the profile says, at the place where the configuration names the profile.
    fn place<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(self.at..self.at, value)
    }
}

fn backup_rank(profile: &Profile, address: IpAddr) -> Option<u8> {
    profile.vipas.iter().filter(|v| v.address == address).find_map(|v| match v.role {
        VipaRole::Backup { rank } => Some(rank),
        VipaRole::Owner => None,
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
