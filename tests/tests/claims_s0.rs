//! What the claims of the data path ask for, one test for each idea, named by the claims.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 .22 .23 TGT1 TGT2 TGT3 (each on ext as well)
//!   CLIENT .12 (clear)      |  DVIPA 192.0.2.100: port 80 -> TGT1, TGT2; 81 -> TGT3; 8080 stays on DIST
//!                           |  TGT1 protects 198.51.100.21 by itself; TGT3's policy denies everything
//! ```

use anyhow::{Result, ensure};
use e2e::capture::{Capture, Frames};
use e2e::forge::{gre, send, syn};
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::packet::{Ends, Seen};
use e2e::process::Background;
use e2e::scenario::{DVIPA4, Options, PEER4, PORT, SECRET, Sysplex, server};
use e2e::shared::Shared;
use e2e::swan::{Connection, Swan};
use e2e::{http, swan, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
/// Address of TGT1 that is no DVIPA.
const OWN4: &str = "198.51.100.21";
/// A host that policy lets talk to the DVIPA in clear.
const CLIENT4: &str = "192.0.2.12";
/// A port of the DVIPA that only TGT3 serves, whose policy denies everything.
const DENIED: u16 = 81;
/// A port of the DVIPA that is not distributed.
const LOCAL: u16 = 8080;
const FORGED: usize = 5;

struct World {
    peer: Swan,
    plex: Sysplex,
    _servers: Vec<Background>,
    lab: Lab,
}

static WORLD: Shared<World> = Shared::new();

fn test(work: impl FnOnce(&mut World) -> Result<()>) -> Result<()> {
    if swan::missing() {
        return Ok(());
    }
    WORLD.with(World::new, work)
}

fn a(text: &str) -> IpAddr {
    text.parse().expect("a fixed address")
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("a fixed address")
}

impl World {
    fn new() -> Result<Self> {
        let mut lab = Lab::new("s0")?;
        let options = Options {
            spread: vec!["TGT1".to_owned(), "TGT2".to_owned()],
            special: vec![(DENIED, "TGT3".to_owned())],
            denying: vec!["TGT3".to_owned()],
            permits: vec![(DVIPA4.to_owned(), CLIENT4.to_owned())],
            home: Some(("TGT1".to_owned(), OWN4.to_owned())),
            ..Options::default()
        };
        let plex = Sysplex::start(&mut lab, &options)?;
        lab.node("CLIENT")?;
        lab.join("CLIENT", "ext", 12)?;
        lab.node("ROGUE")?;
        lab.join("ROGUE", "xcf", 66)?;
        lab.ip("PEER", &format!("route add {OWN4}/32 via 192.0.2.21"))?;
        lab.ip("PEER", "route add 10.99.0.0/24 via 192.0.2.1")?;
        let servers = vec![
            http::start_server(&lab, "TGT3", "TGT3", DENIED)?,
            http::start_server(&lab, "DIST", "DIST", LOCAL)?,
        ];
        let connections = [("web", DVIPA4), ("own", OWN4)]
            .map(|(name, remote)| Connection::host_to_host(name, PEER4, remote, SECRET));
        let peer = Swan::start(&lab, "PEER", &connections)?;
        let world = Self { peer, plex, _servers: servers, lab };
        world.secure()?;
        Ok(world)
    }

    fn daemon(&self) -> &Daemon {
        &self.plex.daemon
    }

    /// Sees to it that the peer has its tunnels to the DVIPA and to TGT1.
    fn secure(&self) -> Result<()> {
        for (stack, connection) in [("DIST", "web"), ("TGT1", "own")] {
            if self.tunnels(stack)?.is_empty() {
                self.peer.initiate(connection)?;
            }
            self.tunnel(stack)?;
        }
        Ok(())
    }

    fn tunnels(&self, stack: &str) -> Result<Vec<Value>> {
        self.daemon().entries(&format!("-p {stack} -y display"))
    }

    /// The only tunnel of `stack`.
    fn tunnel(&self, stack: &str) -> Result<Value> {
        wait::until("one dynamic tunnel", SOON, || {
            let mut tunnels = self.tunnels(stack)?;
            ensure!(tunnels.len() == 1, "{stack}: {tunnels:?}\n{}", self.daemon().log());
            Ok(tunnels.remove(0))
        })
    }

    /// What the peer gets from `port` of the DVIPA.
    fn get(&self, port: u16) -> Result<String> {
        http::get(&self.lab, "PEER", SocketAddr::new(a(DVIPA4), port), SOON)
    }

    fn spread(&self, count: u32) -> Result<BTreeMap<String, u32>> {
        let mut spread = BTreeMap::new();
        for _ in 0..count {
            *spread.entry(self.get(PORT)?).or_default() += 1;
        }
        Ok(spread)
    }

    /// What the links carry while `work` runs.
    fn watch<const N: usize>(
        &self,
        links: [(&str, &str); N],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<[Frames; N]> {
        let captures = links.map(|(node, link)| Capture::start(&self.lab, node, link));
        let captures: Vec<Capture> = captures.into_iter().collect::<Result<_>>()?;
        work()?;
        let frames = captures.into_iter().map(Capture::finish).collect::<Result<Vec<_>>>()?;
        Ok(frames.try_into().unwrap_or_else(|_| unreachable!("as many as links")))
    }

    /// Waits until `reason` counts `FORGED` packets more at `stack` than `before`.
    fn counted(&self, stack: &str, reason: &str, before: u64) -> Result<()> {
        wait::until(reason, SOON, || {
            let drops = self.daemon().drops(stack, reason)?;
            let all = self.daemon().ipsec(&format!("-p {stack} --drops"))?;
            ensure!(drops >= before + FORGED as u64, "{drops}; all: {all}");
            Ok(())
        })
    }
}

fn number(entry: &Value, field: &str) -> u64 {
    entry[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {entry}"))
}

/// A packet between `from` and `to`, whatever it is.
fn ends(seen: &Seen) -> Option<Ends> {
    match *seen {
        Seen::Ike(e)
        | Seen::EspInUdp(e, _)
        | Seen::Keepalive(e)
        | Seen::Esp(e, _)
        | Seen::Gre(e, _)
        | Seen::Message(e)
        | Seen::Fragment(e, _)
        | Seen::Clear(e, _) => Some(e),
        Seen::Arp { .. } | Seen::Neighbour(_) | Seen::Other => None,
    }
}

fn esp(frames: &Frames, from: &str, to: &str) -> usize {
    frames.count(|s| {
        matches!(s, Seen::Esp(e, _) | Seen::EspInUdp(e, _) if e.source == a(from) && e.destination == a(to))
    })
}

/// GRE from `from` to `to` around a packet that `inner` accepts.
fn wrapped(frames: &Frames, from: &str, to: &str, inner: impl Fn(&Ends) -> bool) -> usize {
    frames.count(|s| {
        matches!(s, Seen::Gre(outer, Some(i)) if outer.source == a(from) && outer.destination == a(to) && inner(i))
    })
}

#[test]
fn s0_claims_1_20_39_both_directions_pass_the_distributor() -> Result<()> {
    test(|w| {
        let links = [("DIST", "ext"), ("TGT1", "ext"), ("TGT2", "ext")];
        let [dist, targets @ ..] = w.watch(links, || w.spread(4).map(drop))?;
        assert!(esp(&dist, PEER4, DVIPA4) >= 4 * 4 && esp(&dist, DVIPA4, PEER4) >= 4 * 3);
        for target in targets {
            let of_dvipa = target.count(|s| ends(s).is_some_and(|e| e.involves(a(DVIPA4))));
            assert_eq!(of_dvipa, 0, "{:?}", target.file);
        }
        Ok(())
    })
}

#[test]
fn s0_claims_1_20_39_only_the_distributor_has_the_sas_and_counts_both_ways() -> Result<()> {
    test(|w| {
        let before = w.tunnel("DIST")?;
        w.spread(2)?;
        let after = w.tunnel("DIST")?;
        for field in ["InboundBytes", "OutboundBytes", "InboundPackets", "OutboundPackets"] {
            assert!(number(&after, field) > number(&before, field), "{field}: {after}");
        }
        assert!(w.tunnels("TGT2")?.is_empty() && w.tunnels("TGT3")?.is_empty());
        // TGT1 has the one of its own address and none of the DVIPA.
        let own = w.tunnel("TGT1")?.to_string();
        assert!(own.contains(OWN4) && !own.contains(DVIPA4), "{own}");
        Ok(())
    })
}

#[test]
fn s0_claims_2_21_40_twenty_connections_are_ten_and_ten() -> Result<()> {
    test(|w| {
        assert_eq!(w.spread(20)?, BTreeMap::from(["TGT1", "TGT2"].map(|t| (t.to_owned(), 10))));
        Ok(())
    })
}

#[test]
fn s0_claims_3_22_41_secure_local_permitted_and_refused_packets_are_told_apart() -> Result<()> {
    test(|w| {
        let links = [("DIST", "ext"), ("DIST", "xcf")];
        let from_peer = |e: &Ends| e.source == a(PEER4) && e.destination == a(DVIPA4);
        let gre_in = |xcf: &Frames, from: fn(&Ends) -> bool| {
            wrapped(xcf, "10.99.0.1", "10.99.0.21", from) + wrapped(xcf, "10.99.0.1", "10.99.0.22", from)
        };
        // Secure and distributed: decrypted, in GRE.
        let [_, xcf] = w.watch(links, || w.get(PORT).map(drop))?;
        assert!(gre_in(&xcf, from_peer) >= 4, "{:?}", xcf.file);
        // Secure and local: decrypted, delivered.
        let [ext, xcf] = w.watch(links, || {
            ensure!(w.get(LOCAL)? == "DIST");
            Ok(())
        })?;
        assert!(esp(&ext, PEER4, DVIPA4) >= 4);
        assert_eq!(xcf.count(|s| matches!(s, Seen::Gre(_, Some(i)) if i.destination_port == LOCAL)), 0);
        // Clear and permitted: served without IPsec, in GRE as well, but marked as clear (the key's first bit).
        let [ext, xcf] = w.watch(links, || http::get(&w.lab, "CLIENT", server(false), SOON).map(drop))?;
        assert!(ext.count(|s| s.is_clear_of(a(CLIENT4))) >= 4, "{:?}", ext.file);
        let client = |s: &Seen| matches!(s, Seen::Gre(_, Some(i)) if i.source == a(CLIENT4));
        let marked = xcf.matching(client).filter(|f| f.bytes[34] == 0x20 && f.bytes[38] & 0x80 != 0).count();
        assert!(marked >= 4 && marked == xcf.count(client), "{marked} {:?}", xcf.file);
        // Clear under a rule that wants IPsec: dropped, counted and told.
        let before = w.daemon().drops("DIST", "clear_but_ipsec_required")?;
        let [_, xcf] = w.watch(links, || {
            send(&w.lab, "CLIENT", syn((v4(PEER4), 40_009), (v4(DVIPA4), PORT))?, FORGED)?;
            w.counted("DIST", "clear_but_ipsec_required", before)
        })?;
        assert_eq!(gre_in(&xcf, |e| e.source_port == 40_009), 0, "{:?}", xcf.file);
        ensure!(w.daemon().log().contains("clear_but_ipsec_required"), "no line in the log");
        Ok(())
    })
}

#[test]
fn s0_claims_4_23_42_clear_replies_of_targets_leave_under_the_outbound_sa() -> Result<()> {
    test(|w| {
        let spi = number(&w.tunnel("DIST")?, "EncryptOutboundSpi");
        let [ext, xcf] = w.watch([("DIST", "ext"), ("DIST", "xcf")], || w.spread(2).map(drop))?;
        let reply = |e: &Ends| e.source == a(DVIPA4) && e.destination == a(PEER4) && e.source_port == PORT;
        for target in ["10.99.0.21", "10.99.0.22"] {
            assert!(wrapped(&xcf, target, "10.99.0.1", reply) >= 3, "{target}: {:?}", xcf.file);
        }
        let sealed =
            ext.matching(|s| matches!(s, Seen::Esp(e, _) | Seen::EspInUdp(e, _) if e.source == a(DVIPA4)));
        let spis: Vec<u32> = sealed
            .filter_map(|f| match f.seen {
                Seen::Esp(_, spi) | Seen::EspInUdp(_, spi) => Some(spi),
                _ => None,
            })
            .collect();
        assert!(spis.len() >= 6 && spis.iter().all(|s| u64::from(*s) == spi), "{spi:x}: {spis:x?}");
        Ok(())
    })
}

#[test]
fn s0_claims_5_24_43_xcf_carries_gre_both_ways_and_nothing_else_of_the_connections() -> Result<()> {
    test(|w| {
        let [xcf] = w.watch([("DIST", "xcf")], || w.spread(2).map(drop))?;
        for target in ["10.99.0.21", "10.99.0.22"] {
            assert!(wrapped(&xcf, "10.99.0.1", target, |_| true) >= 4);
            assert!(wrapped(&xcf, target, "10.99.0.1", |_| true) >= 3);
        }
        assert_eq!(xcf.count(|s| s.is_clear_of(a(DVIPA4)) || s.is_esp()), 0, "{:?}", xcf.file);
        Ok(())
    })
}

#[test]
fn s0_claims_6_25_44_right_addresses_on_the_wrong_link_are_refused() -> Result<()> {
    test(|w| {
        // The header of a genuine packet: a member's address as source, the distributor's as destination.
        let before = w.daemon().drops("DIST", "gre_not_xcf")?;
        let forged = gre(v4("10.99.0.21"), v4("10.99.0.1"), &syn((v4(PEER4), 40_001), (v4(DVIPA4), PORT))?)?;
        let [xcf] = w.watch([("DIST", "xcf")], || {
            send(&w.lab, "PEER", forged, FORGED)?;
            w.counted("DIST", "gre_not_xcf", before)
        })?;
        let port = |e: &Ends| e.source_port == 40_001;
        assert_eq!(xcf.count(|s| matches!(s, Seen::Gre(_, Some(i)) if port(i))), 0, "{:?}", xcf.file);
        Ok(())
    })
}

#[test]
fn s0_claims_7_13_26_32_45_51_what_is_protected_is_in_clear_on_the_xcf_link_only() -> Result<()> {
    test(|w| {
        let links = [
            ("DIST", "xcf"),
            ("PEER", "ext"),
            ("DIST", "ext"),
            ("TGT1", "ext"),
            ("TGT2", "ext"),
            ("TGT3", "ext"),
        ];
        let marker = "quite-unmistakable";
        let [xcf, others @ ..] = w.watch(links, || {
            for _ in 0..2 {
                let got = http::get_path(&w.lab, "PEER", server(false), &format!("/echo/{marker}"), SOON)?;
                ensure!(got.ends_with(marker), "{got}");
            }
            Ok(())
        })?;
        // Twice the request and twice the answer: the search would find it.
        assert_eq!(xcf.holding(marker.as_bytes()), 4, "{:?}", xcf.file);
        for other in others {
            assert_eq!(other.holding(marker.as_bytes()), 0, "{:?}", other.file);
        }
        Ok(())
    })
}

#[test]
fn s0_claims_8_16_27_35_46_54_the_common_filter_stands_first_whatever_policy_is_loaded() -> Result<()> {
    test(|w| {
        let first = |stack: &str| -> Result<Vec<String>> {
            let filters = w.daemon().entries(&format!("-p {stack} -f display"))?;
            Ok(filters.iter().take(2).map(|f| format!("{} {}", f["FilterName"], f["Direction"])).collect())
        };
        let expected = first("DIST")?;
        assert!(expected.iter().all(|f| f.contains("SYSXCFGRE")), "{expected:?}");
        for set in ["display", "default", "reload"] {
            for stack in ["DIST", "TGT1", "TGT2", "TGT3"] {
                w.daemon().ipsec(&format!("-p {stack} -f {set}"))?;
                assert_eq!(first(stack)?, expected, "{stack} after {set}");
            }
        }
        w.secure()?;
        assert_eq!(w.spread(2)?.len(), 2);
        Ok(())
    })
}

#[test]
fn s0_claims_9_17_28_36_47_55_a_target_that_denies_gre_and_all_else_is_served_over_xcf() -> Result<()> {
    test(|w| {
        for _ in 0..3 {
            assert_eq!(w.get(DENIED)?, "TGT3");
        }
        let filters = w.daemon().ipsec("-p TGT3 -f display")?;
        for name in ["SYSXCFGRE", "tunnels", "nothing"] {
            assert!(filters.contains(name), "{filters}");
        }
        Ok(())
    })
}

#[test]
fn s0_claims_10_29_48_a_request_and_its_echo_pass_ipsec_and_gre_to_each_of_two_targets() -> Result<()> {
    test(|w| {
        let mut served = Vec::new();
        for number in 0..2 {
            let path = format!("/echo/{number}");
            served.push(http::get_path(&w.lab, "PEER", server(false), &path, SOON)?);
        }
        served.sort_by_key(|s| s.split(' ').next().map(str::to_owned));
        let said: Vec<&str> = served.iter().filter_map(|s| s.split(' ').next()).collect();
        assert_eq!(said, ["TGT1", "TGT2"], "{served:?}");
        Ok(())
    })
}

#[test]
fn s0_claims_11_30_49_a_target_sends_what_it_answers_to_the_distributor() -> Result<()> {
    test(|w| {
        let links = [("TGT1", "ext"), ("TGT1", "xcf")];
        let [ext, xcf] = w.watch(links, || w.spread(4).map(drop))?;
        assert_eq!(ext.count(|s| ends(s).is_some_and(|e| e.involves(a(DVIPA4)))), 0, "{:?}", ext.file);
        let answers = wrapped(&xcf, "10.99.0.21", "10.99.0.1", |i| i.source == a(DVIPA4));
        assert!(answers >= 2 * 3, "{answers}: {:?}", xcf.file);
        Ok(())
    })
}

#[test]
fn s0_claims_12_31_50_a_target_protects_its_own_address_itself_at_the_same_time() -> Result<()> {
    test(|w| {
        let own: SocketAddr = SocketAddr::new(a(OWN4), PORT);
        let counts = |stack: &str| -> Result<(u64, u64)> {
            let t = w.tunnel(stack)?;
            Ok((number(&t, "InboundPackets"), number(&t, "OutboundPackets")))
        };
        let (dist, target) = (counts("DIST")?, counts("TGT1")?);
        let [ext, xcf] = w.watch([("TGT1", "ext"), ("TGT1", "xcf")], || {
            ensure!(http::get(&w.lab, "PEER", own, SOON)? == "TGT1");
            Ok(())
        })?;
        // Its own tunnel counts the connection to its own address, and only that one.
        assert_eq!(counts("DIST")?, dist);
        let after = counts("TGT1")?;
        assert!(after.0 > target.0 && after.1 > target.1, "{after:?}");
        assert!(esp(&ext, PEER4, OWN4) >= 4 && esp(&ext, OWN4, PEER4) >= 3, "{:?}", ext.file);
        assert_eq!(ext.count(|s| s.is_clear_of(a(OWN4))), 0);
        assert_eq!(xcf.count(|s| matches!(s, Seen::Gre(_, Some(i)) if i.involves(a(OWN4)))), 0);
        // The other way round: connections to the DVIPA that TGT1 serves count at the distributor alone.
        assert_eq!(w.spread(2)?.get("TGT1"), Some(&1));
        assert_eq!(counts("TGT1")?, after);
        assert!(counts("DIST")?.0 > dist.0);
        Ok(())
    })
}

#[test]
fn s0_claims_14_33_52_and_18_37_56_the_outer_addresses_are_those_of_the_xcf_link() -> Result<()> {
    test(|w| {
        let members = ["10.99.0.1", "10.99.0.21", "10.99.0.22", "10.99.0.23"].map(a);
        let [xcf] = w.watch([("DIST", "xcf")], || w.spread(2).map(drop))?;
        let (mut good, mut bad) = (0, 0);
        for frame in xcf.matching(|s| matches!(s, Seen::Gre(..))) {
            let e = ends(&frame.seen).expect("GRE has addresses");
            let between = members.contains(&e.source) && members.contains(&e.destination);
            // One end is the distributor.
            if between && e.involves(members[0]) { good += 1 } else { bad += 1 }
        }
        assert!(good >= 14 && bad == 0, "{good} {bad}: {:?}", xcf.file);
        Ok(())
    })
}

#[test]
fn s0_claims_15_34_53_what_gre_carries_has_the_clients_and_the_virtual_address() -> Result<()> {
    test(|w| {
        let [xcf] = w.watch([("DIST", "xcf")], || w.spread(2).map(drop))?;
        let mut seen = [0, 0];
        for frame in xcf.matching(|s| matches!(s, Seen::Gre(..))) {
            let Seen::Gre(outer, Some(inner)) = frame.seen else {
                panic!("GRE without a packet: {:?}", frame.seen)
            };
            let inbound = outer.source == a("10.99.0.1");
            let (client, dvipa) =
                if inbound { (inner.source, inner.destination) } else { (inner.destination, inner.source) };
            assert_eq!((client, dvipa), (a(PEER4), a(DVIPA4)), "{:?}", frame.seen);
            seen[usize::from(inbound)] += 1;
        }
        assert!(seen.iter().all(|n| *n >= 6), "{seen:?}");
        Ok(())
    })
}

#[test]
fn s0_claims_19_38_57_t41_gre_of_a_network_host_is_not_forwarded_to_a_target() -> Result<()> {
    test(|w| {
        let forged = gre(v4("10.99.0.1"), v4("10.99.0.21"), &syn((v4(PEER4), 40_002), (v4(DVIPA4), PORT))?)?;
        let [ext, xcf] = w.watch([("DIST", "ext"), ("TGT1", "xcf")], || {
            send(&w.lab, "PEER", forged, FORGED)?;
            // Something that is allowed has crossed the XCF link since.
            w.spread(2).map(drop)
        })?;
        let port = |s: &Seen| matches!(s, Seen::Gre(_, Some(i)) if i.source_port == 40_002);
        assert_eq!(ext.count(port), FORGED, "{:?}", ext.file);
        assert!(xcf.count(|s| matches!(s, Seen::Gre(..))) >= 4, "{:?}", xcf.file);
        assert_eq!(xcf.count(port), 0, "{:?}", xcf.file);
        Ok(())
    })
}

#[test]
fn s0_claims_19_38_57_t42_gre_on_xcf_from_a_non_member_is_discarded_and_counted() -> Result<()> {
    test(|w| {
        for (stack, address) in [("DIST", "10.99.0.1"), ("TGT1", "10.99.0.21")] {
            let before = w.daemon().drops(stack, "gre_bad_source")?;
            let inner = syn((v4(PEER4), 40_003), (v4(DVIPA4), PORT))?;
            send(&w.lab, "ROGUE", gre(v4("10.99.0.66"), v4(address), &inner)?, FORGED)?;
            w.counted(stack, "gre_bad_source", before)?;
        }
        ensure!(w.daemon().log().contains("gre_bad_source"), "no line in the log");
        Ok(())
    })
}
