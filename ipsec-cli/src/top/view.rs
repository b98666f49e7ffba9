//! The screen as lines: pure, so that every screen can be a test.

use super::model::{Model, Rates, Row, Sample};
use nmi_proto::display::{DvipaRecord, VipaTarget};
use std::cmp::Ordering;
use std::time::Duration;

/// Lines that DVIPAs and targets may take.
const VIPA_LINES: usize = 6;

/// By what tunnels are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Total,
    In,
    Out,
    Number,
    Peer,
    Rule,
}

impl Sort {
    pub(super) const ALL: [Self; 6] =
        [Self::Total, Self::In, Self::Out, Self::Number, Self::Peer, Self::Rule];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|s| *s == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Total => "traffic",
            Self::In => "in",
            Self::Out => "out",
            Self::Number => "tunnel",
            Self::Peer => "peer",
            Self::Rule => "rule",
        }
    }

    /// Rates fall, names rise.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let order = match self {
            Self::Total => b.rates.bits().total_cmp(&a.rates.bits()),
            Self::In => b.rates.in_bits.total_cmp(&a.rates.in_bits),
            Self::Out => b.rates.out_bits.total_cmp(&a.rates.out_bits),
            Self::Number => Ordering::Equal,
            Self::Peer => a.peer.cmp(&b.peer),
            Self::Rule => a.rule.cmp(&b.rule),
        };
        order.then(a.number.cmp(&b.number))
    }
}

/// What the operator chose.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) interval: Duration,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    /// Part of a tunnel id, peer or rule.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    /// First tunnel that is shown.
    pub(super) first: usize,
}

/// The lines of a window of so many columns and rows; never more of either.
pub(super) fn screen(model: &Model, settings: &Settings, (columns, rows): (u16, u16)) -> Vec<String> {
    let (columns, height) = (usize::from(columns), usize::from(rows));
    let Some(sample) = model.last() else { return Vec::new() };
    let (tunnels, sum) = model.rows();
    let mut lines = head(model, sample, settings, &sum);
    lines.extend(vipas(model, sample));
    lines.push(drops(model));
    lines.push(format!(
        "{:<7} {:<22} {:>3} {:>7} {:>7} {:>7} {:>7}  RULE",
        "TUNNEL", "PEER", "SA", "IN b/s", "OUT b/s", "IN p/s", "OUT p/s"
    ));
    let room = height.saturating_sub(lines.len() + 1);
    let selected = select(tunnels, settings);
    let first = settings.first.min(selected.len().saturating_sub(room.min(selected.len())));
    lines.extend(selected.iter().skip(first).take(room).map(line));
    lines.truncate(height.saturating_sub(1));
    lines.resize(height.saturating_sub(1), String::new());
    lines.push(foot(settings, first, selected.len()));
    lines.iter().map(|l| fit(l, columns)).collect()
}

fn head(model: &Model, sample: &Sample, settings: &Settings, sum: &Rates) -> Vec<String> {
    let s = &sample.summary;
    let paused = if settings.paused { "  PAUSED" } else { "" };
    vec![
        format!("ipsec top  stack {}  every {:.1} s{paused}", sample.stack, settings.interval.as_secs_f64()),
        format!(
            "IKE SAs {} active, {} in negotiation   dynamic {} active, {} in negotiation",
            s.phase1_active, s.phase1_in_progress, s.phase2_active, s.phase2_in_progress
        ),
        format!(
            "in {} bit/s {} p/s   out {} bit/s {} p/s   deny {}/s   mismatch {}/s",
            scaled(sum.in_bits),
            scaled(sum.in_packets),
            scaled(sum.out_bits),
            scaled(sum.out_packets),
            scaled(model.denied()),
            scaled(model.mismatched())
        ),
    ]
}

/// DVIPAs with their targets, as many as there is room for.
fn vipas(model: &Model, sample: &Sample) -> Vec<String> {
    let mut lines = Vec::new();
    for d in &sample.dvipas {
        lines.push(dvipa(d));
        let own = |t: &&VipaTarget| t.dvipa == d.dvipa.address && t.ipv6 == d.dvipa.ipv6;
        lines.extend(sample.targets.iter().filter(own).map(|t| target(model, t)));
    }
    if lines.len() > VIPA_LINES {
        let more = lines.len() - (VIPA_LINES - 1);
        lines.truncate(VIPA_LINES - 1);
        lines.push(format!("  … {more} more lines: ipsec vipa, ipsec vipa targets"));
    }
    lines
}

