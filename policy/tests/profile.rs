//! TCP/IP profiles: what they mean, and what is said of those that are wrong.

use policy::Source;
use policy::model::{AddressRange, Connect, Direction, PortRange, Routing};
use policy::profile::{Method, Moveable, Profile, VipaRole, load};
use proptest::prelude::*;

fn profile(text: &str) -> Profile {
    match load(&Source::stack("profile", text.into())) {
        Ok((profile, warnings)) => {
            assert!(warnings.is_empty(), "{warnings:?}");
            profile
        }
        Err(report) => panic!("{report}"),
    }
}

fn shown(text: &str) -> String {
    match load(&Source::stack("profile", text.into())) {
        Ok((_, warnings)) => warnings.iter().map(|w| format!("{w}\n")).collect(),
        Err(report) => report.to_string(),
    }
}

const OWNER: &str = "
; the owner
IPCONFIG IPSECURITY SYSPLEXROUTING DYNAMICXCF 198.51.100.1 255.255.255.0 1
IPSEC LOGENABLE DVIPSEC
  IPSECRULE * * LOG PROTOCOL UDP SRCPORT 500 DESTPORT 500
ENDIPSEC
VIPADYNAMIC
  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.80
  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.80 PORT 443
                 DESTIP 198.51.100.2 198.51.100.3
ENDVIPADYNAMIC
";

#[test]
fn an_owner() {
    let p = profile(OWNER);
    assert!(p.ipsecurity && p.sysplex_routing && !p.ipsecurity6);
    let xcf = p.xcf4.unwrap();
    assert_eq!((xcf.address, xcf.prefix, xcf.security_class), ("198.51.100.1".parse().unwrap(), 24, 255));
    let ipsec = p.ipsec.unwrap();
    assert!(ipsec.dvipsec && ipsec.log && !ipsec.log_implicit && !ipsec.dv_local_filter);
    let ike = PortRange::new(500, 500).unwrap();
    let [rule] = ipsec.rules[..] else { panic!("one rule") };
    assert_eq!(
        (rule.protocol, rule.source_ports, rule.destination_ports, rule.log),
        (Some(17), ike, ike, true)
    );
    let [vipa] = p.vipas[..] else { panic!("one DVIPA") };
    assert_eq!(
        (vipa.role, vipa.prefix, vipa.moveable),
        (VipaRole::Owner, Some(24), Some(Moveable::Immediate))
    );
    assert_eq!(p.distributions.len(), 1);
    let d = &p.distributions[0];
    assert_eq!((d.method, d.ports.len(), d.targets.len()), (Method::RoundRobin, 1, 2));
}

#[test]
fn a_backup_and_a_target() {
    let p = profile(
        "IPCONFIG IPSECURITY SYSPLEXROUTING DYNAMICXCF 198.51.100.2 255.255.255.0 1
         IPSEC LOGENABLE DVIPSEC ENDIPSEC
         VIPADYNAMIC
           VIPABACKUP 200 192.0.2.80
           VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.80 PORT 443 DESTIP ALL
         ENDVIPADYNAMIC",
    );
    assert_eq!((p.vipas[0].role, p.vipas[0].prefix), (VipaRole::Backup { rank: 200 }, None));
    assert!(p.distributions[0].targets.is_empty(), "ALL");
    let target =
        profile("IPCONFIG IPSECURITY DYNAMICXCF 198.51.100.3 255.255.255.0 1 IPSEC LOGENABLE ENDIPSEC");
    assert!(target.vipas.is_empty() && !target.ipsec.unwrap().dvipsec);
}

#[test]
fn every_option() {
    let p = profile(
        "TCPCONFIG RESTRICTLOWPORTS
         IPCONFIG6 IPSECURITY DYNAMICXCF 2001:db8::1/64 INTFID ::1 SECCLASS 7
         ipsec nodvlocalfltr logimp
           ipsecrule 192.0.2.0/24 10.0.0.1-10.0.0.9 proto icmp type 3 5 code * routing either seccl 4 directio inbound
           ipsecrule 192.0.2.1 - 192.0.2.7 * protocol 6 srcport * destport 80 90 direct bidirectional inbc
           ipsec6rule * 2001:db8::/32 frag routing routed
         endipsec
         VIPADYNAMIC
           VIPADEF V6 2001:db8::80/128
           VIPAB MOVE WHENIDLE 255.255.255.0 192.0.2.81 192.0.2.82
           VIPABACKUP 9 192.0.2.83
           VIPADELETE 192.0.2.83
           VIPADIST DEFINE DISTM HOTSTANDBY NOAUTOSWITCHBACK OPTLOCAL SYSPLEXP TIMEDAFF 30 192.0.2.81
             PORT 80 8000-8010 DESTIP 10.1.1.1 WEIGHT 20 PREFERRED 10.1.1.2 BACKUP 5
           VIPADISTRIBUTE 192.0.2.82 DESTIP ALL
           VIPADISTRIBUTE DELETE 192.0.2.82
         ENDVIPADYNAMIC",
    );
    assert_eq!(p.xcf6.map(|x| (x.prefix, x.security_class)), Some((64, 7)));
    let rules = p.ipsec.unwrap().rules;
    assert_eq!(rules[0].kind.map(|k| (k.low(), k.high())), Some((3, 5)));
    assert_eq!(
        (rules[0].routing, rules[0].security_class, rules[0].direction),
        (Routing::Either, 4, Direction::Inbound)
    );
    assert_eq!(
        rules[1].source,
        AddressRange::new("192.0.2.1".parse().unwrap(), "192.0.2.7".parse().unwrap()).unwrap()
    );
    assert_eq!(rules[1].direction, Direction::Bidirectional(Connect::Inbound));
    assert_eq!(rules[1].destination_ports, PortRange::new(80, 90).unwrap());
    assert!(rules[2].fragments_only && rules[2].source == AddressRange::ALL_V6);
    assert_eq!(p.vipas.len(), 3);
    assert_eq!(p.vipas[1].moveable, Some(Moveable::WhenIdle));
    let [d] = &p.distributions[..] else { panic!("one distribution is left") };
    assert_eq!(d.method, Method::HotStandby { autoswitchback: false, healthswitch: true });
    assert_eq!((d.optlocal, d.affinity_secs, d.sysplex_ports, d.ports.len()), (Some(1), 30, true, 2));
    assert_eq!((d.targets[0].weight, d.targets[1].backup_rank), (20, Some(5)));
}

