//! What the claims of the transfer ask for, one test for each idea, named by the claims. One story is played once; the tests
//! look at what it left.
//!
//! ```text
//!   PEER === ext === DIST, BACK, LAST === xcf === TGT1-3; connections end on all six; etcd
//!
//!   established ── planned move to BACK ── planned move to LAST ── LAST's system killed ── all downloads end
//! ```

use anyhow::{Context, Result, bail, ensure};
use e2e::capture::{Capture, Frames};
use e2e::http::{Finished, PacedDownload};
use e2e::lab::Lab;
use e2e::packet::{Ends, Seen};
use e2e::plex::{Plex, Shape, swan_peer_with};
use e2e::scenario::{DVIPA4, PEER4, server};
use e2e::swan::Swan;
use e2e::takeover::Spis;
use e2e::{etcd, http, swan, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(40);
/// A static address of DIST, protected by an SA of its own.
const OWN4: &str = "198.51.100.1";
const STACKS: [&str; 6] = ["DIST", "BACK", "LAST", "TGT1", "TGT2", "TGT3"];

/// How things stand at one moment.
#[derive(Debug, Default)]
struct Facts {
    /// `iked cf dump`.
    dump: String,
    /// Keys and raw values in etcd.
    raw: Vec<(String, Vec<u8>)>,
    /// Dynamic tunnels by stack.
    tunnels: BTreeMap<&'static str, Vec<Value>>,
    /// IKE tunnels by stack.
    ike: BTreeMap<&'static str, Vec<Value>>,
    /// Filters by stack.
    filters: BTreeMap<&'static str, Vec<Value>>,
    /// The DVIPA by stack.
    vipa: BTreeMap<&'static str, Value>,
    spis: Spis,
}

/// One takeover.
struct Move {
    /// Takeover record of the new owner.
    history: Value,
    /// From the order or the loss until the new owner says that it owns the DVIPA.
    took: Duration,
    /// Links PEER ext, new owner's xcf, from before the takeover until every download has gone on.
    peer: Frames,
    xcf: Frames,
    begun: Instant,
    after: Facts,
}

struct Story {
    established: Facts,
    /// Ports of the client's connections by the XCF address to which the first owner sent them.
    ports: BTreeMap<IpAddr, Vec<u16>>,
    to_back: Move,
    to_last: Move,
    failure: Move,
    finished: Vec<Finished>,
    keys: Vec<Vec<u8>>,
    swan_log: String,
    macs: BTreeMap<&'static str, [u8; 6]>,
}

struct World {
    downloads: Vec<PacedDownload>,
    peer: Swan,
    plex: Plex,
    lab: Lab,
}

static STORY: OnceLock<Result<Option<Story>, String>> = OnceLock::new();

fn story(test: impl FnOnce(&Story) -> Result<()>) -> Result<()> {
    match STORY.get_or_init(|| play().map_err(|e| format!("{e:#}"))) {
        Ok(Some(story)) => test(story),
        Ok(None) => Ok(()),
        Err(e) => bail!("{e}"),
    }
}

fn a(text: &str) -> IpAddr {
    text.parse().expect("a fixed address")
}

fn play() -> Result<Option<Story>> {
    if !etcd::installed() || !swan::installed() {
        eprintln!("not run: needs etcd and strongSwan with kernel-libipsec");
        return Ok(None);
    }
    let mut lab = Lab::new("s1")?;
    let shape = Shape { gateways: 3, local_servers: true, own_address: Some(OWN4), ..Shape::default() };
    let plex = Plex::start(&mut lab, shape)?;
    let peer = swan_peer_with(&lab, &[OWN4])?;
    for connection in ["v4", "own0"] {
        peer.initiate(connection).with_context(|| plex.logs())?;
    }
    let mut seen = std::collections::BTreeSet::new();
    wait::until("an answer from each of the six places", SOON, || {
        seen.insert(http::get(&lab, "PEER", server(false), Duration::from_secs(2))?);
        ensure!(seen.len() == STACKS.len(), "{seen:?}");
        Ok(())
    })
    .with_context(|| plex.logs())?;
    // One for each place where a connection may end.
    let first = Capture::start(&lab, "DIST", "xcf")?;
    // Far longer than all of it takes: they are stopped when it is over.
    let job = (STACKS.len(), 9_600_000, 16_000);
    let downloads = PacedDownload::start(&lab, "PEER", server(false), job, Duration::from_secs(600))?;
    let mut world = World { downloads, peer, plex, lab };
    world.all_go_on()?;
    let mut ports: BTreeMap<IpAddr, Vec<u16>> = BTreeMap::new();
    for frame in first.finish()?.matching(|s| matches!(s, Seen::Gre(..))) {
        if let Seen::Gre(outer, Some(inner)) = frame.seen
            && outer.source == a("10.99.0.1")
        {
            let list = ports.entry(outer.destination).or_default();
            if !list.contains(&inner.source_port) {
                list.push(inner.source_port);
            }
        }
    }
    let told = world.play(ports);
    told.with_context(|| world.plex.logs()).map(Some)
}

impl World {
    fn play(&mut self, ports: BTreeMap<IpAddr, Vec<u16>>) -> Result<Story> {
        let established = self.facts()?;
        let to_back = self.takeover("BACK", |w| w.order("DIST", "BACK"))?;
        let to_last = self.takeover("LAST", |w| w.order("BACK", "LAST"))?;
        let failure = self.takeover("DIST", |w| {
            w.plex.of_mut("LAST")?.crash();
            Ok(())
        })?;
        let downloads = std::mem::take(&mut self.downloads);
        let (dead, live): (Vec<_>, Vec<_>) = downloads.into_iter().partition(|d| d.server() == "LAST");
        let mut finished = PacedDownload::conclude(live, SOON)?;
        // Nobody ends the one whose host was killed.
        finished.extend(PacedDownload::conclude(dead, Duration::ZERO)?);
        let macs = self.plex.gateways().into_iter().map(|g| Ok((g, self.lab.mac(g, "ext")?)));
        Ok(Story {
            established,
            ports,
            to_back,
            to_last,
            failure,
            finished,
            keys: self.peer.esp_keys(),
            swan_log: self.peer.log(),
            macs: macs.collect::<Result<_>>()?,
        })
    }

    fn order(&self, from: &str, to: &str) -> Result<()> {
        self.plex.of(from)?.ipsec(&format!("-p {from} vipa move {DVIPA4} --to {to}")).map(drop)
    }

    fn vipa(&self, stack: &str) -> Result<Value> {
        self.plex.vipa(stack)
    }

    /// Waits until every download that can has got some bytes more.
    fn all_go_on(&self) -> Result<()> {
        let bytes = |d: &PacedDownload| d.watch.bytes.load(Ordering::Relaxed);
        let before: Vec<u64> = self.downloads.iter().map(bytes).collect();
        wait::until("the downloads go on", SOON, || {
            let ended = |d: &&PacedDownload| d.ended() && d.server() != "LAST";
            ensure!(!self.downloads.iter().any(|d| ended(&d)), "one has ended");
            let stuck = self.downloads.iter().zip(&before).filter(|(d, b)| bytes(d) < **b + 4_000).count();
            // The one that ended on a host that was killed never will.
            let dead = usize::from(self.plex.of("LAST").is_ok_and(|d| !d.alive()));
            ensure!(stuck <= dead, "{stuck} stand still");
            Ok(())
        })
    }

    fn takeover(&mut self, to: &'static str, cause: impl FnOnce(&mut Self) -> Result<()>) -> Result<Move> {
        let peer = Capture::start(&self.lab, "PEER", "ext")?;
        let xcf = Capture::start(&self.lab, to, "xcf")?;
        let earlier = self.history(to)?.len();
        let begun = wait::now();
        cause(self)?;
        wait::until(&format!("{to} owns the DVIPA"), SOON, || {
            let v = self.vipa(to)?;
            ensure!(v["State"] == "ACTIVE", "{v}");
            Ok(())
        })?;
        let took = begun.elapsed();
        self.plex.tunnel(to)?;
        self.all_go_on()?;
        let history = wait::until("the takeover is complete", SOON, || {
            let all = self.history(to)?;
            ensure!(all.len() > earlier, "not in the history yet");
            all.into_iter().next().context("the latest comes first")
        })?;
        let (peer, xcf) = (peer.finish()?, xcf.finish()?);
        Ok(Move { history, took, peer, xcf, begun, after: self.facts()? })
    }

    fn history(&self, stack: &str) -> Result<Vec<Value>> {
        let all = self.plex.of(stack)?.entries(&format!("-p {stack} vipa history {DVIPA4}"))?;
        Ok(all.into_iter().filter(|t| t["To"] == stack).collect())
    }

    fn facts(&self) -> Result<Facts> {
        let mut facts = Facts { spis: self.peer.spis()?, ..Facts::default() };
        facts.dump = self.plex.of("TGT1")?.cf("dump")?;
        facts.raw = self.plex.etcd.as_ref().context("an etcd")?.records("/")?;
        for stack in STACKS {
            let daemon = self.plex.of(stack)?;
            if !daemon.alive() {
                continue;
            }
            let of = |line: &str| daemon.entries(&format!("-p {stack} {line}"));
            facts.tunnels.insert(stack, of("-y display")?);
            facts.ike.insert(stack, of("-k display")?);
            facts.filters.insert(stack, of("-f display")?);
            facts.vipa.insert(stack, self.vipa(stack)?);
        }
        Ok(facts)
    }
}

impl Facts {
    /// Tunnels of `stack` that concern the DVIPA.
    fn of_dvipa(&self, stack: &str) -> Vec<&Value> {
        let all = self.tunnels.get(stack).into_iter().flatten();
        all.filter(|t| t.to_string().contains(DVIPA4)).collect()
    }

    /// Lines of the dump about records of a kind.
    fn records(&self, kind: &str) -> Vec<&str> {
        let path = format!("dvipa/{DVIPA4}/{kind}/");
        self.dump.lines().filter(|l| l.contains(&path)).collect()
    }

    fn epoch(&self, stack: &str) -> u64 {
        self.vipa[stack]["Epoch"].as_u64().unwrap_or_default()
    }

    /// No record of an earlier epoch than that of `owner`.
    fn only_epoch_of(&self, owner: &str) {
        let epoch = self.epoch(owner);
        for kind in ["phase1", "phase2"] {
            let records = self.records(kind);
            assert!(!records.is_empty(), "no {kind}: {}", self.dump);
            for line in records {
                assert!(line.contains(&format!(" epoch {epoch} ")), "{line}; the owner's epoch is {epoch}");
            }
        }
    }
}

impl Move {
    fn steps(&self) -> Vec<String> {
        let steps = self.history["Steps"].as_array().cloned().unwrap_or_default();
        steps.iter().filter_map(|s| s["Step"].as_str().map(str::to_owned)).collect()
    }

    /// ESP packets after the takeover began, by (Ethernet source is `mac`, to or from the peer).
    fn esp(&self, mac: [u8; 6], from_gateway: bool) -> usize {
        let place = if from_gateway { 6..12 } else { 0..6 };
        let matching = self.peer.matching(Seen::is_esp).filter(|f| f.at >= self.begun);
        matching.filter(|f| f.bytes.get(place.clone()) == Some(&mac[..])).count()
    }

    fn gre(&self, from: &str, to: &str, inner: impl Fn(&Ends) -> bool) -> usize {
        self.xcf.count(|s| {
            matches!(s, Seen::Gre(o, Some(i)) if o.source == a(from) && o.destination == a(to) && inner(i))
        })
    }
}

#[test]
fn s1_claims_1_20_22_and_4_17_what_a_restart_needs_stands_in_the_store_and_no_key_does() -> Result<()> {
    story(|s| {
        let facts = &s.established;
        assert_eq!((facts.records("phase1").len(), facts.records("phase2").len()), (1, 1), "{}", facts.dump);
        assert!(s.keys.len() >= 2 && s.keys.iter().all(|k| k.len() >= 16), "charon told no keys");
        for facts in [facts, &s.to_back.after, &s.to_last.after, &s.failure.after] {
            assert!(facts.records("keys").is_empty(), "{}", facts.dump);
            for key in &s.keys {
                let cipher = &key[..16];
                let found = facts.raw.iter().find(|(_, v)| v.windows(16).any(|w| w == cipher));
                assert!(found.is_none(), "a key stands in {found:?}");
                assert!(!facts.dump.replace([' ', ','], "").contains(&hex::encode(cipher)));
            }
        }
        Ok(())
    })
}

#[test]
fn s1_claims_1_11_20_to_23_the_takeover_is_noticed_and_the_epoch_grows() -> Result<()> {
    story(|s| {
        let moves =
            [(&s.established, "DIST", &s.to_back, "BACK"), (&s.to_back.after, "BACK", &s.to_last, "LAST")];
        for (before, from, to, owner) in moves {
            eprintln!("{owner} said that it owns the DVIPA {:?} after the order", to.took);
            assert!(
                to.after.epoch(owner) > before.epoch(from),
                "{} {}",
                to.after.epoch(owner),
                before.epoch(from)
            );
            assert_eq!((&to.history["From"], &to.history["Planned"]), (&from.into(), &true.into()));
        }
        assert_eq!(
            (&s.failure.history["From"], &s.failure.history["Planned"]),
            (&"LAST".into(), &false.into())
        );
        Ok(())
    })
}

#[test]
fn s1_claims_1_11_20_to_23_the_first_owner_ends_its_sas_with_deletes_and_no_others() -> Result<()> {
    story(|s| {
        let after = &s.to_back.after;
        assert!(after.of_dvipa("DIST").is_empty(), "{:?}", after.tunnels["DIST"]);
        assert!(!after.ike["DIST"].iter().any(|k| k.to_string().contains(DVIPA4)), "{:?}", after.ike["DIST"]);
        // The SA of its static address is the one that it was.
        let own = |f: &Facts| {
            let tunnel = f.tunnels["DIST"].iter().find(|t| t.to_string().contains(OWN4)).cloned();
            tunnel.map(|t| (t["EncryptInboundSpi"].clone(), t["EncryptOutboundSpi"].clone()))
        };
        assert!(own(&s.established).is_some());
        assert_eq!(own(&s.established), own(after));
        assert!(s.swan_log.contains("received DELETE for IKE_SA v4"), "{}", s.swan_log);
        Ok(())
    })
}

#[test]
fn s1_claims_1_11_20_to_23_the_second_owner_initiates_with_the_same_selectors_and_algorithms() -> Result<()> {
    story(|s| {
        for (before, from, to, owner) in
            [(&s.established, "DIST", &s.to_back, "BACK"), (&s.to_back.after, "BACK", &s.to_last, "LAST")]
        {
            let first = to.peer.matching(|m| matches!(m, Seen::Ike(e) if e.source == a(DVIPA4)));
            let first = first.filter(|f| f.bytes[6..12] == s.macs[owner]).map(|f| f.at).next();
            assert!(first.is_some(), "{owner} sent no IKE: {:?}", to.peer.file);
            let (old, new) = (before.of_dvipa(from), to.after.of_dvipa(owner));
            assert_eq!((old.len(), new.len()), (1, 1), "{old:?} {new:?}");
            for field in
                ["EncryptionAlgorithm", "SourceAddress", "DestinationAddress", "Protocol", "VpnActionName"]
            {
                assert_eq!(old[0][field], new[0][field], "{field}");
            }
            assert_ne!(old[0]["EncryptInboundSpi"], new[0]["EncryptInboundSpi"]);
        }
        Ok(())
    })
}

#[test]
fn s1_claims_1_11_20_to_23_both_directions_pass_the_second_owner() -> Result<()> {
    story(|s| {
        for (to, owner, xcf) in [(&s.to_back, "BACK", "10.99.0.2"), (&s.to_last, "LAST", "10.99.0.3")] {
            assert!(
                to.esp(s.macs[owner], true) > 0 && to.esp(s.macs[owner], false) > 0,
                "{:?}",
                to.peer.file
            );
            for target in ["10.99.0.21", "10.99.0.22", "10.99.0.23"] {
                let inbound = to.gre(xcf, target, |i| i.destination == a(DVIPA4));
                let outbound = to.gre(target, xcf, |i| i.source == a(DVIPA4));
                assert!(inbound > 0 && outbound > 0, "{target}: {inbound} {outbound} {:?}", to.xcf.file);
            }
            let clear = to.peer.count(|m| m.is_clear_of(a(DVIPA4)) || m.is_clear_of(a(PEER4)));
            assert_eq!(clear, 0, "{:?}", to.peer.file);
        }
        Ok(())
    })
}

#[test]
fn s1_claims_2_13_connections_that_end_on_the_first_owner_become_distributed() -> Result<()> {
    story(|s| {
        let inner = |i: &Ends| i.involves(a(PEER4)) && i.involves(a(DVIPA4));
        let there = s.to_back.gre("10.99.0.2", "10.99.0.1", inner);
        let back = s.to_back.gre("10.99.0.1", "10.99.0.2", |i| i.source == a(DVIPA4));
        assert!(there > 0 && back > 0, "{there} {back} {:?}", s.to_back.xcf.file);
        let ended = s.finished.iter().find(|f| f.server == "DIST").context("one ended on DIST")?;
        assert_eq!(ended.error, None);
        Ok(())
    })
}

#[test]
fn s1_claims_5_and_11_21_23_records_are_read_sas_made_and_targets_told_in_this_order() -> Result<()> {
    story(|s| {
        for to in [&s.to_back, &s.to_last, &s.failure] {
            let steps = to.steps();
            let place = |name: &str| steps.iter().position(|x| x == name);
            // Targets are told while the negotiations run.
            for between in ["renegotiate", "notify"] {
                let order = ["acquire", "read", "filters", "announce", between, "store", "clear"].map(place);
                assert!(order.iter().all(Option::is_some), "{steps:?}");
                // What is begun at the same moment may stand in either order.
                assert!(order[..4].is_sorted() && order[5..].is_sorted(), "{steps:?}");
                assert!(order[1] < order[4] && order[4] < order[5], "{steps:?}");
            }
        }
        for (after, owner) in
            [(&s.to_back.after, "BACK"), (&s.to_last.after, "LAST"), (&s.failure.after, "DIST")]
        {
            for target in ["TGT1", "TGT2", "TGT3"] {
                assert_eq!(after.vipa[target]["Owner"], owner, "{target}");
            }
        }
        Ok(())
    })
}

#[test]
fn s1_claims_6_16_and_7_15_only_records_of_the_new_epoch_are_left_and_the_next_owner_uses_them() -> Result<()>
{
    story(|s| {
        s.established.only_epoch_of("DIST");
        s.to_back.after.only_epoch_of("BACK");
        s.to_last.after.only_epoch_of("LAST");
        s.failure.after.only_epoch_of("DIST");
        Ok(())
    })
}

#[test]
fn s1_claim_8_connections_that_end_on_the_second_owner_are_local_there() -> Result<()> {
    story(|s| {
        let own = s.ports.get(&a("10.99.0.2")).context("DIST sent a connection to BACK")?;
        let used = |i: &Ends| own.contains(&i.source_port) || own.contains(&i.destination_port);
        // Once BACK has sent ESP itself, none of the connection's packets is in GRE any more.
        let first =
            s.to_back.peer.matching(Seen::is_esp).find(|f| f.bytes[6..12] == s.macs["BACK"]).map(|f| f.at);
        let first = first.context("BACK sent ESP")?;
        let later = s.to_back.xcf.matching(|m| matches!(m, Seen::Gre(_, Some(i)) if used(i)));
        assert_eq!(
            later.filter(|f| f.at > first + Duration::from_millis(100)).count(),
            0,
            "{:?}",
            s.to_back.xcf.file
        );
        let ended = s.finished.iter().find(|f| f.server == "BACK").context("one ended on BACK")?;
        assert_eq!(ended.error, None);
        Ok(())
    })
}

#[test]
fn s1_claims_10_and_18_records_name_policy_identities_selectors_and_each_other() -> Result<()> {
    story(|s| {
        let (p1, p2) = (s.established.records("phase1"), s.established.records("phase2"));
        let (p1, p2) = (p1[0], p2[0]);
        let id = p1.split('/').next_back().and_then(|r| r.split(' ').next()).context("an id")?;
        let number: Vec<String> = hex::decode(id)?.iter().map(u8::to_string).collect();
        assert!(p2.contains(&number.join(", ")) || p2.contains(id), "{p2} does not name {id}");
        for expected in ["kx-web", "kxStrong", PEER4, DVIPA4, "AesGcm16", "offers"] {
            assert!(p1.contains(expected), "{expected} is not in {p1}");
        }
        for expected in ["web", "gcmTunnel", "local_selectors", "remote_selectors", "AesGcm16(128)", "spi_in"]
        {
            assert!(p2.contains(expected), "{expected} is not in {p2}");
        }
        Ok(())
    })
}

#[test]
fn s1_claim_14_ike_of_the_second_owner_is_told_and_its_stack_installs() -> Result<()> {
    story(|s| {
        for (to, owner) in [(&s.to_back, "BACK"), (&s.to_last, "LAST")] {
            let tunnel = to.after.of_dvipa(owner);
            // Made by the takeover, not by the peer or by traffic.
            assert!(tunnel[0].to_string().to_lowercase().contains("takeover"), "{}", tunnel[0]);
            let shown = |field: &str| {
                let text = tunnel[0][field].to_string();
                let text = text.trim_matches('"');
                text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16))
            };
            let (inbound, outbound) = (shown("EncryptInboundSpi")?, shown("EncryptOutboundSpi")?);
            assert!(to.after.spis.contains(&(outbound, inbound)), "{:x?} {}", to.after.spis, tunnel[0]);
        }
        Ok(())
    })
}