fn dvipa(d: &DvipaRecord) -> String {
    let v = &d.dvipa;
    let owner = if v.owner.is_blank() { "nobody" } else { v.owner.as_str() };
    let protection = v.cf_state.to_string();
    let protection = protection.rsplit('_').next().unwrap_or_default().to_ascii_lowercase();
    format!(
        "DVIPA {}  owner {owner} epoch {}  {} IKE, {} child SAs  records {}",
        v.address.ip(v.ipv6),
        v.epoch,
        v.ike_sas,
        v.child_sas,
        if protection == "applicable" { "-" } else { &protection },
    )
}

fn target(model: &Model, t: &VipaTarget) -> String {
    let known = |known: bool, text: String| if known { text } else { "?".to_owned() };
    let ports = match (t.port_low, t.port_high) {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low}-{high}"),
    };
    let state = match (t.quiesced, t.path_known, t.path_up) {
        (true, _, _) => "quiesced",
        (_, true, false) => "path down",
        (_, false, _) => "path unknown",
        _ => "up",
    };
    format!(
        "  {:<8} port {ports:<11} servers {:>3}  conns {:>6}  new {:>5}/s  {state}",
        t.target.as_str(),
        known(t.ready_known, t.ready.to_string()),
        known(t.connections_known, t.active.to_string()),
        scaled(model.connections(t)),
    )
}

fn drops(model: &Model) -> String {
    let all: Vec<_> =
        model.drops().iter().map(|(reason, rate)| format!("{reason} {}", scaled(*rate))).collect();
    format!("Drops/s: {}", if all.is_empty() { "none".to_owned() } else { all.join("  ") })
}

fn select(rows: Vec<Row>, settings: &Settings) -> Vec<Row> {
    let wanted = settings.filter.to_ascii_lowercase();
    let fits =
        |r: &Row| [&r.id, &r.peer, &r.rule].iter().any(|text| text.to_ascii_lowercase().contains(&wanted));
    let mut rows: Vec<_> = rows.into_iter().filter(fits).collect();
    rows.sort_by(|a, b| settings.sort.compare(a, b));
    if settings.reverse {
        rows.reverse();
    }
    rows
}

fn line(r: &Row) -> String {
    let v = &r.rates;
    format!(
        "{:<7} {:<22} {:>3} {:>7} {:>7} {:>7} {:>7}  {}",
        r.id,
        r.peer,
        r.generation,
        scaled(v.in_bits),
        scaled(v.out_bits),
        scaled(v.in_packets),
        scaled(v.out_packets),
        r.rule
    )
}

fn foot(settings: &Settings, first: usize, number: usize) -> String {
    if settings.typing {
        return format!("filter: {}_   (Enter takes it, Esc drops it)", settings.filter);
    }
    let order = if settings.reverse { "up" } else { "down" };
    let filter =
        if settings.filter.is_empty() { String::new() } else { format!("  filter {}", settings.filter) };
    let from = if number == 0 { 0 } else { first + 1 };
    format!(
        "{from}/{number} by {} {order}{filter}   q quit  s sort  r reverse  / filter  p pause  n stack",
        settings.sort.name()
    )
}

/// At most so many columns; nothing that would steer a terminal.
fn fit(line: &str, columns: usize) -> String {
    line.chars().map(|c| if c.is_control() { '?' } else { c }).take(columns).collect()
}

