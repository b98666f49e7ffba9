//! What each stack is to be, computed from the configuration and from who owns which DVIPA now.

use crate::config::{Config, Dvipa, Method, Name, StackEntry};
use stack::control::{
    Distribution, Home, Member, Method as StackMethod, PortRange, Role, StackConfig, Target, Xcf,
};
use std::collections::BTreeMap;
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

/// The configuration of `entry`'s stack.
#[must_use]
pub fn stack_config(config: &Config, entry: &StackEntry, owners: &Owners) -> StackConfig {
    let others = config.stacks.iter().filter(|s| s.name != entry.name);
    let members = others.filter_map(|s| {
        s.xcf.as_ref().map(|x| Member { name: s.name.as_str().to_owned(), xcf: x.address, start: None })
    });
    let fixed = entry.home.iter().map(|&address| Home { address, role: Role::Static, epoch: 0 });
    let moving = config.dvipas.iter().filter_map(|d| home(config, entry, d, owners.get(&d.address)));
    StackConfig {
        name: entry.name.as_str().to_owned(),
        network: entry.network.clone(),
        xcf: entry.xcf.as_ref().map(|x| Xcf { interface: x.interface.clone(), address: x.address }),
        mark: entry.mark.0,
        mark_mask: entry.mark.1,
        home: fixed.chain(moving).collect(),
        members: members.collect(),
        sysplex: None,
        max_connections: entry.max_connections,
    }
}

/// Whether a stack takes part in distribution or takeover of a DVIPA.
#[must_use]
pub fn takes_part_in(d: &Dvipa, name: &Name) -> bool {
    d.owner == *name || d.backups.contains(name) || is_target(d, name)
}

fn is_target(d: &Dvipa, name: &Name) -> bool {
    d.distribute.iter().any(|x| x.targets.contains(name))
}

fn home(config: &Config, entry: &StackEntry, d: &Dvipa, owner: Option<&Ownership>) -> Option<Home> {
    let epoch = owner.map_or(0, |o| o.epoch);
    let role = match owner {
        Some(o) if o.stack == entry.name => Role::Owner {
            distribution: d.distribute.iter().map(|x| distribution(config, entry, x)).collect(),
        },
        Some(o) if is_target(d, &entry.name) => {
            // Checked with the configuration: owner and target of another stack have XCF.
            let distributor = config.stacks.iter().find(|s| s.name == o.stack)?.xcf.as_ref()?.address;
            Role::Target { distributor: Some(distributor) }
        }
        _ if takes_part_in(d, &entry.name) => Role::Backup,
        _ => return None,
    };
    Some(Home { address: d.address, role, epoch })
}

fn distribution(config: &Config, owner: &StackEntry, d: &crate::config::Distribute) -> Distribution {
    let target = |name: &Name| {
        let xcf =
            config.stacks.iter().find(|s| s.name == *name).and_then(|s| s.xcf.as_ref()).map(|x| x.address);
        Target {
            name: name.as_str().to_owned(),
            xcf: if *name == owner.name { None } else { xcf },
            weight: 10,
            quiesced: false,
        }
    };
    Distribution {
        protocol: d.protocol,
        ports: d.ports.iter().map(|&(low, high)| PortRange { low, high }).collect(),
        method: match d.method {
            Method::RoundRobin => StackMethod::RoundRobin,
        },
        affinity_secs: 0,
        targets: d.targets.iter().map(target).collect(),
    }
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
        let owners: Owners = owner
            .map(|o| (vip, Ownership { stack: c.stack(o).unwrap().name.clone(), epoch: 7 }))
            .into_iter()
            .collect();
        let shown = |s: &StackEntry| {
            let stack = stack_config(&c, s, &owners);
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
                "Backup 0",
            ),
            (
                "D2",
                "Backup 0",
            ),
            (
                "T1",
                "Backup 0",
            ),
            (
                "T2",
                "",
            ),
        ]
    "#);
    }
}