#[test]
fn s1_claim_19_one_dynamic_filter_stands_for_each_set_of_selectors() -> Result<()> {
    story(|s| {
        for (facts, owner) in
            [(&s.to_back.after, "BACK"), (&s.to_last.after, "LAST"), (&s.failure.after, "DIST")]
        {
            let dynamic = |f: &&Value| {
                f["Type"].as_str().is_some_and(|t| t == "Dynamic") && f.to_string().contains(DVIPA4)
            };
            let filters: Vec<&Value> = facts.filters[owner].iter().filter(dynamic).collect();
            // One for each direction.
            assert!(!filters.is_empty() && filters.len() <= 2, "{owner}: {filters:#?}");
        }
        Ok(())
    })
}

#[test]
fn s1_only_the_connection_that_ended_on_the_lost_host_is_lost() -> Result<()> {
    story(|s| {
        assert_eq!(s.finished.len(), STACKS.len());
        for end in &s.finished {
            assert!(end.error.is_none() || end.server == "LAST", "{}: {:?}", end.server, end.error);
        }
        Ok(())
    })
}

/// Two gateways with SAs, for what would spoil the story.
fn small(name: &str) -> Result<Option<World>> {
    if !etcd::installed() || !swan::installed() {
        eprintln!("not run: needs etcd and strongSwan with kernel-libipsec");
        return Ok(None);
    }
    let mut lab = Lab::new(name)?;
    let plex = Plex::start(&mut lab, Shape::default())?;
    let peer = swan_peer_with(&lab, &[])?;
    peer.initiate("v4").with_context(|| plex.logs())?;
    plex.tunnel("DIST")?;
    Ok(Some(World { downloads: Vec::new(), peer, plex, lab }))
}