/// Three digits and a decimal prefix: `0`, `512`, `12.3k`, `4.56G`.
fn scaled(value: f64) -> String {
    const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut prefix = 0;
    // What rounds to a thousand has the next prefix.
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let digits = match value {
        v if prefix == 0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{}", PREFIXES[prefix])
}

#[cfg(test)]
mod tests {
    use super::*;
    use nmi_proto::code::{CfProtection, DvipaState};
    use nmi_proto::display::{
        DropCount, Dvipa, DynStackRecord, IpDynTunnel, IpDynamicStack, IpTunnel, Statistics,
    };
    use std::net::IpAddr;
    use std::time::Instant;

    fn tunnel(n: u32, peer: &str, rule: &str, bytes: u64) -> DynStackRecord {
        let peer: IpAddr = peer.parse().unwrap();
        DynStackRecord {
            tunnel: IpTunnel {
                id: format!("Y{n}").as_str().into(),
                ipv6: peer.is_ipv6(),
                remote_endpoint: peer.into(),
                in_encryption_spi: n,
                vpn_action: "gcmTunnel".into(),
                ..IpTunnel::default()
            },
            dynamic: IpDynTunnel { generation: 1, rule: rule.into(), ..IpDynTunnel::default() },
            usage: IpDynamicStack {
                in_bytes: bytes,
                out_bytes: bytes / 10,
                in_packets: bytes / 1000,
                out_packets: bytes / 2000,
                ..IpDynamicStack::default()
            },
            dist: None,
        }
    }

    fn sample(at: Instant, factor: u64) -> Sample {
        let dvipa: IpAddr = "192.0.2.100".parse().unwrap();
        let peers = ["203.0.113.20", "2001:db8:2::11", "198.51.100.7"];
        let tunnels = (1..=30u32).map(|n| {
            let rule = if n % 2 == 0 { "toBranch" } else { "" };
            tunnel(n, peers[n as usize % 3], rule, u64::from(n) * 1_000_000 * factor)
        });
        let target = |name: &str, active| VipaTarget {
            dvipa: dvipa.into(),
            target: name.into(),
            port_low: 80,
            port_high: 80,
            protocol: 6,
            ready_known: true,
            ready: 1,
            path_known: true,
            path_up: name != "TGT2",
            connections_known: true,
            active,
            total: active * 10 * factor,
            ..VipaTarget::default()
        };
        Sample {
            at,
            stack: "DIST".into(),
            summary: Statistics {
                phase1_active: 3,
                phase2_active: 30,
                phase2_in_progress: 1,
                packets_deny: 8 * factor,
                ..Statistics::default()
            },
            tunnels: tunnels.collect(),
            drops: vec![
                DropCount { reason: "no_filter_match".into(), packets: 8 * factor },
                DropCount { reason: "replayed".into(), packets: 5 },
            ],
            dvipas: vec![DvipaRecord {
                dvipa: Dvipa {
                    address: dvipa.into(),
                    owner: "DIST".into(),
                    epoch: 4,
                    state: DvipaState::ACTIVE,
                    cf_state: CfProtection::STORED,
                    ike_sas: 3,
                    child_sas: 30,
                    ..Dvipa::default()
                },
                backups: Vec::new(),
            }],
            targets: vec![target("TGT1", 12), target("TGT2", 3)],
        }
    }

    fn model() -> Model {
        #[expect(clippy::disallowed_methods, reason = "any moment")]
        let begin = Instant::now();
        let mut model = Model::default();
        model.push(sample(begin, 1));
        model.push(sample(begin + Duration::from_secs(2), 3));
        model
    }

    fn shown(settings: &Settings, size: (u16, u16)) -> String {
        let lines = screen(&model(), settings, size);
        assert_eq!(lines.len(), usize::from(size.1));
        assert!(lines.iter().all(|l| l.chars().count() <= usize::from(size.0)), "{lines:#?}");
        lines.iter().map(|l| l.trim_end().to_owned() + "\n").collect()
    }

    fn settings() -> Settings {
        Settings { interval: Duration::from_secs(2), ..Settings::default() }
    }

    #[test]
    fn a_window_of_80_by_24_has_everything() {
        insta::assert_snapshot!(shown(&settings(), (80, 24)));
    }

    #[test]
    fn tunnels_are_filtered_sorted_and_scrolled() {
        let chosen = Settings {
            sort: Sort::Peer,
            reverse: true,
            filter: "TOBRANCH".into(),
            first: 12,
            paused: true,
            ..settings()
        };
        insta::assert_snapshot!(shown(&chosen, (80, 16)));
        let typing = Settings { typing: true, filter: "203.".into(), ..settings() };
        let text = shown(&typing, (80, 24));
        assert!(text.contains("203.0.113.20") && !text.contains("198.51.100.7"), "{text}");
        assert!(text.trim_end().ends_with("filter: 203._   (Enter takes it, Esc drops it)"), "{text}");
    }

    #[test]
    fn any_window_is_filled_and_never_more() {
        for size in [(1, 1), (20, 3), (80, 8), (200, 60), (0, 0)] {
            let lines = screen(&model(), &settings(), size);
            assert!(lines.len() <= usize::from(size.1).max(1), "{size:?}");
            assert!(lines.iter().all(|l| l.chars().count() <= usize::from(size.0)), "{size:?}");
        }
        assert!(screen(&Model::default(), &settings(), (80, 24)).is_empty());
    }

    #[test]
    fn numbers_have_three_digits_and_controls_are_not_sent() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (456_000_000.0, "456M"),
            (7_890_000_000.0, "7.89G"),
        ] {
            assert_eq!(scaled(value), text);
        }
        assert_eq!(fit("a\u{1b}[2Jb", 80), "a?[2Jb");
    }
}
