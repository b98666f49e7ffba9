//! Policy files: read, checked, translated; the [`PolicySource`] of the daemon.

use super::{Keyring, filters, manual, outer_header, rules};
use crate::config::{Config, StackEntry, UdpEncapsulation};
use crate::ike::command::{ActivationMethod, Initiate};
use crate::ike::rules::{ExchangeRule, Rules, Settings};
use crate::policies::{ManualTunnel, PolicySource, StackPolicy, StartError};
use policy::model::Moment;
use policy::select::NoStart;
use policy::{Diagnostic, MAX_FILE_BYTES, Policy, Source};
use stack::control::{Acquire, DfMode, FilterSet};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// Warnings that are remembered, so that the stacks that share a file do not repeat each other's.
const MAX_REMEMBERED: usize = 1_000;

/// The policy files of a configuration.
pub struct Files {
    common: Option<PathBuf>,
    keyring: Option<PathBuf>,
    settings: Settings,
    warned: BTreeSet<String>,
}

impl Files {
    /// The common file; that of a stack is named by its entry.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let settings = Settings {
            retransmit_initial: config.ike.init_wait,
            retransmit_tries: config.ike.retries,
            force_udp: config.ike.udp_encapsulation == UdpEncapsulation::Always,
            ..Settings::default()
        };
        Self {
            common: config.policy.clone(),
            keyring: config.ike.keyring.clone(),
            settings,
            warned: BTreeSet::new(),
        }
    }

    fn warn(&mut self, warning: String) {
        if self.warned.len() >= MAX_REMEMBERED {
            self.warned.clear();
        }
        if self.warned.insert(warning.clone()) {
            warn!("{}", warning.trim_end());
        }
    }
}

impl PolicySource for Files {
    fn load(&mut self, stack: &StackEntry) -> Result<Arc<dyn StackPolicy>, String> {
        let common = self.common.clone().map(|path| (read(&path, MAX_FILE_BYTES), path));
        let own = stack.policy.clone().map(|path| (read(&path, MAX_FILE_BYTES), path));
        let mut sources = Vec::new();
        for (number, file) in [common, own].into_iter().enumerate() {
            let Some((text, path)) = file else { continue };
            let (bytes, mode) = text?;
            if holds_secret(&bytes) {
                is_private(&path, mode)?;
            }
            let name = path.display().to_string();
            sources.push(if number == 0 { Source::common(name, bytes) } else { Source::stack(name, bytes) });
        }
        if sources.is_empty() {
            return Err("the configuration names no policy file".to_owned());
        }
        let (policy, warnings) =
            policy::load_for(&sources, super::SUPPORTED).map_err(|report| report.to_string())?;
        for warning in warnings.iter().map(Diagnostic::to_string) {
            self.warn(warning);
        }
        // What cannot be translated is refused now; when its time comes it can be.
        manual::tunnels(&policy, moment(0))?;
        let keyring = self.keyring.as_deref().map(Keyring::read).transpose()?;
        let exchange = rules::exchange(&policy, keyring.as_ref())?;
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        for warning in keyring.iter().flat_map(|keyring| keyring.warnings(now)) {
            self.warn(warning);
        }
        Ok(Arc::new(Translated { policy, exchange, settings: self.settings.clone() }))
    }

    fn default_filters(&self, stack: &StackEntry) -> FilterSet {
        match &stack.default_filters {
            Some(ipsec) => filters::profile_filter_set(ipsec, 0),
            None => filters::default_filter_set(0),
        }
    }
}

/// Whether nobody but its owner can use a file of this mode, which holds keys.
pub(super) fn is_private(path: &Path, mode: u32) -> Result<(), String> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!(
        "{}: it holds keys and its mode {:03o} lets others than its owner use it: chmod 600",
        path.display(),
        mode & 0o777
    ))
}

/// Bytes and mode of a file, which is not read when it has more bytes than `most`.
pub(super) fn read(path: &Path, most: usize) -> Result<(Vec<u8>, u32), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    // One byte more than is accepted, so that a file that is too large is seen as such, also when it grows.
    let limit = most as u64 + 1;
    // Of its final size from the start, so that no copy of a key is left behind.
    let size = usize::try_from(meta.len().min(limit)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        return Err(format!(
            "{}: {} bytes, at most {most} are accepted",
            path.display(),
            meta.len().max(limit)
        ));
    }
    Ok((bytes, meta.mode()))
}