#[test]
fn messages() {
    insta::assert_snapshot!(shown(
        "IPSEC LOGENABEL
  IPSECRULE 192.0.2.256 *
  IPSECRULE * * PROTOCOL ICMP SRCPORT 80
  IPSECRULE * * DIRECTOIN INBOUND
  IPSECRULE * * PROTOCOL TCP DESTPORT 90-80
  IPSEC6RULE * 192.0.2.1
  IPSECRULE * * LOG
  LOGENABLE
ENDIPSEC
IPCONFIG DYNAMICXCF 198.51.100.1 255.0.255.0 1
VIPADYNAMIC
  VIPADEFINE TIER1 255.255.255.0 192.0.2.1
  VIPADEFINE 255.255.255.0
  VIPABACKUP 255 192.0.2.2
  VIPABACKUP 192.0.2.3
  VIPADEFINE 255.255.255.0 192.0.2.3
  VIPADEFINE MOVEABLE WHENIDLE V6 2001:db8::1
  VIPAROUTE DEFINE 192.0.2.1 192.0.2.2
  VIPADISTRIBUT 192.0.2.3 DESTIP ALL
  VIPADISTRIBUTE 192.0.2.3 PORT 0 DESTIP ALL
  VIPADISTRIBUTE DISTMETHOD RANDOM 192.0.2.3 DESTIP ALL
  VIPADISTRIBUTE 192.0.2.3 PORT 80
  VIPADISTRIBUTE 192.0.2.3 DESTIP ALL PORT 80
  VIPADISTRIBUTION
"
    ));
}

#[test]
fn messages_of_what_is_there_twice_or_too_late() {
    insta::assert_snapshot!(shown(
        "IPCONFIG IPSECURITY
IPSEC
  IPSECRULE * *
  DVIPSEC
ENDIPSEC
VIPADYNAMIC
  VIPADELETE 192.0.2.9
ENDVIPADYNAMIC
IPSEC
ENDIPSEC
IPSEC
"
    ));
    insta::assert_snapshot!("nul", shown("IPSEC\n\0"));
    let words = shown(&"a ".repeat(1_000_010));
    insta::assert_snapshot!("words", words.split("\n\n").find(|message| message.contains("words")).unwrap());
    let many: String = (0..1_100).map(|n| format!("VIPABACKUP 10.0.{}.{}\n", n / 256, n % 256)).collect();
    insta::assert_snapshot!("many_dvipas", shown(&format!("VIPADYNAMIC\n{many}ENDVIPADYNAMIC\n")));
}

#[test]
fn t58_profiles_that_are_none() {
    assert!(shown("\0").contains("NUL"));
    assert!(shown(&"IPSEC ".repeat(100_000)).contains("not closed"));
    let load = |bytes: Vec<u8>| load(&Source::stack("profile", bytes)).unwrap_err().to_string();
    assert!(load(vec![0xff, 0xfe]).contains("not UTF-8"));
    assert!(load(vec![b';'; 100 << 20]).contains("104857600 bytes"));
    assert!(load(b"a ".repeat(2_000_000)).contains("more than 1000000 words"));
}

proptest! {
    #[test]
    fn no_words_make_it_panic(words in proptest::collection::vec(proptest::sample::select(OWNER.split_whitespace().collect::<Vec<_>>()), 0..60), cut in 0..OWNER.len()) {
        let _ = load(&Source::stack("p", words.join(" ").into_bytes())).map_err(|r| r.to_string());
        let _ = load(&Source::stack("p", OWNER.as_bytes()[..cut].to_vec())).map_err(|r| r.to_string());
    }
}
