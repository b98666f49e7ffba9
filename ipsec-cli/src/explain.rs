//! `explain` and `--check`: what a policy file says, without a daemon.

use crate::exit::{self, Failure};
use crate::traffic;
use nmi_proto::code::Direction;
use policy::explain::{self, Miss, Outcome, Packet, Verdict};
use policy::model::Moment;
use policy::{Diagnostic, MAX_FILE_BYTES, Policy, Source};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the operands of `-t` do not say of a packet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Details {
    /// Forwarded by this host.
    pub(crate) routed: bool,
    /// A fragment other than the first.
    pub(crate) fragment: bool,
    /// A TCP segment that opens a connection.
    pub(crate) opens: bool,
    /// Seconds since 1970 UTC; `None`: now.
    pub(crate) at: Option<i64>,
}

/// What is printed, and the exit code.
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) code: u8,
}

/// Checks policy files: every fault at once.
pub(crate) fn check(common: Option<&Path>, file: &Path) -> Result<Told, Failure> {
    Ok(match load(common, file)? {
        Ok((_, warnings)) => {
            let mut text: String = warnings.iter().map(|w| format!("{w}\n")).collect();
            let _ = writeln!(text, "{}: good", file.display());
            Told { text, code: exit::SUCCESS }
        }
        Err(report) => Told { text: format!("{report}\n"), code: exit::FAILED },
    })
}

/// Says what a policy does with a packet: the filters in the order searched, why each does not match, and the end.
pub(crate) fn explain(
    common: Option<&Path>,
    file: &Path,
    operands: &[String],
    details: Details,
) -> Result<Told, Failure> {
    let packet = traffic::Packet::parse(operands)?;
    let policy = match load(common, file)? {
        Ok((policy, _)) => policy,
        Err(report) => return Ok(Told { text: format!("{report}\n"), code: exit::FAILED }),
    };
    let at = moment(details.at);
    let mut text = String::new();
    let both = [Direction::OUTBOUND, Direction::INBOUND];
    for direction in both.into_iter().filter(|d| packet.direction().is_none_or(|wanted| wanted == *d)) {
        let inbound = direction == Direction::INBOUND;
        let asked = packet.for_policy(inbound, details.routed, details.fragment, details.opens);
        tell(&policy, at, asked, &packet, &mut text);
    }
    Ok(Told { text, code: exit::SUCCESS })
}

fn tell(policy: &Policy, at: Moment, asked: Packet, shown: &traffic::Packet, text: &mut String) {
    let way = if asked.inbound { "in" } else { "out" };
    let _ = writeln!(text, "{way}: {shown}");
    let mut elsewhere = 0;
    for step in explain::trace(policy, at, asked) {
        let name = format!("{}.{}", step.filter.rule.name, step.filter.extension);
        match step.verdict {
            // Each rule has filters of both directions and families: what is not this packet's is not worth a line.
            Verdict::Miss(Miss::Direction | Miss::Family) => elsewhere += 1,
            Verdict::Miss(miss) => {
                let _ = writeln!(text, "  {name:<34} no: {miss}");
            }
            Verdict::Match => {
                let _ = writeln!(text, "  {name:<34} matches");
            }
            Verdict::Stop => {
                let _ = writeln!(
                    text,
                    "  {name:<34} ends the search: it would keep the packet back if it showed its ports"
                );
            }
        }
    }
    if elsewhere > 0 {
        let _ = writeln!(text, "  (of the other direction or address family: {elsewhere})");
    }
    let _ = writeln!(text, "  => {}", outcome(&explain::answer(policy, at, asked)));
}

