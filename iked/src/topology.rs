//! What each stack is to be, computed from the configuration and from who owns which DVIPA now.

use crate::cf;
use crate::config::{self, Config, Distribute, Dvipa, Name, StackEntry};
use crate::takeover::{self, Machine};
use stack::control::{
    Distribution, Home, KeyBytes, Member, PortRange, Role, StackConfig, SysplexLink, Target, Xcf,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Current owner of a DVIPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The stack.
    pub stack: Name,
    /// Epoch.
    pub epoch: u64,
}

/// Owners by DVIPA. A DVIPA that is missing is owned by nobody.
pub type Owners = BTreeMap<IpAddr, Ownership>;

/// Milliseconds between two heartbeats of a stack.
const HEARTBEAT_MS: u32 = 25;
/// Heartbeats that are missing before a stack counts as silent.
const MISSED_HEARTBEATS: u32 = 4;

/// Whether a stack may negotiate with an address as its own: nobody does for a DVIPA that another owns.
#[must_use]
pub fn may_use(config: &Config, owners: &Owners, stack: &Name, address: IpAddr) -> bool {
    !config.dvipas.iter().any(|d| d.address == address)
        || owners.get(&address).is_some_and(|o| o.stack == *stack)
}

/// Everything that decides what the stacks of this system are.
pub(crate) struct Plex<'a> {
    pub(crate) config: &'a Config,
    pub(crate) machine: &'a Machine,
    /// Starts of the processes of this system's stacks; 0: not known.
    pub(crate) starts: BTreeMap<Name, u64>,
    /// Stacks of other systems.
    pub(crate) remote: &'a BTreeMap<Name, (Name, cf::record::Member)>,
    /// Keys of messages between stacks: the one to seal with first.
    pub(crate) keys: &'a [KeyBytes],
    pub(crate) leased: bool,
    /// Targets that get no new connections, for one DVIPA or for all.
    pub(crate) quiesced: &'a BTreeSet<(Name, Option<IpAddr>)>,
}

impl Plex<'_> {
    /// The configuration of `entry`'s stack.
    pub(crate) fn stack_config(&self, entry: &StackEntry) -> StackConfig {
        let config = self.config;
        let here = config.stacks.iter().filter(|s| s.name != entry.name).filter_map(|s| {
            let start = self.starts.get(&s.name).copied().filter(|start| *start != 0);
            let xcf = s.xcf.as_ref()?.address;
            Some(Member { name: s.name.as_str().to_owned(), xcf, start })
        });
        let there = self.remote.iter().filter_map(|(name, (_, m))| {
            Some(Member { name: name.as_str().to_owned(), xcf: m.xcf?, start: Some(m.start) })
        });
        let fixed = entry.home.iter().map(|&address| Home { address, role: Role::Static, epoch: 0 });
        let moving = config.dvipas.iter().filter_map(|d| self.home(entry, d));
        StackConfig {
            name: entry.name.as_str().to_owned(),
            network: entry.network.clone(),
            xcf: entry.xcf.as_ref().map(|x| Xcf { interface: x.interface.clone(), address: x.address }),
            mark: entry.mark.0,
            mark_mask: entry.mark.1,
            home: fixed.chain(moving).collect(),
            members: here.chain(there).collect(),
            max_connections: entry.max_connections,
            sysplex: config
                .sysplex
                .as_ref()
                .zip(self.keys.split_first())
                .filter(|_| entry.xcf.is_some())
                .map(|(s, (key, others))| SysplexLink {
                    name: s.name.as_str().to_owned(),
                    key: key.clone(),
                    other_keys: others.to_vec(),
                    heartbeat_ms: HEARTBEAT_MS,
                    missed_heartbeats: MISSED_HEARTBEATS,
                    gre_in_udp: s.gre_in_udp,
                    leased: self.leased,
                }),
        }
    }

    fn xcf(&self, stack: &Name) -> Option<IpAddr> {
        let here = self.config.stacks.iter().find(|s| s.name == *stack).and_then(|s| s.xcf.as_ref());
        here.map(|x| x.address).or_else(|| self.remote.get(stack).and_then(|(_, m)| m.xcf))
    }

    fn home(&self, entry: &StackEntry, d: &Dvipa) -> Option<Home> {
        let stack = &entry.name;
        let (role, epoch) = match self.machine.role(d.address, stack) {
            takeover::Role::Owner { epoch } => {
                let distribution = d.distribute.iter().map(|x| self.distribution(stack, d, x)).collect();
                (Role::Owner { distribution }, epoch)
            }
            takeover::Role::Moving { owner } => {
                let distributor =
                    owner.as_ref().filter(|o| o.stack != *stack).and_then(|o| self.xcf(&o.stack));
                (Role::Moving { distributor }, owner.map_or(0, |o| o.epoch))
            }
            takeover::Role::Other { owner } if is_target(d, stack) => {
                let distributor =
                    owner.as_ref().filter(|o| o.stack != *stack).and_then(|o| self.xcf(&o.stack));
                (Role::Target { distributor }, owner.map_or(0, |o| o.epoch))
            }
            takeover::Role::Other { owner } if takes_part_in(d, stack) => {
                (Role::Backup, owner.map_or(0, |o| o.epoch))
            }
            takeover::Role::Other { .. } => return None,
        };
        Some(Home { address: d.address, role, epoch })
    }

    fn distribution(&self, owner: &Name, d: &Dvipa, x: &Distribute) -> Distribution {
        let target = |config::Target { stack, weight }: &config::Target| Target {
            name: stack.as_str().to_owned(),
            xcf: if stack == owner { None } else { self.xcf(stack) },
            weight: *weight,
            quiesced: [None, Some(d.address)].iter().any(|w| self.quiesced.contains(&(stack.clone(), *w))),
        };
        // A target of another system that was never seen has no address yet.
        let there = |t: &&config::Target| t.stack == *owner || self.xcf(&t.stack).is_some();
        Distribution {
            protocol: x.protocol,
            ports: x.ports.iter().map(|&(low, high)| PortRange { low, high }).collect(),
            method: x.method,
            targets: x.targets.iter().filter(there).map(target).collect(),
            affinity_secs: x.affinity_secs,
        }
    }
}

