//! Samples of a stack, and what changed between the last two of them.

use nmi_proto::client::{Client, ClientError};
use nmi_proto::display::{DropCount, DvipaRecord, DynStackRecord, Statistics, VipaTarget};
use std::collections::BTreeMap;
use std::time::Instant;

/// Values of one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) stack: String,
    pub(super) summary: Statistics,
    pub(super) tunnels: Vec<DynStackRecord>,
    pub(super) drops: Vec<DropCount>,
    pub(super) dvipas: Vec<DvipaRecord>,
    pub(super) targets: Vec<VipaTarget>,
}

impl Sample {
    /// Asks the daemon.
    pub(super) fn take(client: &mut Client, stack: &str, at: Instant) -> Result<Self, ClientError> {
        Ok(Self {
            at,
            stack: stack.to_owned(),
            summary: client.summary(stack)?,
            tunnels: client.dynamic_tunnels(stack, &[])?.records,
            drops: client.drops(stack)?.records,
            dvipas: client.dvipas(stack, &[])?.records,
            targets: client.vipa_targets(stack, &[])?.records,
        })
    }
}

/// Per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) in_bits: f64,
    pub(super) out_bits: f64,
    pub(super) in_packets: f64,
    pub(super) out_packets: f64,
}

impl Rates {
    pub(super) fn bits(&self) -> f64 {
        self.in_bits + self.out_bits
    }

    fn add(&mut self, other: &Self) {
        self.in_bits += other.in_bits;
        self.out_bits += other.out_bits;
        self.in_packets += other.in_packets;
        self.out_packets += other.out_packets;
    }
}

/// One tunnel, all of its SAs together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// `Y` number.
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) peer: String,
    pub(super) generation: u32,
    pub(super) rule: String,
    pub(super) rates: Rates,
}

/// The last two samples.
#[derive(Debug, Default)]
pub(super) struct Model {
    before: Option<Sample>,
    last: Option<Sample>,
}

impl Model {
    pub(super) fn push(&mut self, sample: Sample) {
        self.before = self.last.replace(sample);
    }

    pub(super) const fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// Seconds between the samples; `None`: there is only one.
    fn seconds(&self) -> Option<f64> {
        let (before, last) = (self.before.as_ref()?, self.last.as_ref()?);
        let seconds = last.at.saturating_duration_since(before.at).as_secs_f64();
        (seconds > 0.0).then_some(seconds)
    }

    /// What a counter grew by, per second. One that fell began anew: its stack was started again.
    fn rate(&self, counter: impl Fn(&Sample) -> u64) -> f64 {
        let (Some(before), Some(last), Some(seconds)) = (&self.before, &self.last, self.seconds()) else {
            return 0.0;
        };
        per_second(counter(before), counter(last), seconds)
    }

    pub(super) fn denied(&self) -> f64 {
        self.rate(|s| s.summary.packets_deny)
    }

    pub(super) fn mismatched(&self) -> f64 {
        self.rate(|s| s.summary.packets_mismatch)
    }

    /// Drops per second by reason, the most first; those without any are left out.
    pub(super) fn drops(&self) -> Vec<(&str, f64)> {
        let Some(last) = &self.last else { return Vec::new() };
        let count =
            |s: &Sample, reason: &str| s.drops.iter().find(|d| d.reason == reason).map_or(0, |d| d.packets);
        let mut all: Vec<_> = last
            .drops
            .iter()
            .map(|d| (d.reason.as_str(), self.rate(|s| count(s, d.reason.as_str()))))
            .filter(|(_, rate)| *rate > 0.0)
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }

    /// New connections per second of a target.
    pub(super) fn connections(&self, target: &VipaTarget) -> f64 {
        let same = |t: &&VipaTarget| {
            (t.dvipa, t.protocol, t.port_low, &t.target)
                == (target.dvipa, target.protocol, target.port_low, &target.target)
        };
        self.rate(|s| s.targets.iter().find(same).map_or(0, |t| t.total))
    }

    /// Tunnels and their rates, by number; and the sum of all rates.
    pub(super) fn rows(&self) -> (Vec<Row>, Rates) {
        let Some(last) = &self.last else { return (Vec::new(), Rates::default()) };
        let seconds = self.seconds();
        // An SA that was not there before has carried nothing before.
        let before: BTreeMap<u32, &DynStackRecord> =
            self.before.iter().flat_map(|s| &s.tunnels).map(|t| (t.tunnel.in_encryption_spi, t)).collect();
        let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
        let mut sum = Rates::default();
        for t in &last.tunnels {
            let old = before.get(&t.tunnel.in_encryption_spi).map(|t| t.usage.clone()).unwrap_or_default();
            let rate = |old, new| seconds.map_or(0.0, |s| per_second(old, new, s));
            let rates = Rates {
                in_bits: rate(old.in_bytes, t.usage.in_bytes) * 8.0,
                out_bits: rate(old.out_bytes, t.usage.out_bytes) * 8.0,
                in_packets: rate(old.in_packets, t.usage.in_packets),
                out_packets: rate(old.out_packets, t.usage.out_packets),
            };
            sum.add(&rates);
            let id = t.tunnel.id.as_str();
            let number = id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(u64::MAX);
            let row = rows.entry(number).or_insert_with(|| Row {
                number,
                id: id.to_owned(),
                peer: t.tunnel.remote_endpoint.ip(t.tunnel.ipv6).to_string(),
                generation: 0,
                rule: String::new(),
                rates: Rates::default(),
            });
            row.rates.add(&rates);
            if t.dynamic.generation >= row.generation {
                row.generation = t.dynamic.generation;
                let rule = if t.dynamic.rule.is_blank() { &t.tunnel.vpn_action } else { &t.dynamic.rule };
                row.rule = rule.as_str().to_owned();
            }
        }
        (rows.into_values().collect(), sum)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn per_second(before: u64, last: u64, seconds: f64) -> f64 {
    last.checked_sub(before).unwrap_or(last) as f64 / seconds
}