fn outcome(outcome: &Outcome<'_>) -> String {
    match outcome {
        Outcome::Permit(f) => format!("permitted in clear by {}", f.rule.name),
        Outcome::Deny(f) => format!("denied by {}", f.rule.name),
        Outcome::Manual(f) => {
            let tunnel = f.rule.man_vpn().map_or_else(String::new, |m| format!(" {}", m.name));
            format!("by the manual tunnel{tunnel} of {}; denied while that is not active", f.rule.name)
        }
        Outcome::Dynamic(f, None) => {
            format!("permitted if a dynamic tunnel of {} brought it, denied otherwise", f.rule.name)
        }
        Outcome::Dynamic(f, Some(Ok(start))) => format!(
            "protected by the dynamic tunnel of {}; where there is none, one is negotiated on demand:\n     {} -> {} by KeyExchangeRule {}, for {} <-> {}",
            f.rule.name,
            start.local_endpoint,
            start.remote_endpoint,
            start.exchange.name,
            start.traffic.local,
            start.traffic.remote
        ),
        Outcome::Dynamic(f, Some(Err(why))) => {
            format!("protected by the dynamic tunnel of {}; denied where there is none: {why}", f.rule.name)
        }
        Outcome::ImplicitDeny => "denied: no rule matches (SYSDEFAULTDENYRULE)".to_owned(),
        Outcome::FragmentDeny(f) => {
            format!("denied: a fragment without ports, which {} may have meant", f.rule.name)
        }
    }
}

/// A policy with its warnings, or all that is wrong with it.
type Loaded = Result<(Policy, Vec<Diagnostic>), policy::Report>;

fn load(common: Option<&Path>, file: &Path) -> Result<Loaded, Failure> {
    let mut sources = Vec::new();
    if let Some(path) = common {
        sources.push(Source::common(path.display().to_string(), read(path)?));
    }
    sources.push(Source::stack(file.display().to_string(), read(file)?));
    Ok(policy::load(&sources))
}

/// One byte more than a policy may have, so that a larger one is refused as what it is.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::Input(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[expect(clippy::disallowed_methods, reason = "time conditions are about now: the clock enters here")]
fn moment(at: Option<i64>) -> Moment {
    let unix = at.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let offset = jiff::Timestamp::from_second(unix)
        .map_or(0, |stamp| jiff::tz::TimeZone::system().to_offset(stamp).seconds());
    Moment { unix, local_offset: offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn sample(path: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/samples").join(path)
    }

    fn told(file: &str, line: &str, details: Details) -> String {
        explain(None, &sample(file), &words(line), details).unwrap().text
    }

    #[test]
    fn the_search_is_told_and_its_end() {
        let at = Details { at: Some(1_795_176_000), ..Details::default() };
        let host = "1-host-to-host/s1.conf";
        insta::assert_snapshot!(
            "explain",
            [
                told(host, "192.0.2.10 203.0.113.20 udp 500 500", at),
                told(host, "192.0.2.10 203.0.113.20 tcp 40000 443 out", at),
                told(host, "192.0.2.10 203.0.113.21 tcp 40000 443 out", at),
                told(
                    "2-subnet/gate1.conf",
                    "192.0.2.130 198.51.100.7 tcp 1 2 out",
                    Details { routed: true, ..at }
                ),
                told("3-manual/here.conf", "192.0.2.10 203.0.113.30 icmp 8 0 out", at),
                told(
                    "4-dvipa/common.conf",
                    "192.0.2.80 203.0.113.5 tcp 443 50000 out",
                    Details { opens: true, ..at }
                ),
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_file_is_checked_without_a_daemon() {
        let good = check(None, &sample("1-host-to-host/s1.conf")).unwrap();
        assert_eq!(good.code, exit::SUCCESS, "{}", good.text);
        assert!(good.text.ends_with("s1.conf: good\n"), "{}", good.text);
        let bad = check(None, &sample("4-dvipa/d1.profile")).unwrap();
        assert_eq!(bad.code, exit::FAILED);
        assert!(bad.text.contains("policy refused"), "{}", bad.text);
        assert!(check(None, Path::new("/nowhere")).is_err());
    }
}