/// Whether a stack takes part in distribution or takeover of a DVIPA.
#[must_use]
pub fn takes_part_in(d: &Dvipa, name: &Name) -> bool {
    d.owner == *name || d.backups.contains(name) || is_target(d, name)
}

/// Whether connections to a DVIPA may end on a stack.
pub(crate) fn is_target(d: &Dvipa, name: &Name) -> bool {
    d.distribute.iter().any(|x| x.targets.iter().any(|t| t.stack == *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config() -> Config {
        let mut text = "system = 'A'\n".to_owned();
        for (n, name) in ["D1", "D2", "T1", "T2"].iter().enumerate() {
            text += &format!(
                "[[stack]]\nname = '{name}'\nnetns = '{name}'\nnetwork = ['e']\nhome = ['192.0.2.{n}']\n\
                 xcf = {{ interface = 'x', address = '10.0.0.{n}' }}\n"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("k");
        std::fs::write(&key, "00".repeat(32)).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        text += &format!(
            "[sysplex]\nname = 'P'\nkey_file = '{}'\ncoupling_facility = 'sled'\n\
             [[dvipa]]\naddress = '203.0.113.10'\nowner = 'D1'\nbackups = ['D2']\n\
             [[dvipa.distribute]]\nports = [80]\ntargets = ['T1', 'D1', 'D2']\n",
            key.display()
        );
        Config::parse(Path::new("iked.toml"), &text).unwrap()
    }

    fn roles(owner: Option<&str>) -> Vec<(String, String)> {
        let c = config();
        let vip = c.dvipas[0].address;
        let settings = takeover::Settings { system: c.system.clone(), lease: None };
        let plan = takeover::Plan {
            address: vip,
            candidates: vec![c.dvipas[0].owner.clone(), c.dvipas[0].backups[0].clone()],
            giveback: config::Giveback::Manual,
        };
        let mut machine = Machine::new(settings, c.stacks.iter().map(|s| s.name.clone()), [plan]);
        let (now, state) = (std::time::Duration::from_secs(1), takeover::StackState::Ready);
        for s in &c.stacks {
            machine.handle(now, takeover::Input::Stack { stack: s.name.clone(), state });
        }
        if let Some(owner) = owner {
            let stack = c.stack(owner).unwrap().name.clone();
            let known = takeover::Known { stack: stack.clone(), system: None, epoch: 6 };
            machine.handle(now, takeover::Input::OwnerIs { dvipa: vip, owner: Some(known) });
            machine.handle(
                now,
                takeover::Input::Claimed { dvipa: vip, stack, epoch: 7, acquired: now, records: vec![] },
            );
        }
        let (remote, quiesced) = (BTreeMap::new(), BTreeSet::new());
        let shown = |s: &StackEntry| {
            let plex = Plex {
                config: &c,
                machine: &machine,
                starts: BTreeMap::new(),
                remote: &remote,
                keys: &[],
                leased: false,
                quiesced: &quiesced,
            };
            let stack = plex.stack_config(s);
            assert_eq!(stack.home[0].role, Role::Static);
            assert_eq!(stack.members.len(), 3);
            assert!(stack.members.iter().all(|m| m.name != stack.name));
            let role = stack.home.get(1).map(|h| match &h.role {
                Role::Owner { distribution } => {
                    let targets: Vec<_> =
                        distribution[0].targets.iter().map(|t| t.xcf.map(|a| a.to_string())).collect();
                    format!("owner {} {targets:?}", h.epoch)
                }
                Role::Target { distributor: Some(distributor) } => {
                    format!("target {} {distributor}", h.epoch)
                }
                other => format!("{other:?} {}", h.epoch),
            });
            (stack.name, role.unwrap_or_default())
        };
        c.stacks.iter().map(shown).collect()
    }

    #[test]
    fn roles_follow_the_owner() {
        insta::assert_debug_snapshot!(roles(Some("D1")), @r#"
        [
            (
                "D1",
                "owner 7 [Some(\"10.0.0.2\"), None, Some(\"10.0.0.1\")]",
            ),
            (
                "D2",
                "target 7 10.0.0.0",
            ),
            (
                "T1",
                "target 7 10.0.0.0",
            ),
            (
                "T2",
                "",
            ),
        ]
    "#);
        insta::assert_debug_snapshot!(roles(Some("D2")), @r#"
        [
            (
                "D1",
                "target 7 10.0.0.1",
            ),
            (
                "D2",
                "owner 7 [Some(\"10.0.0.2\"), Some(\"10.0.0.0\"), None]",
            ),
            (
                "T1",
                "target 7 10.0.0.1",
            ),
            (
                "T2",
                "",
            ),
        ]
    "#);
        insta::assert_debug_snapshot!(roles(None), @r#"
        [
            (
                "D1",
                "Target { distributor: None } 0",
            ),
            (
                "D2",
                "Target { distributor: None } 0",
            ),
            (
                "T1",
                "Target { distributor: None } 0",
            ),
            (
                "T2",
                "",
            ),
        ]
    "#);
    }
}
