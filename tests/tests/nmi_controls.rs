//! Every control request of the management interface against a running system: several objects in each, each with a result of
//! its own, and what is said to be done is what the peer and the filters then have.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 TGT1
//!   strongSwan            DVIPA 192.0.2.100, 2001:db8:2::100
//! ```

use TunnelStatus as S;
use anyhow::{Context, Result, ensure};
use e2e::lab::Lab;
use e2e::scenario::{DVIPA4, DVIPA6, Sysplex};
use e2e::swan::Swan;
use e2e::wait;
use nmi_proto::client::{Client, ClientError};
use nmi_proto::code::{
    FilterSet, IkeExtState, MessageType, ReasonCode, ReturnCode, SaState, TunnelStatus, TunnelType,
};
use nmi_proto::control::{LoadPolicy, Tunnel};
use nmi_proto::display::{DynIkeRecord, IkeRecord, ManualRecord};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const DIST: &str = "DIST";

struct Scene {
    _lab: Lab,
    plex: Sysplex,
    peer: Swan,
    nmi: Client,
}

impl Scene {
    /// The sysplex and strongSwan, which starts nothing; `None`: strongSwan is not installed.
    fn set(name: &str) -> Result<Option<Self>> {
        let Some((lab, plex, peer)) = Sysplex::with_strongswan(name)? else { return Ok(None) };
        let nmi = Client::connect(plex.daemon.socket(), Some(LIMIT))?;
        Ok(Some(Self { _lab: lab, plex, peer, nmi }))
    }

    /// A control request; the status of each object.
    fn control(&mut self, kind: MessageType, objects: &[Tunnel]) -> Result<Vec<TunnelStatus>> {
        let done = self.nmi.control(kind, DIST, objects)?;
        Ok(done.into_iter().map(|t| t.status).collect())
    }

    /// The newest SA of each dynamic tunnel that is active, with an own address.
    fn tunnel(&mut self, local: &str) -> Result<DynIkeRecord> {
        let local: IpAddr = local.parse()?;
        let all = self.nmi.dynamic_tunnels_ike(DIST, &[])?.records;
        let ours = |r: &DynIkeRecord| {
            r.tunnel.local_endpoint.ip(r.tunnel.ipv6) == local && r.tunnel.state == SaState::ACTIVE
        };
        let newest = all.into_iter().filter(ours).max_by_key(|r| r.dynamic.generation);
        newest.with_context(|| format!("no active tunnel of {local}"))
    }

    fn ike(&mut self, local: &str) -> Result<IkeRecord> {
        let local: IpAddr = local.parse()?;
        let all = self.nmi.ike_tunnels(DIST, &[])?.records;
        let ours = |r: &IkeRecord| {
            r.tunnel.local_endpoint.ip(r.tunnel.ipv6) == local && r.tunnel.state == SaState::ACTIVE
        };
        let newest = all.into_iter().filter(ours).max_by_key(|r| r.tunnel.generation);
        newest.with_context(|| format!("no active IKE tunnel of {local}"))
    }

    /// Whether strongSwan has a child with these SPIs, which are of this side.
    fn peer_has(&self, (spi_in, spi_out): (u32, u32)) -> Result<bool> {
        Ok(self.peer.spis()?.contains(&(spi_out, spi_in)))
    }
}

fn spis(r: &DynIkeRecord) -> (u32, u32) {
    (r.tunnel.in_encryption_spi, r.tunnel.out_encryption_spi)
}

