//! Hostile policies within bounds: each is refused, with a clear message, in little time and memory. One process of its own,
//! so that its peak of memory is theirs.
#![expect(clippy::disallowed_methods, reason = "how long each takes is printed")]
#![expect(clippy::print_stdout, reason = "how long each takes is printed")]

use policy::{Source, load};
use std::time::{Duration, Instant};

/// Far above what a slow machine needs for the worst of them, far below what an attack would want.
const LONG: Duration = Duration::from_secs(60);
/// Peak of memory of the whole process, in KiB.
const MUCH: u64 = 1 << 20;

fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn hostile(name: &str, text: Vec<u8>, expected: &str) {
    let (bytes, start) = (text.len(), Instant::now());
    let Err(report) = load(&[Source::common("policy.conf", text)]) else { panic!("{name}: accepted") };
    let shown = report.to_string();
    let took = start.elapsed();
    println!("{name}: {bytes} bytes, {} errors in {:.0} ms", report.errors(), took.as_secs_f64() * 1e3);
    assert!(
        shown.contains(expected),
        "{name}: {expected:?} is not in:\n{}",
        &shown[..shown.len().min(2_000)]
    );
    assert!(shown.len() < 1 << 20, "{name}: a report of {} bytes", shown.len());
    assert!(took < LONG, "{name}: {took:?}");
}

#[test]
fn t58_hostile_policies_cost_little() {
    let block = |inner: &str| format!("IpFilterPolicy\n{{\n{inner}}}\n");
    hostile("100 MB", vec![b'a'; 100 << 20], "the file has 104857600 bytes");
    hostile("16 MB of comments", vec![b'#'; 16 << 20], "there is no IpFilterPolicy");
    let deep = "IpFilterPolicy\n{\n".repeat(10_000) + &"}\n".repeat(10_000);
    hostile("10,000 deep", deep.into(), "more than 16 blocks within one another");
    hostile("10,000 deep, never closed", "x {\n".repeat(10_000).into(), "is not closed");
    let same = "  IpFilterRuleRef  r\n".repeat(499_990);
    let rule = "IpFilterRule r\n{\n  IpGenericFilterAction\n  {\n    IpFilterAction  Permit\n  }\n}\n";
    hostile("a million words that refer to one rule", (block(&same) + rule).into(), "r");
    let nowhere: String = (0..499_000).map(|n| format!("  IpFilterRuleRef  r{n}\n")).collect();
    hostile("half a million references to nothing", block(&nowhere).into(), "there is no IpFilterRule `r0`");
    let cycle =
        "IpFilterGroup a\n{\n  IpFilterGroupRef  b\n}\nIpFilterGroup b\n{\n  IpFilterGroupRef  a\n}\n";
    hostile(
        "groups in a circle",
        (block("  IpFilterGroupRef  a\n") + cycle).into(),
        "IpFilterGroup has no parameter `IpFilterGroupRef`",
    );
    let own = "IpServiceGroup g\n{\n  IpServiceGroupRef  g\n}\nIpAddrGroup h\n{\n  IpAddrGroupRef  h\n}\n";
    let in_itself = block("  IpFilterRuleRef  r\n") + rule + own;
    hostile("groups in themselves", in_itself.into(), "IpServiceGroup has no parameter `IpServiceGroupRef`");
    hostile("NUL", b"IpFilterPolicy\n{\n  \0\n}\n".to_vec(), "control character");
    hostile("not UTF-8", b"IpFilterPolicy\n{\n  \xc3\x28\n}\n".to_vec(), "not UTF-8");
    let kinds: String = (0..200_000).map(|n| format!("IpAddr a{n} {{ Addr 10.0.0.1 }}\n")).collect();
    hostile("a million words of objects", kinds.into(), "the file has more than 1000000 words");
    let peak = peak_kib();
    println!("peak of memory: {peak:?} KiB");
    assert!(peak.is_none_or(|kib| kib < MUCH), "{peak:?} KiB");
}
