//! What a scraper of a running daemon reads is what happened.
//!
//! ```text
//!   PEER === ext === DIST === xcf === TGT1        scraper ── GET /metrics ──► unix:…/sock/metrics
//!   strongSwan       DVIPA 192.0.2.100
//! ```

use anyhow::{Context, Result, ensure};
use e2e::capture::Capture;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, Sysplex, server, swan_peer};
use e2e::{http, swan, wait};
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);

/// A scrape: the type of each metric, and each sample by its name with labels.
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the text as OpenMetrics 1.0 has it: each sample belongs to a family with a type, the end is marked.
    fn parse(text: &str) -> Result<Self> {
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
        ensure!(text.ends_with("# EOF\n"), "no end: {text}");
        for line in text.lines().filter(|l| *l != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| line.to_owned())?;
                ensure!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
                let family = name.split('{').next().unwrap_or(name);
                let suffixes = ["", "_total", "_bucket", "_sum", "_count", "_info"];
                let known = suffixes.iter().filter_map(|s| family.strip_suffix(s));
                ensure!(known.clone().any(|f| types.contains_key(f)), "no type: {line}");
                ensure!(samples.insert(name.to_owned(), value.parse()?).is_none(), "twice: {line}");
            }
        }
        Ok(Self { types, samples })
    }

    /// The sample whose name and labels these are, in any order of the labels.
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &str| {
            let (family, rest) = sample.split_once('{').unwrap_or((sample, ""));
            let has = |(key, value): &(&str, &str)| rest.contains(&format!("{key}=\"{value}\""));
            family == name && labels.iter().all(has)
        };
        self.samples.iter().find(|(sample, _)| fits(sample)).map(|(_, value)| *value)
    }
}

#[test]
fn a_scrape_of_a_running_daemon_has_what_happened() -> Result<()> {
    if swan::missing() {
        return Ok(());
    }
    let (lab, plex) = Sysplex::with_one_target("metrics")?;
    let scrape = || Scrape::parse(&plex.daemon.scrape()?);
    let dist = ("stack", "DIST");

    let first = scrape()?;
    for (name, kind) in [
        ("iked_stack_up", "gauge"),
        ("iked_ike_sas", "gauge"),
        ("iked_child_sas", "gauge"),
        ("iked_configured_tunnel_up", "gauge"),
        ("iked_dvipa_protected", "gauge"),
        ("iked_nmi_clients", "gauge"),
        ("iked_negotiations", "counter"),
        ("iked_negotiation_failures", "counter"),
        ("iked_dropped_packets", "counter"),
        ("iked_esp_packets", "counter"),
        ("iked_esp_bytes", "counter"),
        ("iked_takeovers", "counter"),
        ("iked_takeover_ready_seconds", "histogram"),
        ("iked_takeover_step_seconds", "histogram"),
        ("iked_build", "info"),
    ] {
        assert_eq!(first.types.get(name).map(String::as_str), Some(kind), "{name}");
    }
    assert_eq!(first.get("iked_stack_up", &[dist]), Some(1.0));
    assert_eq!(first.get("iked_stack_up", &[("stack", "TGT1")]), Some(1.0));
    assert_eq!(first.get("iked_configured_tunnel_up", &[dist, ("rule", "toPeer")]), Some(0.0));
    assert_eq!(first.get("iked_child_sas", &[dist, ("state", "active")]), Some(0.0));
    assert_eq!(first.get("iked_dvipa_owner", &[("dvipa", DVIPA4), dist]), Some(1.0));
    assert_eq!(first.get("iked_esp_packets_total", &[dist, ("direction", "in")]), Some(0.0));
    let started = first.get("iked_takeovers_total", &[dist, ("dvipa", DVIPA4), ("cause", "start")]);
    assert_eq!(started, Some(1.0), "the start took the DVIPA");
    let timeouts = [dist, ("reason", "timeout")];
    assert_eq!(first.get("iked_negotiation_failures_total", &timeouts), Some(0.0));

    // Nobody is there yet: a negotiation that fails for want of an answer.
    plex.daemon.ipsec("-p DIST -y activate -l toPeer")?;
    wait::until("a negotiation that timed out", LIMIT, || {
        let now = scrape()?;
        ensure!(now.get("iked_negotiation_failures_total", &timeouts) >= Some(1.0), "{:?}", now.samples);
        Ok(())
    })?;

    let peer = swan_peer(&lab)?;
    lab.frame_each_datagram("DIST", "ext")?;
    let capture = Capture::start(&lab, "DIST", "ext")?;
    plex.daemon.ipsec("-p DIST -y activate -l toPeer")?;
    wait::until("the tunnel is up", LIMIT, || {
        let now = scrape()?;
        let up = now.get("iked_configured_tunnel_up", &[dist, ("rule", "toPeer")]);
        ensure!(up == Some(1.0), "{:?}\n{}", now.samples, peer.log());
        Ok(())
    })?;
    for _ in 0..3 {
        http::get(&lab, "PEER", server(false), LIMIT)?;
    }

    // The ends of connections may still be under way: until nothing moves for a hundred looks.
    let packets = |s: &Scrape| {
        ["in", "out"]
            .map(|d| s.get("iked_esp_packets_total", &[dist, ("direction", d)]))
            .map(Option::unwrap_or_default)
    };
    let (mut before, mut looks) = ([0.0; 2], 0);
    let last = wait::until("no packet any more", LIMIT, || {
        let now = scrape()?;
        looks = if packets(&now) == before { looks + 1 } else { 0 };
        before = packets(&now);
        ensure!(looks >= 100, "{before:?} packets");
        Ok(now)
    })?;
    assert!(before.iter().all(|n| *n > 3.0), "{before:?}");
    assert_eq!(last.get("iked_child_sas", &[dist, ("state", "active")]), Some(1.0));
    assert_eq!(last.get("iked_ike_sas", &[dist, ("state", "active")]), Some(1.0));
    assert_eq!(last.get("iked_esp_pairs", &[dist]), Some(1.0));
    let success = [dist, ("kind", "child"), ("initiator", "local"), ("result", "success")];
    assert_eq!(last.get("iked_negotiations_total", &success), Some(1.0));
    assert!(last.get("iked_target_connections", &[dist, ("target", "TGT1"), ("port", "80")]).is_some());
    assert_eq!(last.get("iked_dvipa_records", &[dist, ("dvipa", DVIPA4), ("state", "failed")]), Some(0.0));
    assert_eq!(last.get("iked_nmi_client_limit", &[]), Some(50.0));

    // A counter never falls, not even when its SA goes.
    plex.daemon.ipsec("-p DIST -k deactivate -a all")?;
    wait::until("the tunnel is gone", LIMIT, || {
        let now = scrape()?;
        ensure!(now.get("iked_esp_pairs", &[dist]) == Some(0.0), "{:?}", now.samples);
        for (name, value) in &last.samples {
            let counter = name.contains("_total{") || name.contains("_bucket{") || name.contains("_count{");
            ensure!(!counter || now.samples.get(name) >= Some(value), "{name} fell");
        }
        Ok(())
    })?;
    let end = scrape()?;
    let wire = capture.finish()?.count(Seen::is_esp);
    let counted: f64 = packets(&end).iter().sum();
    assert_eq!(wire.to_string(), counted.to_string(), "every ESP packet of the wire is counted once");
    Ok(())
}