#[test]
fn dynamic_and_ike_tunnels_are_activated_refreshed_and_deactivated_at_the_peer_too() -> Result<()> {
    let Some(mut s) = Scene::set("controls")? else { return Ok(()) };

    // ACTIVATE_IPTUNDYN: two rules, and one that is not there.
    let both = [Tunnel::named("toPeer"), Tunnel::named("toPeer6"), Tunnel::named("nowhere")];
    assert_eq!(
        s.control(MessageType::ACTIVATE_IPTUNDYN, &both)?,
        [S::STATEUPDATED, S::STATEUPDATED, S::NOTFOUND]
    );
    for local in [DVIPA4, DVIPA6] {
        wait::until("the tunnel at both ends", LIMIT, || {
            let tunnel = s.tunnel(local)?;
            ensure!(s.peer_has(spis(&tunnel))?, "{}", s.peer.sas()?);
            Ok(())
        })?;
    }
    let (first, other) = (s.tunnel(DVIPA4)?, s.tunnel(DVIPA6)?);
    assert_eq!((first.dynamic.rule.as_str(), other.dynamic.rule.as_str()), ("toPeer", "toPeer6"));
    let again = [Tunnel::named("toPeer"), Tunnel::named("nowhere")];
    assert_eq!(s.control(MessageType::ACTIVATE_IPTUNDYN, &again)?, [S::STATEALREADYSET, S::NOTFOUND]);

    // REFRESH_IPTUNDYN: by id, and an id that is not there. New keys, the same tunnel.
    let id = first.tunnel.id.as_str().to_owned();
    let objects = [Tunnel::with_id(&id), Tunnel::with_id("Y9999")];
    assert_eq!(s.control(MessageType::REFRESH_IPTUNDYN, &objects)?, [S::STATEUPDATED, S::NOTFOUND]);
    let second = wait::until("the refreshed tunnel at both ends", LIMIT, || {
        let tunnel = s.tunnel(DVIPA4)?;
        ensure!(tunnel.dynamic.generation == first.dynamic.generation + 1, "{:?}", tunnel.dynamic);
        ensure!(s.peer_has(spis(&tunnel))?, "{}", s.peer.sas()?);
        Ok(tunnel)
    })?;
    assert_eq!(second.tunnel.id, first.tunnel.id);
    assert_ne!(spis(&second), spis(&first));
    assert_eq!(spis(&s.tunnel(DVIPA6)?), spis(&other), "nobody asked for the other one");

    // REFRESH_IKETUN: new keys and authentication; its child goes on or is made again.
    let ike = s.ike(DVIPA4)?;
    let objects = [Tunnel::with_id(ike.tunnel.id.as_str()), Tunnel::with_id("K9999")];
    assert_eq!(s.control(MessageType::REFRESH_IKETUN, &objects)?, [S::STATEUPDATED, S::NOTFOUND]);
    let refreshed = wait::until("the refreshed IKE tunnel", LIMIT, || {
        let now = s.ike(DVIPA4)?;
        ensure!(now.tunnel.generation > ike.tunnel.generation, "{:?}", now.tunnel);
        ensure!(now.tunnel.ext_state == IkeExtState::DONE, "{:?}", now.tunnel);
        Ok(now)
    })?;
    assert_eq!(refreshed.tunnel.id, ike.tunnel.id);
    assert_ne!(refreshed.tunnel.initiator_cookie, ike.tunnel.initiator_cookie);
    let shown = |cookie: &[u8; 8]| cookie.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let spi = shown(&refreshed.tunnel.initiator_cookie);
    wait::until("the peer's view of it", LIMIT, || {
        let said = s.peer.sas()?;
        ensure!(said.contains(&spi) && !said.contains(&shown(&ike.tunnel.initiator_cookie)), "{said}");
        Ok(())
    })?;
    wait::until("its child", LIMIT, || {
        let tunnel = s.tunnel(DVIPA4)?;
        ensure!(s.peer_has(spis(&tunnel))?, "{}", s.peer.sas()?);
        Ok(())
    })?;

    // DEACTIVATE_IPTUNDYN: the peer loses it, the other one stays.
    let id = other.tunnel.id.as_str().to_owned();
    let objects = [Tunnel::with_id(&id), Tunnel::with_id("Y9999"), Tunnel::named("nowhere")];
    assert_eq!(
        s.control(MessageType::DEACTIVATE_IPTUNDYN, &objects)?,
        [S::STATEUPDATED, S::NOTFOUND, S::NOTFOUND]
    );
    wait::until("its end at both ends", LIMIT, || {
        ensure!(s.tunnel(DVIPA6).is_err(), "still there");
        ensure!(!s.peer_has(spis(&other))?, "{}", s.peer.sas()?);
        Ok(())
    })?;
    assert!(s.tunnel(DVIPA4).is_ok());

    // DEACTIVATE_IKETUN: with it goes its child.
    let objects = [Tunnel::with_id(ike.tunnel.id.as_str()), Tunnel::with_id("K9999")];
    assert_eq!(s.control(MessageType::DEACTIVATE_IKETUN, &objects)?, [S::STATEUPDATED, S::NOTFOUND]);
    wait::until("its end at both ends", LIMIT, || {
        ensure!(s.ike(DVIPA4).is_err() && s.tunnel(DVIPA4).is_err(), "still there");
        ensure!(!s.peer.sas()?.contains(&spi), "{}", s.peer.sas()?);
        Ok(())
    })?;
    assert_eq!(s.control(MessageType::DEACTIVATE_IKETUN, &objects)?, [S::NOTFOUND, S::NOTFOUND]);
    Ok(())
}

