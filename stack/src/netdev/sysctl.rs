//! Values under `/proc/sys/net` that the sorting needs, and those that they had before.
//!
//! The values before stand in a file beside the control socket, written before anything is changed: a stack that is
//! started again after `kill -9` restores the originals, not its own settings.

use super::NetDevError;
use crate::control::StackConfig;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys/net";
const HEADER: &str = "stackd-sysctl 1";

/// The values before.
#[derive(Debug)]
pub(super) struct Sysctl {
    state_file: PathBuf,
    /// Path under `/proc/sys/net` and value, in the order in which they are restored.
    originals: Vec<(String, String)>,
}

/// One value to set. `wanted` is `None` where only the value before counts, since another one changes it.
struct Change {
    path: String,
    wanted: Option<&'static str>,
}

impl Change {
    fn set(path: impl Into<String>, value: &'static str) -> Self {
        Self { path: path.into(), wanted: Some(value) }
    }

    fn remember(path: impl Into<String>) -> Self {
        Self { path: path.into(), wanted: None }
    }
}

impl Sysctl {
    /// Takes over what an earlier start in the same namespace left.
    pub(super) fn open(state_file: PathBuf) -> Self {
        let originals = fs::read_to_string(&state_file).ok().and_then(|t| parse(&t, &namespace()));
        Self { state_file, originals: originals.unwrap_or_default() }
    }

    /// Values of the TUN, before it is up; they go with it.
    pub(super) fn prepare_tun(&self, tun: &str) {
        let settings = [
            // What the stack gives back has a home address as source: an own address from outside.
            (format!("ipv4/conf/{tun}/accept_local"), "1"),
            (format!("ipv4/conf/{tun}/rp_filter"), "0"),
            (format!("ipv6/conf/{tun}/disable_ipv6"), "0"),
            // No link-local address, no router and multicast chatter into the engine.
            (format!("ipv6/conf/{tun}/addr_gen_mode"), "1"),
            (format!("ipv6/conf/{tun}/accept_ra"), "0"),
        ];
        for (path, value) in settings {
            if read(&path).is_some_and(|v| v != value) {
                write(&path, value);
            }
        }
    }

    /// Sets what is not as it has to be. Gives warnings: what was strict and is not any more, what cannot be set.
    pub(super) fn apply(
        &mut self,
        config: &StackConfig,
        tun: &str,
        v6: bool,
    ) -> Result<Vec<String>, NetDevError> {
        let mut warnings = Vec::new();
        let mut changes = forwarding_v4();
        changes.push(Change::set("ipv4/ip_early_demux", "0"));
        // Else a target answers, and asks, in the name of an address that another stack owns.
        changes.extend(at_least("ipv4/conf/all/arp_announce", "2", |v| v < 2));
        changes.extend(at_least("ipv4/conf/all/arp_ignore", "1", |v| v < 1));
        changes.extend(reverse_path(config, tun, &mut warnings));
        for name in &config.network {
            // The default lets each answer for a proxied address wait up to 0.8 s.
            changes.push(Change::set(format!("ipv4/neigh/{name}/proxy_delay"), "0"));
            if v6 {
                changes.push(Change::set(format!("ipv6/neigh/{name}/proxy_delay"), "0"));
            }
        }
        if v6 {
            changes.extend(forwarding_v6());
            changes.push(Change::set("ipv6/conf/all/proxy_ndp", "1"));
        }
        changes.retain(|c| read(&c.path).is_some_and(|v| c.wanted != Some(v.as_str())));
        self.remember(&changes)?;
        // Backwards: what forwarding needs (accept_ra) is set before forwarding itself.
        for change in changes.iter().rev() {
            if let Some(value) = change.wanted
                && !write(&change.path, value)
            {
                warnings.push(format!(
                    "net/{} is {} and cannot be set to {value}: set it for this namespace, or make /proc/sys writable",
                    change.path,
                    read(&change.path).unwrap_or_else(|| "unreadable".into()),
                ));
            }
        }
        warnings.extend(still_strict(config, tun));
        Ok(warnings)
    }

    /// Writes the values before to the file, and only then returns.
    fn remember(&mut self, changes: &[Change]) -> Result<(), NetDevError> {
        let known = self.originals.len();
        for change in changes {
            if !self.originals.iter().any(|(p, _)| *p == change.path)
                && let Some(value) = read(&change.path)
            {
                self.originals.push((change.path.clone(), value));
            }
        }
        if self.originals.len() == known && self.state_file.exists() {
            return Ok(());
        }
        let mut text = format!("{HEADER}\n{}\n", namespace());
        for (path, value) in &self.originals {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{path} {value}");
        }
        store(&self.state_file, &text)
            .map_err(|error| NetDevError::StateFile { path: self.state_file.clone(), error })
    }

    /// Puts back what was before, and forgets it.
    pub(super) fn restore(&mut self) {
        for (path, value) in self.originals.drain(..) {
            // Interfaces may have gone since.
            if read(&path).is_some_and(|v| v != value) && !write(&path, &value) {
                tracing::warn!("net/{path} cannot be set back to {value}");
            }
        }
        if let Err(error) = fs::remove_file(&self.state_file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.state_file.display(), "the state file cannot be removed");
        }
    }
}

