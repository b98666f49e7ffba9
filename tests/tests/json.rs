//! Every report of `ipsec` from a running system: its JSON is what `docs/json.md` says, and its three text layouts show the
//! same entries under the heading that belongs to it.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 TGT1
//!   strongSwan            DVIPA 192.0.2.100, 2001:db8:2::100
//! ```

use anyhow::{Context, Result, ensure};
use e2e::scenario::{DVIPA4, PEER4, Sysplex, server};
use e2e::schema::Schema;
use e2e::{http, wait};
use std::collections::BTreeSet;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The displays of one stack; the traffic test has operands.
const DISPLAYS: [(&str, &str); 17] = [
    ("-f display", "Filter"),
    ("-f display -c policy", "Filter"),
    ("-f display -c profile", "Filter"),
    ("-t 192.0.2.11 192.0.2.100 tcp 0 80 in", "IP Traffic Test"),
    ("-F display", "Defensive Filt"),
    ("-y display", "Dynamic tunnel"),
    ("-y display -b", "Dynamic tunnel"),
    ("-y display -s", "Dynamic tunnel"),
    ("-k display", "IKE tunnel"),
    ("-k display -e -c all", "IKE tunnel"),
    ("-m display", "Manual tunnel"),
    ("-i", "Interface"),
    ("-o display", "NATT Port Trans"),
    ("--drops", "Drops"),
    ("--vipa", "Distribution"),
    ("vipa", "DVIPA"),
    ("vipa targets", "DVIPA targets"),
];

#[test]
fn every_report_is_as_documented_in_json_and_complete_in_every_layout() -> Result<()> {
    let Some((lab, plex, peer)) = Sysplex::with_strongswan("json")? else { return Ok(()) };
    peer.initiate("v4")?;
    wait::until("a page", LIMIT, || http::get(&lab, "PEER", server(false), Duration::from_secs(10)))?;
    let daemon = &plex.daemon;
    let schema = Schema::read()?;
    let mut seen = BTreeSet::new();
    let mut check = |line: &str| -> Result<usize> {
        let report = daemon.json(line)?;
        let name = schema.check(&report).with_context(|| format!("ipsec {line}"))?;
        seen.insert(name);
        Ok(report["entries"].as_array().map_or(0, Vec::len))
    };

    check(&format!("-p DIST -F add srcip {PEER4} prot udp destport 9 mode simulate -N sample"))?;
    check("-p DIST -F update lifetime 5 -N sample")?;
    for (line, primary) in DISPLAYS {
        let entries = check(&format!("-p DIST {line}"))?;
        let needs = !["-y display -s", "-m display", "-o display"].contains(&line);
        ensure!(entries > 0 || !needs, "ipsec {line}: nothing to see");
        for (format, shown) in [("short", "Short"), ("detail", "Detail"), ("wide", "Wide")] {
            let text = daemon.ipsec(&format!("-p DIST {line} -r {format}"))?;
            let lines: Vec<&str> = text.lines().collect();
            ensure!(lines.len() > 4 && lines[0].contains("Stack Name: DIST"), "{line}: {text}");
            let heading = |at: usize, words: &[&str]| words.iter().all(|w| lines[at].contains(w));
            ensure!(heading(1, &["Primary:", primary, "Function:", "Format:", shown]), "{line}: {text}");
            ensure!(heading(2, &["Source:", "Scope:", "TotAvail:"]), "{line}: {text}");
            let last = lines.last().copied().unwrap_or_default();
            ensure!(last.ends_with(" entries selected"), "{line} -r {format}: {text}");
            // Counters may move between two commands, the number of these does not.
            if !line.contains("-k") && !line.contains("drops") {
                ensure!(last == format!("{entries} entries selected"), "{line} -r {format}: {text}");
            }
        }
    }
    check("-p DIST vipa history")?;
    for line in ["-w", "-x", "--whoami", "-F -G"] {
        check(line)?;
    }

    // Selections that match nothing are no failure, controls of nothing are.
    for line in ["-f display -n none", "-y display -a Y999", "-k display -n none", "-F display -N none"] {
        ensure!(check(&format!("-p DIST {line}"))? == 0, "{line}");
    }
    for line in ["-y deactivate -a Y999", "-k refresh -a K999", "-y activate -l none", "-F delete -N none"] {
        let output = e2e::process::run(&mut daemon.ipsec_command(&format!("-p DIST {line} --json"))?)?;
        ensure!(output.status.code() == Some(1), "{line}: {output:?}");
        let report = serde_json::from_slice(&output.stdout)?;
        seen.insert(schema.check(&report).with_context(|| format!("ipsec {line}"))?);
    }
    let mut done = |line: &str| -> Result<()> {
        let report = daemon.json(&format!("-p DIST {line}"))?;
        seen.insert(schema.check(&report).with_context(|| format!("ipsec {line}"))?);
        Ok(())
    };
    let tunnels = daemon.entries("-p DIST -y display")?;
    let id = tunnels[0]["TunnelID"].as_str().context("an id")?;
    done(&format!("-y refresh -a {id}"))?;
    done("vipa quiesce TGT1")?;
    done("vipa resume TGT1")?;
    done("-F delete -N sample")?;
    done("-f default")?;
    done("-f reload")?;
    done("-k deactivate -a all")?;
    // The daemon is alone: nothing can be moved, and that is said.
    let line = format!("-p DIST vipa move {DVIPA4} --to TGT1 --json");
    let output = e2e::process::run(&mut daemon.ipsec_command(&line)?)?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    seen.insert(schema.check(&serde_json::from_slice(&output.stdout)?)?);

    // What needs other systems than this one to be seen.
    let elsewhere = [
        "DVIPA: Deactivate",
        "DVIPA: Reactivate",
        "Manual tunnel: Activate",
        "Manual tunnel: Deactivate",
        "Dynamic tunnel: Activate",
    ];
    let unseen: Vec<&str> =
        schema.reports().filter(|r| !seen.contains(*r) && !elsewhere.contains(r)).collect();
    ensure!(unseen.is_empty(), "documented and not seen: {unseen:?}");
    Ok(())
}