/// Two manual tunnels, with SPIs from `spi` on; the second is active.
fn manual(name: &str, spi: u32, active: &str, remote: &str) -> String {
    let key = |n: u32, octets: u32| (0..octets).map(|i| format!("{:02x}", (i + n) % 251)).collect::<String>();
    let sa = |kind: &str, spi: u32, octets| {
        format!("  {kind}\n  {{\n    Spi  {spi}\n    Key  Hex {}\n  }}\n", key(spi, octets))
    };
    format!(
        "IpFilterRule rule-{name}\n{{\n  IpSourceAddr  {DVIPA4}\n  IpDestAddr  {remote}\n  IpService\n  {{\n    Protocol   all\n    Direction  Bidirectional\n    Routing    Local\n  }}\n  IpGenericFilterActionRef  guarded\n  IpManVpnActionRef  {name}\n}}\nIpManVpnAction {name}\n{{\n  HowToEncap  Tunnel\n  HowToAuth  ESP HMAC_SHA2_256_128\n  HowToEncrypt  AES_CBC KeyLength 128\n  LocalSecurityEndpointAddr  {DVIPA4}\n  RemoteSecurityEndpointAddr  {remote}\n{}{}{}{}  Active  {active}\n}}\n",
        sa("AuthInboundSa", spi, 32),
        sa("AuthOutboundSa", spi + 1, 32),
        sa("EncryptInboundSa", spi, 16),
        sa("EncryptOutboundSa", spi + 1, 16),
    )
}

