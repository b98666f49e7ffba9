//! What must not pass: forged GRE, cleartext that policy wants protected; and what policy cannot break.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 .22 TGT1 TGT2
//!   (also the attacker)                   |
//!                                         +==== .66 ROGUE (on xcf, no member)
//! ```

use anyhow::{Result, ensure};
use e2e::capture::Capture;
use e2e::forge::{gre, send, syn};
use e2e::lab::Lab;
use e2e::packet::Seen;
use e2e::scenario::{DVIPA4, Options, PEER4, Sysplex, server, swan_peer};
use e2e::{http, swan, wait};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const FORGED: usize = 5;

fn a(text: &str) -> Ipv4Addr {
    text.parse().expect("a fixed address")
}

/// A connection attempt of a peer to the DVIPA, as the distributor would put it into GRE.
fn inner() -> Result<Vec<u8>> {
    syn((a(PEER4), 40_001), (a(DVIPA4), 80))
}

fn sysplex(name: &str, options: &Options) -> Result<(Lab, Sysplex)> {
    let mut lab = Lab::new(name)?;
    let plex = Sysplex::start(&mut lab, options)?;
    Ok((lab, plex))
}

fn two_targets() -> Options {
    Options { targets: 2, target_ext: false, ..Options::default() }
}

/// Waits until `reason` has grown by the forged packets.
fn counted(plex: &Sysplex, stack: &str, reason: &str) -> Result<()> {
    wait::until(reason, SOON, || {
        let drops = plex.daemon.drops(stack, reason)?;
        ensure!(
            drops >= FORGED as u64,
            "{drops}; all: {}",
            plex.daemon.ipsec(&format!("-p {stack} --drops"))?
        );
        Ok(())
    })
}

#[test]
fn t41_gre_from_the_network_is_discarded_and_counted() -> Result<()> {
    let (lab, plex) = sysplex("forged", &two_targets())?;
    // A target's address as source, the distributor's as destination: right but for the link.
    lab.ip("PEER", "route add 10.99.0.0/24 via 192.0.2.1")?;
    let xcf = Capture::start(&lab, "DIST", "xcf")?;
    send(&lab, "PEER", gre(a("10.99.0.21"), a("10.99.0.1"), &inner()?)?, FORGED)?;
    counted(&plex, "DIST", "gre_not_xcf")?;
    let xcf = xcf.finish()?;
    assert_eq!(xcf.count(|s| matches!(s, Seen::Gre(..) | Seen::Clear(..))), 0, "{:?}", xcf.file);
    Ok(())
}

#[test]
fn t41_gre_of_a_network_host_is_not_forwarded_to_a_target() -> Result<()> {
    let (lab, plex) = sysplex("through", &two_targets())?;
    lab.ip("PEER", "route add 10.99.0.0/24 via 192.0.2.1")?;
    let arrived = Capture::start(&lab, "DIST", "ext")?;
    let xcf = Capture::start(&lab, "TGT1", "xcf")?;
    send(&lab, "PEER", gre(a("10.99.0.1"), a("10.99.0.21"), &inner()?)?, FORGED)?;
    // It came to the distributor, and something that is allowed has crossed the XCF link since.
    wait::until("a ping over XCF", SOON, || {
        e2e::process::check(lab.exec("DIST", "ping".as_ref()).args(["-c1", "-W1", "10.99.0.21"])).map(drop)
    })?;
    let (arrived, xcf) = (arrived.finish()?, xcf.finish()?);
    assert_eq!(arrived.count(|s| matches!(s, Seen::Gre(..))), FORGED, "{:?}", arrived.file);
    assert!(xcf.count(|s| matches!(s, Seen::Clear(_, 1))) >= 2, "the capture saw no ping: {:?}", xcf.file);
    assert_eq!(xcf.count(|s| matches!(s, Seen::Gre(..))), 0, "{:?}", xcf.file);
    drop(plex);
    Ok(())
}

#[test]
fn t42_gre_on_xcf_from_a_non_member_is_discarded_and_counted() -> Result<()> {
    let (mut lab, plex) = sysplex("rogue", &two_targets())?;
    lab.node("ROGUE")?;
    lab.join("ROGUE", "xcf", 66)?;
    send(&lab, "ROGUE", gre(a("10.99.0.66"), a("10.99.0.1"), &inner()?)?, FORGED)?;
    counted(&plex, "DIST", "gre_bad_source")?;
    send(&lab, "ROGUE", gre(a("10.99.0.66"), a("10.99.0.21"), &inner()?)?, FORGED)?;
    counted(&plex, "TGT1", "gre_bad_source")
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
fn claims_9_17_28_36_a_target_that_denies_everything_is_served_over_xcf() -> Result<()> {
    if !swan::installed() {
        eprintln!("not run: strongSwan with kernel-libipsec is not installed");
        return Ok(());
    }
    let (lab, plex) = sysplex("denying", &Options { targets_deny: true, ..two_targets() })?;
    let peer = swan_peer(&lab)?;
    peer.initiate("v4")?;
    let served: Vec<String> =
        (0..4).map(|_| http::get(&lab, "PEER", server(false), SOON)).collect::<Result<_>>()?;
    assert_eq!(served.iter().filter(|who| *who == "TGT1").count(), 2, "{served:?}");
    let filters = plex.daemon.ipsec("-p TGT1 -f display")?;
    assert!(filters.contains("SYSXCFGRE") && filters.contains("nothing"), "{filters}");
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