/// Whether a parameter of it is a key: SharedKey, or Key of a manual tunnel.
fn holds_secret(bytes: &[u8]) -> bool {
    let mut words = bytes.split(|b| b.is_ascii_whitespace());
    words.any(|word| [&b"SharedKey"[..], b"Key"].iter().any(|key| word.eq_ignore_ascii_case(key)))
}

/// An instant on the clock of the host: time conditions may be about its local time.
fn moment(unix: u64) -> Moment {
    let unix = i64::try_from(unix).unwrap_or(i64::MAX);
    let offset = jiff::Timestamp::from_second(unix)
        .map_or(0, |at| jiff::tz::TimeZone::system().to_offset(at).seconds());
    Moment { unix, local_offset: offset }
}

/// A policy, as the core sees it, and the settings that are not policy's.
struct Translated {
    policy: Policy,
    exchange: Vec<ExchangeRule>,
    settings: Settings,
}

impl StackPolicy for Translated {
    fn filters(&self, unix: u64) -> FilterSet {
        filters::filter_set(&self.policy, moment(unix), 0)
    }
    fn rules(&self, unix: u64) -> Rules {
        rules::rules(&self.policy, &self.exchange, moment(unix))
    }
    fn next_change(&self, unix: u64) -> Option<u64> {
        let next = policy::compile::next_change(&self.policy, moment(unix))?;
        // The clocks of summer and winter time: what is asked again too early asks once more.
        u64::try_from(next).ok()
    }
    fn settings(&self) -> Settings {
        rules::settings(&self.policy, &self.settings)
    }
    fn manual_tunnels(&self, unix: u64) -> Vec<ManualTunnel> {
        // It could be when it was loaded, and time changes nothing but what is installed.
        manual::tunnels(&self.policy, moment(unix)).unwrap_or_default()
    }
    fn local_rules(&self) -> Vec<String> {
        self.policy.local_dyn_vpn.iter().map(|rule| rule.name.to_string()).collect()
    }
    fn auto_activate(&self) -> Vec<String> {
        let auto = self.policy.local_dyn_vpn.iter().filter(|rule| rule.auto_activate);
        auto.map(|rule| rule.name.to_string()).collect()
    }
    fn start_named(&self, name: &str, method: ActivationMethod) -> Result<Initiate, StartError> {
        let rule = self.policy.local_dyn_vpn_rule(name).ok_or(StartError::NotFound)?;
        rules::start_by_rule(&self.policy, rule, method).map_err(|reason| match reason {
            NoStart::NoFilterRule => StartError::NoFilterRule,
            NoStart::NoEndpoints | NoStart::NoExchangeRule { .. } => StartError::NoKeyExchangeRule,
            NoStart::NotInitiator | NoStart::NotOnDemand => StartError::NotAllowed,
        })
    }
    fn start_on_demand(&self, acquire: &Acquire) -> Result<Initiate, String> {
        rules::start_on_demand(&self.policy, acquire).map_err(|reason| reason.to_string())
    }
    fn df(&self, vpn_action: &str) -> DfMode {
        outer_header(&self.policy, vpn_action).df
    }
    fn copy_dscp(&self, vpn_action: &str) -> bool {
        outer_header(&self.policy, vpn_action).copy_dscp
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::SAMPLE;
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    fn files(common: Option<&Path>) -> Files {
        Files {
            common: common.map(Path::to_owned),
            keyring: None,
            settings: Settings::default(),
            warned: BTreeSet::new(),
        }
    }
    fn entry(policy: Option<PathBuf>) -> StackEntry {
        StackEntry {
            name: crate::config::Name::parse("TCPCS1").unwrap(),
            netns: None,
            network: vec![],
            xcf: None,
            home: vec![],
            policy,
            default_filters: None,
            stackd: PathBuf::new(),
            mark: (0, 0),
            max_connections: 1,
            defense: crate::config::Defense::default(),
        }
    }

    fn write_secret(path: &Path, text: &str) {
        write(path, text).unwrap();
        set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn t27_a_file_with_keys_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.conf");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            write(&path, SAMPLE).unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = files(Some(&path)).load(&entry(None)).err().unwrap();
            assert!(error.contains("policy.conf: it holds keys and its mode"), "{error}");
            assert!(error.contains("chmod 600"), "{error}");
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(files(Some(&path)).load(&entry(None)).is_ok());
        // Without keys it is nobody's secret.
        write_secret(
            &path,
            "IpFilterPolicy\n{\n  IpFilterRule a\n  {\n    IpGenericFilterAction\n    {\n      IpFilterAction  Deny\n    }\n  }\n}\n",
        );
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(files(Some(&path)).load(&entry(None)).is_ok());
    }

    #[test]
    fn what_the_stacks_cannot_do_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.conf");
        write_secret(&path, &SAMPLE.replace("IpFilterPolicy\n{", "IpFilterPolicy\n{\n  FIPS140 Yes"));
        let error = files(Some(&path)).load(&entry(None)).err().unwrap();
        assert!(error.contains("FIPS140 Yes is not supported yet"), "{error}");
        assert!(error.contains("policy.conf:"), "{error}");
    }