impl World {
    /// Waits until the DVIPA is shown by `stack` with this value.
    fn shows(&self, stack: &str, field: &str, value: &str) -> Result<()> {
        wait::until(&format!("{stack}: {field} is {value}"), SOON, || {
            let v = self.vipa(stack)?;
            ensure!(v[field] == value, "{v}\n{}", self.plex.logs());
            Ok(())
        })
    }

    /// Lines of the dump about SAs of the DVIPA.
    fn records(&self) -> Result<Vec<String>> {
        let facts = Facts { dump: self.plex.of("TGT1")?.cf("dump")?, ..Facts::default() };
        let both = ["phase1", "phase2"].into_iter().flat_map(|k| facts.records(k));
        Ok(both.map(str::to_owned).collect())
    }
}

#[test]
fn s1_claim_3_without_a_store_the_first_owner_hands_the_information_over_itself() -> Result<()> {
    let Some(mut w) = small("s1direct")? else { return Ok(()) };
    let job = (6, 14_400_000, 24_000);
    w.downloads = PacedDownload::start(&w.lab, "PEER", server(false), job, Duration::from_secs(600))?;
    w.all_go_on()?;
    let before = w.peer.spis()?;
    w.plex.etcd.as_mut().context("an etcd")?.end(nix::sys::signal::Signal::SIGKILL);
    w.shows("DIST", "CFRecords", "not protected")?;
    w.order("DIST", "BACK")?;
    w.shows("BACK", "State", "ACTIVE")?;
    w.plex.tunnel("BACK")?;
    w.all_go_on()?;
    let after = w.peer.spis()?;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(before, after);
    assert!(w.peer.log().contains("received DELETE for IKE_SA v4"), "{}", w.peer.log());
    // The store is told as soon as it is there again.
    w.plex.etcd.as_mut().context("an etcd")?.again()?;
    w.shows("BACK", "CFRecords", "Stored")?;
    let told = wait::until("the takeover in the history", SOON, || {
        w.history("BACK")?.into_iter().next().context("not yet")
    })?;
    assert_eq!((&told["From"], &told["Planned"]), (&"DIST".into(), &true.into()), "{told}");
    for end in PacedDownload::conclude(std::mem::take(&mut w.downloads), SOON)? {
        assert_eq!(end.error, None, "{}", end.server);
    }
    Ok(())
}