/// IPv4 forwarding. Setting it sets every interface's own switch and turns redirects around.
fn forwarding_v4() -> Vec<Change> {
    if read("ipv4/ip_forward").as_deref() == Some("1") {
        return Vec::new();
    }
    let mut changes =
        vec![Change::set("ipv4/ip_forward", "1"), Change::remember("ipv4/conf/all/accept_redirects")];
    changes.extend(interfaces("ipv4").map(|name| Change::remember(format!("ipv4/conf/{name}/forwarding"))));
    changes
}

/// IPv6 forwarding; interfaces that learn their routes from routers go on doing so (`accept_ra` 2).
fn forwarding_v6() -> Vec<Change> {
    if read("ipv6/conf/all/forwarding").as_deref() == Some("1") {
        return Vec::new();
    }
    let mut changes = vec![Change::set("ipv6/conf/all/forwarding", "1")];
    for name in interfaces("ipv6") {
        if name != "all" {
            changes.push(Change::remember(format!("ipv6/conf/{name}/forwarding")));
        }
        if name != "all" && name != "default" {
            changes.extend(at_least(&format!("ipv6/conf/{name}/accept_ra"), "2", |v| v == 1));
        }
    }
    changes
}

/// The kernel takes the greater of `all` and the interface's own value. With 1 (strict), IPv4 IKE and ESP never reach
/// the sockets, since the way back to a peer is not the way that it came. Other interfaces stay as strict as they were.
fn reverse_path(config: &StackConfig, tun: &str, warnings: &mut Vec<String>) -> Vec<Change> {
    let value = |name: &str| read(&format!("ipv4/conf/{name}/rp_filter"));
    let all_strict = value("all").as_deref() == Some("1");
    let mut changes = Vec::new();
    for name in &config.network {
        if all_strict || value(name).as_deref() == Some("1") {
            changes.push(Change::set(format!("ipv4/conf/{name}/rp_filter"), "2"));
            warnings.push(format!(
                "rp_filter of {name} was strict (1), with which IKE and ESP never arrive; it is loose (2) while the \
                 stack runs"
            ));
        }
    }
    if all_strict {
        changes.push(Change::set("ipv4/conf/all/rp_filter", "0"));
        for name in interfaces("ipv4") {
            let ours = config.network.contains(&name) || name == tun;
            if !ours && !["all", "default", "lo"].contains(&name.as_str()) {
                changes.extend(at_least(&format!("ipv4/conf/{name}/rp_filter"), "1", |v| v == 0));
            }
        }
    }
    changes
}

/// Interfaces whose reverse path filter is strict in spite of all.
fn still_strict(config: &StackConfig, tun: &str) -> Vec<String> {
    let value =
        |name: &str| read(&format!("ipv4/conf/{name}/rp_filter")).and_then(|v| v.parse().ok()).unwrap_or(0u8);
    let all = value("all");
    let names = config.network.iter().map(String::as_str).chain([tun]);
    names
        .filter(|name| all.max(value(name)) == 1)
        .map(|name| {
            format!(
                "rp_filter of {name} is strict (1) and cannot be changed: IPv4 packets will be lost; set \
                 net.ipv4.conf.{name}.rp_filter to 2 and net.ipv4.conf.all.rp_filter to 0 or 2"
            )
        })
        .collect()
}

fn at_least(path: &str, value: &'static str, too_low: impl Fn(u32) -> bool) -> Option<Change> {
    let now = read(path)?.parse().ok()?;
    too_low(now).then(|| Change::set(path, value))
}

/// Names under `conf`, `all` and `default` among them.
fn interfaces(family: &str) -> impl Iterator<Item = String> {
    fs::read_dir(Path::new(ROOT).join(family).join("conf"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(ROOT).join(path)).ok().map(|v| v.trim().to_owned())
}

fn write(path: &str, value: &str) -> bool {
    fs::write(Path::new(ROOT).join(path), value).is_ok()
}

/// What tells this namespace from any other, also after a reboot.
fn namespace() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let (device, inode) = fs::metadata("/proc/thread-self/ns/net").map_or((0, 0), |m| (m.dev(), m.ino()));
    format!("namespace {} {device}:{inode}", boot.trim())
}

/// The values before, if the file is of this namespace. Paths that could lead out of `/proc/sys/net` void it.
fn parse(text: &str, namespace: &str) -> Option<Vec<(String, String)>> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) || lines.next() != Some(namespace) {
        return None;
    }
    lines
        .map(|line| {
            let (path, value) = line.split_once(' ')?;
            let inside = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            inside.then(|| (path.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Replaces the file in one step, mode 0600.
fn store(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_file_is_only_taken_over_in_its_own_namespace() {
        let text = format!("{HEADER}\nnamespace a 1:2\nipv4/ip_forward 0\nipv4/conf/eth0.5/rp_filter 1\n");
        let expected = [("ipv4/ip_forward", "0"), ("ipv4/conf/eth0.5/rp_filter", "1")]
            .map(|(p, v)| (p.into(), v.into()));
        assert_eq!(parse(&text, "namespace a 1:2"), Some(expected.to_vec()));
        assert_eq!(parse(&text, "namespace a 1:3"), None);
    }

    #[test]
    fn t58_a_state_file_that_points_elsewhere_is_not_used() {
        for path in ["../kernel/core_pattern", "/etc/passwd", "ipv4/./x"] {
            let text = format!("{HEADER}\nnamespace\n{path} 1\n");
            assert_eq!(parse(&text, "namespace"), None, "{path}");
        }
        assert_eq!(parse("", "namespace"), None);
    }
}