    #[test]
    fn manual_tunnels_come_with_the_policy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.conf");
        write_secret(&path, include_str!("../../../policy/tests/accept/manual.conf"));
        let policy = files(Some(&path)).load(&entry(None)).unwrap();
        let rules = policy.filters(0).rules;
        assert!(rules.iter().all(|r| r.action == stack::control::FilterAction::Manual));
        assert_eq!(rules[0].anchor(), Some(policy.manual_tunnels(0)[0].pair.rule.clone()));
    }

    #[test]
    fn a_file_becomes_filters_rules_and_starts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.conf");
        write_secret(&path, SAMPLE);
        let policy = files(Some(&path)).load(&entry(None)).unwrap();
        assert_eq!(policy.filters(1_795_176_000).rules.len(), 10);
        assert_eq!(policy.rules(1_795_176_000).exchange.len(), 2);
        assert_eq!(policy.auto_activate(), ["branchNet"]);
        assert!(policy.start_named("branchNet", ActivationMethod::Auto).is_ok());
        let error = |name| policy.start_named(name, ActivationMethod::Command).unwrap_err();
        assert_eq!((error("nowhere"), error("gone")), (StartError::NoFilterRule, StartError::NotFound));
        assert_eq!((policy.df("strong"), policy.copy_dscp("strong")), (DfMode::Set, false));
    }

    #[test]
    fn a_stacks_own_file_replaces_blocks_of_the_common_one() {
        let dir = tempfile::tempdir().unwrap();
        let (common, own) = (dir.path().join("common.conf"), dir.path().join("own.conf"));
        write_secret(&common, SAMPLE);
        write(&own, "IpFilterPolicy\n{\n  PreDecap On\n  IpFilterRuleRef web\n}\n").unwrap();
        let policy = files(Some(&common)).load(&entry(Some(own))).unwrap();
        assert!(policy.filters(1_795_176_000).predecap);
        assert!(policy.filters(1_795_176_000).rules.iter().all(|r| r.name == "web"));
    }

    #[test]
    fn t58_what_cannot_be_used_is_said_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, text: Option<&str>| {
            let path = dir.path().join(name);
            if let Some(text) = text {
                write(&path, text).unwrap();
            }
            files(Some(&path)).load(&entry(None)).err().unwrap()
        };
        assert!(refused("gone.conf", None).contains("gone.conf: No such file"));
        assert!(refused("bad.conf", Some("IpFilterPolicy\n{\n  Nope  1\n}\n")).contains("bad.conf:3:3"));
        let folder = files(Some(dir.path())).load(&entry(None)).err().unwrap();
        assert!(folder.contains("not a regular file"), "{folder}");
        let none = files(None).load(&entry(None)).err().unwrap();
        assert_eq!(none, "the configuration names no policy file");
        let huge = dir.path().join("huge.conf");
        File::create(&huge).unwrap().set_len(100 << 20).unwrap();
        let huge = files(Some(&huge)).load(&entry(None)).err().unwrap();
        assert!(huge.contains("huge.conf: 104857600 bytes"), "{huge}");
    }

    #[test]
    fn a_rule_is_in_force_in_its_time_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.conf");
        let text = "IpFilterPolicy\n{\n  IpFilterRule nights\n  {\n    IpTimeCondition\n    {\n      TimeOfDayRange  22:00-06:00\n      TimeZone  UTC\n    }\n    IpGenericFilterAction\n    {\n      IpFilterAction  Permit\n    }\n  }\n}\n";
        write(&path, text).unwrap();
        let Ok(policy) = files(Some(&path)).load(&entry(None)) else { panic!("refused") };
        let (noon, night) = (1_795_176_000, 1_795_176_000 + 11 * 3_600);
        assert_eq!((policy.filters(noon).rules.len(), policy.filters(night).rules.len()), (0, 4));
        assert_eq!(policy.next_change(noon), Some(1_795_176_000 + 10 * 3_600));
    }

    #[test]
    fn without_a_policy_ike_can_still_be_spoken() {
        let set = files(None).default_filters(&entry(None));
        assert!(!set.policy && !set.rules.is_empty());
    }
}