#[test]
fn s1_claim_12_the_first_owner_is_prevented_from_placing_new_information() -> Result<()> {
    let Some(mut w) = small("s1fence")? else { return Ok(()) };
    let tunnel = w.plex.tunnel("DIST")?["TunnelID"].as_str().context("a tunnel id")?.to_owned();
    let dist = w.plex.of_mut("DIST")?;
    dist.signal_all(nix::sys::signal::Signal::SIGSTOP);
    // It is done when the daemon goes on, before it has heard of anything.
    let refresh = dist.ipsec_command(&format!("-p DIST -y refresh -a {tunnel}"))?;
    let log = w.lab.dir.join("refresh.log");
    let mut refresh = e2e::process::Background::start(refresh, &log)?;
    w.shows("BACK", "State", "ACTIVE")?;
    w.plex.tunnel("BACK")?;
    let complete = |w: &World| {
        wait::until("the takeover is complete", SOON, || {
            let epoch = w.vipa("BACK")?["Epoch"].as_u64().context("an epoch")?;
            let (records, mark) = (w.records()?, format!(" epoch {epoch} "));
            let own = records.len() == 2 && records.iter().all(|r| r.contains(&mark));
            ensure!(own, "the epoch is {epoch}: {records:#?}");
            Ok(records)
        })
    };
    let before = complete(&w)?;
    w.plex.of_mut("DIST")?.signal_all(nix::sys::signal::Signal::SIGCONT);
    w.shows("DIST", "State", "BACKUP")?;
    wait::until("the request is answered", SOON, || {
        ensure!(!refresh.running());
        Ok(())
    })?;
    assert_eq!(complete(&w)?, before, "the first owner wrote: {}", refresh.output());
    let told = w.plex.of("DIST")?.log();
    assert!(told.contains("another stack owns it by now: it is given up here"), "{told}");
    Ok(())
}
