//! The values of one scrape, asked of the core as the management interface asks.

use super::Sources;
use crate::ike::view::{Census, StateCounts};
use crate::request::vipa::{DvipaState, DvipaStatus, Protection, VipaRequest};
use crate::request::{CoreError, CoreRequest, Snapshot, Want};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the core may take for one question.
const CORE_PATIENCE: Duration = Duration::from_secs(5);

/// A set of labels and how it is named.
macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),+ })+) => {$(
        #[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
        struct $name { $($field: $type),+ }
    )+};
}

labels! {
    OfStack { stack: String }
    InState { stack: String, state: &'static str }
    Judged { stack: String, verdict: &'static str }
    Going { stack: String, direction: &'static str }
    Negotiated { stack: String, kind: &'static str, initiator: &'static str, result: &'static str }
    Refused { stack: String, kind: &'static str }
    Because { stack: String, reason: String }
    OfRule { stack: String, rule: String }
    OfDvipa { dvipa: String, stack: String }
    OfRecords { dvipa: String, stack: String, state: &'static str }
    OfTarget { dvipa: String, stack: String, target: String, port: u16 }
    Reason { reason: &'static str }
}

type Counts<L> = Family<L, Counter>;
type Gauges<L> = Family<L, Gauge>;

/// All metrics of a scrape, empty.
#[derive(Default)]
struct Metrics {
    up: Gauges<OfStack>,
    ike_sas: Gauges<InState>,
    child_sas: Gauges<InState>,
    rules: Gauges<OfRule>,
    negotiations: Counts<Negotiated>,
    retransmits: Counts<Refused>,
    replays: Counts<Refused>,
    invalid: Counts<Refused>,
    authentication_failures: Counts<OfStack>,
    cookies: Counts<OfStack>,
    packets: Counts<Judged>,
    drops: Counts<Because>,
    esp_packets: Counts<Going>,
    esp_bytes: Counts<Going>,
    esp_pairs: Gauges<OfStack>,
    owner: Gauges<OfDvipa>,
    epoch: Gauges<OfDvipa>,
    protected: Gauges<OfDvipa>,
    records: Gauges<OfRecords>,
    connections: Gauges<OfTarget>,
    clients: Gauge,
    client_limit: Gauge,
    refused: Counts<Reason>,
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Metrics {
    fn encode(self, sources: &Sources) -> String {
        let mut r = Registry::with_prefix("iked");
        r.register("build", "Version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        r.register("stack_up", "1 if the stack works, 0 if not", self.up);
        r.register("ike_sas", "IKE SAs by state", self.ike_sas);
        r.register("child_sas", "Child SAs by state", self.child_sas);
        r.register("configured_tunnel_up", "1 if a LocalDynVpnRule has an active child SA", self.rules);
        r.register("negotiations", "Negotiations by kind, initiator and result", self.negotiations);
        r.register("ike_retransmits", "IKE requests that were sent again", self.retransmits);
        r.register("ike_replays", "IKE messages that were received again", self.replays);
        r.register("ike_invalid", "IKE messages that were not valid", self.invalid);
        r.register(
            "ike_authentication_failures",
            "Authentications that failed",
            self.authentication_failures,
        );
        r.register("ike_cookies", "Peers that were asked for a cookie", self.cookies);
        r.register("filter_packets", "Packets by what the filters said", self.packets);
        r.register("dropped_packets", "Packets dropped, by reason", self.drops);
        r.register("esp_packets", "Packets through SAs, by direction", self.esp_packets);
        r.register("esp_bytes", "Bytes of the packets inside SAs, by direction", self.esp_bytes);
        r.register("esp_pairs", "SA pairs that the stack holds", self.esp_pairs);
        r.register("dvipa_owner", "1 at the stack that owns the DVIPA", self.owner);
        r.register("dvipa_epoch", "Epoch of the owner", self.epoch);
        r.register(
            "dvipa_protected",
            "1 if a takeover would find everything, 0 if not; of DVIPAs that this stack owns",
            self.protected,
        );
        r.register("dvipa_records", "Records of SAs in the coupling facility, by state", self.records);
        r.register("target_connections", "Connections by DVIPA, port and target", self.connections);
        r.register("nmi_clients", "Clients of the management interface", self.clients);
        r.register("nmi_client_limit", "Clients that are served at a time", self.client_limit);
        r.register("nmi_refused", "What the management interface refused or ended, by reason", self.refused);
        sources.meters.register(&mut r);
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &r) {
            tracing::warn!(%error, "metrics could not be written");
            text.clear();
        }
        text
    }

    fn summary(&self, stack: &str, s: &Snapshot) {
        let Census { ike, children, .. } = &s.census;
        for (family, counts) in [(&self.ike_sas, ike), (&self.child_sas, children)] {
            for (state, count) in states(counts) {
                family.get_or_create(&InState { stack: stack.to_owned(), state }).set(count.into());
            }
        }
        for (rule, up) in &s.configured {
            let label = OfRule { stack: stack.to_owned(), rule: rule.clone() };
            self.rules.get_or_create(&label).set((*up).into());
        }
        let (e, i) = (&s.engine, &s.engine.ike);
        for (kind, initiator, result, count) in [
            ("ike", "local", "success", e.local_success),
            ("ike", "local", "failure", e.local_failure),
            ("ike", "remote", "success", e.remote_success),
            ("ike", "remote", "failure", e.remote_failure),
            ("child", "local", "success", i.child_local_success),
            ("child", "local", "failure", i.child_local_failure),
            ("child", "remote", "success", i.child_remote_success),
            ("child", "remote", "failure", i.child_remote_failure),
        ] {
            let label = Negotiated { stack: stack.to_owned(), kind, initiator, result };
            self.negotiations.get_or_create(&label).inc_by(count);
        }
        for (family, ike, child) in [
            (&self.retransmits, i.retransmits, i.child_retransmits),
            (&self.replays, i.replays, i.child_replays),
            (&self.invalid, i.invalid, i.child_invalid),
        ] {
            for (kind, count) in [("ike", ike), ("child", child)] {
                family.get_or_create(&Refused { stack: stack.to_owned(), kind }).inc_by(count);
            }
        }
        let of_stack = OfStack { stack: stack.to_owned() };
        self.authentication_failures.get_or_create(&of_stack).inc_by(i.auth_failures);
        self.cookies.get_or_create(&of_stack).inc_by(e.cookies);
        let t = &s.totals;
        for (verdict, count) in [("permit", t.permits), ("deny", t.denies), ("mismatch", t.mismatches)] {
            self.packets.get_or_create(&Judged { stack: stack.to_owned(), verdict }).inc_by(count);
        }
    }

    fn parts(&self, stack: &str, s: &Snapshot) {
        for drop in &s.drops {
            let label = Because { stack: stack.to_owned(), reason: drop.reason.clone() };
            self.drops.get_or_create(&label).inc_by(drop.packets);
        }
        if let Some(t) = &s.traffic {
            for (direction, packets, bytes) in
                [("in", t.in_packets, t.in_bytes), ("out", t.out_packets, t.out_bytes)]
            {
                let label = Going { stack: stack.to_owned(), direction };
                self.esp_packets.get_or_create(&label).inc_by(packets);
                self.esp_bytes.get_or_create(&label).inc_by(bytes);
            }
            self.esp_pairs.get_or_create(&OfStack { stack: stack.to_owned() }).set(gauge(t.pairs));
        }
        for t in &s.targets {
            let label = OfTarget {
                dvipa: t.dvipa.to_string(),
                stack: stack.to_owned(),
                target: t.target.clone(),
                port: t.port,
            };
            self.connections.get_or_create(&label).set(gauge(t.active));
        }
    }

    fn dvipa(&self, stack: &str, d: &DvipaStatus) {
        let label = OfDvipa { dvipa: d.address.to_string(), stack: stack.to_owned() };
        let owns = d.state == DvipaState::Active;
        self.owner.get_or_create(&label).set(owns.into());
        self.epoch.get_or_create(&label).set(gauge(d.owner.as_ref().map_or(0, |o| o.epoch)));
        if owns && d.protection != Protection::NotApplicable {
            self.protected.get_or_create(&label).set((d.protection == Protection::Stored).into());
            for (state, count) in [("stored", d.stored), ("failed", d.failed)] {
                let label = OfRecords { dvipa: d.address.to_string(), stack: stack.to_owned(), state };
                self.records.get_or_create(&label).set(count.into());
            }
        }
    }
}

const fn states(c: &StateCounts) -> [(&'static str, u32); 5] {
    [
        ("pending", c.pending),
        ("in_negotiation", c.in_negotiation),
        ("active", c.active),
        ("expired", c.expired),
        ("half_closed", c.half_closed),
    ]
}

/// One scrape. What does not answer in time is left out; the rest is there.
pub async fn gather(sources: &Sources) -> String {
    let m = Metrics::default();
    m.clients.set(gauge(sources.nmi.clients() as u64));
    m.client_limit.set(gauge(sources.nmi.limit() as u64));
    for (reason, count) in sources.nmi.refused() {
        m.refused.get_or_create(&Reason { reason }).inc_by(count);
    }
    for stack in ask(sources, CoreRequest::Stacks).await.unwrap_or_default() {
        let name = stack.name;
        m.up.get_or_create(&OfStack { stack: name.clone() }).set(stack.active.into());
        sources.meters.introduce(&name);
        if !stack.active {
            continue;
        }
        let display = async |want| {
            let stack = name.clone();
            ask(sources, |reply| CoreRequest::Display { stack, want, reply }).await?.ok()
        };
        if let Some(s) = display(Want::Summary).await {
            m.summary(&name, &s);
        }
        for want in [Want::Traffic, Want::Drops, Want::Distribution] {
            if let Some(s) = display(want).await {
                m.parts(&name, &s);
            }
        }
        let stack = name.clone();
        let dvipas = vipa(sources, |reply| VipaRequest::Display { stack, reply }).await;
        for d in dvipas.unwrap_or_default() {
            m.dvipa(&name, &d);
        }
    }
    m.encode(sources)
}

async fn vipa<T>(
    sources: &Sources,
    question: impl FnOnce(oneshot::Sender<Result<T, CoreError>>) -> VipaRequest,
) -> Option<T> {
    ask(sources, |reply| CoreRequest::Vipa(question(reply))).await?.ok()
}

/// A question to the core; `None`: no answer in time.
async fn ask<T>(sources: &Sources, question: impl FnOnce(oneshot::Sender<T>) -> CoreRequest) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        sources.core.send(question(reply)).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(CORE_PATIENCE, exchange).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nmi::{Config, Server};
    use std::collections::BTreeSet;

    /// Words of a text that begin as the names of metrics do.
    fn names(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|w| w.starts_with("iked_")).collect()
    }

    /// A sample of each: families without one are not written.
    fn one_of_each() -> Metrics {
        let m = Metrics::default();
        let stack = || "S".to_owned();
        let of_stack = OfStack { stack: stack() };
        for family in [&m.up, &m.esp_pairs] {
            drop(family.get_or_create(&of_stack));
        }
        for family in [&m.ike_sas, &m.child_sas] {
            drop(family.get_or_create(&InState { stack: stack(), state: "active" }));
        }
        drop(m.rules.get_or_create(&OfRule { stack: stack(), rule: stack() }));
        let negotiated = Negotiated { stack: stack(), kind: "ike", initiator: "local", result: "success" };
        drop(m.negotiations.get_or_create(&negotiated));
        for family in [&m.retransmits, &m.replays, &m.invalid] {
            drop(family.get_or_create(&Refused { stack: stack(), kind: "ike" }));
        }
        for family in [&m.authentication_failures, &m.cookies] {
            drop(family.get_or_create(&of_stack));
        }
        drop(m.packets.get_or_create(&Judged { stack: stack(), verdict: "deny" }));
        drop(m.drops.get_or_create(&Because { stack: stack(), reason: stack() }));
        for family in [&m.esp_packets, &m.esp_bytes] {
            drop(family.get_or_create(&Going { stack: stack(), direction: "in" }));
        }
        for family in [&m.owner, &m.epoch, &m.protected] {
            drop(family.get_or_create(&OfDvipa { dvipa: stack(), stack: stack() }));
        }
        let records = OfRecords { dvipa: stack(), stack: stack(), state: "stored" };
        drop(m.records.get_or_create(&records));
        let target = OfTarget { dvipa: stack(), stack: stack(), target: stack(), port: 80 };
        drop(m.connections.get_or_create(&target));
        drop(m.refused.get_or_create(&Reason { reason: "nmi_refused_failed" }));
        m
    }

    #[tokio::test]
    async fn every_metric_is_documented_and_the_dashboard_asks_for_no_other() {
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let (core, _) = tokio::sync::mpsc::channel(1);
        let server = Server::bind(Config::new(folder.path().join("s"), "SYSA")).unwrap();
        let sources = Sources { core, nmi: server.statistics(), meters: crate::metrics::Meters::default() };
        assert!(gather(&sources).await.ends_with("# EOF\n"), "without a core, too");
        sources.meters.introduce("S");
        sources.meters.one_takeover();
        let text = one_of_each().encode(&sources);
        let types: BTreeSet<(&str, &str)> =
            text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let samples = |(name, kind): &(&str, &str)| match *kind {
            "counter" => vec![format!("{name}_total")],
            "info" => vec![format!("{name}_info")],
            "histogram" => ["", "_bucket", "_sum", "_count"].iter().map(|s| format!("{name}{s}")).collect(),
            _ => vec![(*name).to_owned()],
        };
        let known: BTreeSet<String> = types.iter().flat_map(samples).collect();
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let table = std::fs::read_to_string(docs.join("metrics.md")).unwrap();
        let dashboard = std::fs::read_to_string(docs.join("grafana/iked.json")).unwrap();
        for (what, text) in [("metrics.md", &table), ("the dashboard", &dashboard)] {
            for name in names(text) {
                assert!(known.contains(name), "{what} has {name}, which there is not");
            }
        }
        for named in types.iter().map(|t| samples(t).remove(0)) {
            assert!(names(&table).contains(named.as_str()), "{named} is not in metrics.md");
            assert!(
                dashboard.contains(&named) || !named.starts_with("iked_takeover_"),
                "{named} is not in the dashboard"
            );
        }
    }
}
