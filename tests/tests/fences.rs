//! What must not pass: cleartext that policy wants protected, answers of anybody but the owner. (Forged GRE:
//! `claims_s0.rs`.)
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 .22 TGT1 TGT2
//! ```

use anyhow::{Result, ensure};
use e2e::capture::Capture;
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, Options, PEER4, Sysplex, server};
use e2e::wait;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn sysplex(name: &str, options: &Options) -> Result<(Lab, Sysplex)> {
    let mut lab = Lab::new(name)?;
    let plex = Sysplex::start(&mut lab, options)?;
    Ok((lab, plex))
}

fn two_targets() -> Options {
    Options { targets: 2, target_ext: false, ..Options::default() }
}

#[test]
fn t38_cleartext_that_policy_wants_protected_is_dropped_and_counted() -> Result<()> {
    let (lab, plex) = sysplex("clear", &two_targets())?;
    let network = Capture::start(&lab, "DIST", "ext")?;
    let to = server(false);
    let connected = lab.inside("PEER", move || TcpStream::connect_timeout(&to, Duration::from_secs(2)))?;
    assert!(connected.is_err(), "a connection in clear was served");
    wait::until("clear_but_ipsec_required", SOON, || {
        ensure!(plex.daemon.drops("DIST", "clear_but_ipsec_required")? >= 1);
        Ok(())
    })?;
    let network = network.finish()?;
    let (dvipa, peer): (IpAddr, IpAddr) = (DVIPA4.parse()?, PEER4.parse()?);
    let from = |s: &Seen, who: IpAddr| matches!(s, Seen::Clear(e, _) if e.source == who && e.involves(dvipa));
    assert!(network.count(|s| from(s, peer)) >= 1, "nothing arrived: the test proves nothing");
    assert_eq!(network.count(|s| from(s, dvipa)), 0, "{:?}", network.file);
    Ok(())
}

#[test]
fn the_owner_alone_answers_arp_and_nd_for_the_dvipa_and_at_once() -> Result<()> {
    let (lab, _plex) = sysplex("arp", &Options::default())?;
    let network = Capture::start(&lab, "PEER", "ext")?;
    for ping in ["ping -c1 -W2 192.0.2.100", "ping -c1 -W2 2001:db8:2::100"] {
        // Policy drops the echo; what counts is who said where the address is.
        let (program, arguments) = ping.split_once(' ').expect("fixed");
        e2e::process::run(lab.exec("PEER", program.as_ref()).args(arguments.split(' ')))?;
    }
    let network = network.finish()?;
    let dvipa: IpAddr = DVIPA4.parse()?;
    let asked = network.matching(|s| matches!(s, Seen::Arp { operation: 1, target, .. } if *target == dvipa));
    let asked = asked.map(|f| f.at).next().expect("the peer asked");
    let told: Vec<_> = network
        .matching(|s| matches!(s, Seen::Arp { operation: 2, sender, .. } if *sender == dvipa))
        .collect();
    assert!(!told.is_empty(), "nobody answered");
    assert!(told[0].at - asked < Duration::from_millis(20), "{:?}", told[0].at - asked);
    let who: std::collections::BTreeSet<&[u8]> = told.iter().map(|f| &f.bytes[6..12]).collect();
    assert_eq!(who.len(), 1, "more than one host answered: {who:?}");
    let owner = e2e::process::check(lab.exec("DIST", "cat".as_ref()).arg("/sys/class/net/ext/address"))?;
    let answered = told[0].bytes[6..12].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    assert_eq!(answered, owner.trim());
    let solicited = network.matching(|s| matches!(s, Seen::Neighbour(135))).map(|f| f.at).next();
    let told6: Vec<_> = network.matching(|s| matches!(s, Seen::Neighbour(136))).collect();
    let first = told6.iter().map(|f| f.at).find(|at| Some(*at) > solicited).expect("nobody advertised");
    assert!(first - solicited.expect("the peer solicited") < Duration::from_millis(20));
    assert!(told6.iter().all(|f| who.contains(&f.bytes[6..12])), "another host advertised");
    Ok(())
}