#[test]
fn manual_tunnels_are_switched_and_policies_are_put_in_force() -> Result<()> {
    let Some(mut s) = Scene::set("manual-controls")? else { return Ok(()) };
    let file = s.plex.daemon.dir.join("policy.conf");
    let before = std::fs::read_to_string(&file)?;
    let text = before.replacen(
        "  IpFilterRuleRef  web\n",
        "  IpFilterRuleRef  web\n  IpFilterRuleRef  rule-manOne\n  IpFilterRuleRef  rule-manTwo\n",
        1,
    ) + &manual("manOne", 4097, "no", "198.51.100.71")
        + &manual("manTwo", 4099, "yes", "198.51.100.72");
    std::fs::write(&file, &text)?;

    // LOAD_POLICY: what the file has is in force.
    let load = |set| LoadPolicy { filter_set: set };
    s.nmi.load_policy(DIST, &load(FilterSet::POLICY))?;
    let rules = |s: &mut Scene| -> Result<BTreeSet<String>> {
        let all = s.nmi.filters(DIST, &[])?.records;
        Ok(all.iter().map(|r| r.filter.name.as_str().to_owned()).collect())
    };
    let now = rules(&mut s)?;
    assert!(now.contains("web") && now.contains("rule-manOne") && now.contains("rule-manTwo"), "{now:?}");

    // (DE)ACTIVATE_IPTUNMANUAL: by name and by id.
    let states = |s: &mut Scene| -> Result<Vec<(String, SaState, u32)>> {
        let all: Vec<ManualRecord> = s.nmi.manual_tunnels(DIST, &[])?.records;
        ensure!(all.iter().all(|r| r.tunnel.tunnel_type == TunnelType::MANUAL), "{all:?}");
        let state = |r: &ManualRecord| {
            (r.tunnel.vpn_action.as_str().to_owned(), r.tunnel.state, r.tunnel.in_encryption_spi)
        };
        Ok(all.iter().map(state).collect())
    };
    let is = |one, two| [("manOne".to_owned(), one, 4097), ("manTwo".to_owned(), two, 4099)];
    assert_eq!(states(&mut s)?, is(SaState::INACTIVE, SaState::ACTIVE));
    let objects = [Tunnel::named("manOne"), Tunnel::with_id("M2"), Tunnel::named("manThree")];
    assert_eq!(
        s.control(MessageType::ACTIVATE_IPTUNMANUAL, &objects)?,
        [S::STATEUPDATED, S::STATEALREADYSET, S::NOTFOUND]
    );
    assert_eq!(states(&mut s)?, is(SaState::ACTIVE, SaState::ACTIVE));
    let objects = [Tunnel::with_id("M1"), Tunnel::with_id("M1"), Tunnel::with_id("M9")];
    assert_eq!(
        s.control(MessageType::DEACTIVATE_IPTUNMANUAL, &objects)?,
        [S::STATEUPDATED, S::STATEALREADYSET, S::NOTFOUND]
    );
    assert_eq!(states(&mut s)?, is(SaState::INACTIVE, SaState::ACTIVE));
    let touched = s.nmi.control_all(MessageType::DEACTIVATE_IPTUNMANUAL, DIST)?;
    let touched: Vec<_> = touched.iter().map(|t| (t.tunnel_id.as_str(), t.status)).collect();
    assert_eq!(touched, [("M1", S::STATEALREADYSET), ("M2", S::STATEUPDATED)]);
    assert_eq!(states(&mut s)?, is(SaState::INACTIVE, SaState::INACTIVE));

    // LOAD_POLICY: the defaults; SAs are kept, and usable again with the policy.
    s.peer.initiate("v4")?;
    let kept = s.tunnel(DVIPA4)?;
    s.nmi.load_policy(DIST, &load(FilterSet::DEFAULT))?;
    let now = rules(&mut s)?;
    assert!(!now.contains("web") && !now.contains("rule-manOne"), "{now:?}");
    let settings = |s: &mut Scene| -> Result<bool> {
        let all = s.nmi.stacks()?.records;
        Ok(all.iter().find(|r| r.stack.name == DIST).context("the stack")?.stack.policy_filters)
    };
    assert!(!settings(&mut s)?);
    assert_eq!(spis(&s.tunnel(DVIPA4)?), spis(&kept));
    assert!(s.peer_has(spis(&kept))?);
    s.nmi.load_policy(DIST, &load(FilterSet::POLICY))?;
    assert!(settings(&mut s)? && rules(&mut s)?.contains("web"));
    assert_eq!(spis(&s.tunnel(DVIPA4)?), spis(&kept));

    // A file with a fault changes nothing, and is refused as what it is.
    std::fs::write(&file, text.replacen("IpFilterPolicy", "IpFiltrPolicy", 1))?;
    match s.nmi.load_policy(DIST, &load(FilterSet::POLICY)) {
        Err(ClientError::Refused { rc: ReturnCode::EIO, rsn: ReasonCode::POLICY_LOAD }) => {}
        other => panic!("{other:?}"),
    }
    assert!(settings(&mut s)? && rules(&mut s)?.contains("web"));
    assert!(s.plex.daemon.log().contains("IpFiltrPolicy"), "the log says why");
    Ok(())
}
