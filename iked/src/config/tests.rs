//! The whole example of the documentation, and what each mistake is told as.

use super::*;
use std::os::unix::fs::PermissionsExt;

const GOOD: &str = r#"
system = "SYSA"
state_dir = "state"
policy = "policy.conf"
servauth = "servauth.toml"

[nmi]
socket = "/var/sock/ipsecmgmt"
max_clients = 50
text = "ascii"

[sysplex]
name = "PLEX1"
key_file = "sysplex.key"
coupling_facility = "sled"

[[stack]]
name = "TCPCS1"
netns = "dist1"
network = ["eth0"]
xcf = { interface = "xcf0", address = "10.99.0.1" }
home = []

[[stack]]
name = "TGT1"
netns = "tgt1"
network = ["eth0"]
xcf = { interface = "xcf0", address = "10.99.0.2" }
stackd = "/opt/stackd"

[[dvipa]]
address = "203.0.113.10"
owner = "tcpcs1"
backups = ["TGT1"]
takeover = "renegotiate"
giveback = "immediate"

[[dvipa.distribute]]
ports = [80, 443, "8000-8099"]
protocol = "tcp"
method = "round-robin"
targets = ["TGT1", "TCPCS1"]
"#;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        dir.key(&"ab".repeat(32), 0o600);
        dir
    }
    fn key(&self, text: &str, mode: u32) {
        let path = self.0.path().join("sysplex.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    fn parse(&self, text: &str) -> Result<Config, String> {
        let path = self.0.path().join("iked.toml");
        Config::parse(&path, text)
            .map_err(|e| e.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
    fn errors(&self, text: &str) -> String {
        self.parse(text).unwrap_err()
    }
}

#[test]
fn the_documented_example_is_good() {
    let dir = Dir::new();
    let c = dir.parse(GOOD).unwrap();
    assert_eq!(c.state_dir, dir.0.path().join("state"));
    assert_eq!(c.stacks[1].stackd, Path::new("/opt/stackd"));
    assert!(c.stacks[0].stackd.ends_with("stackd"));
    assert_eq!(c.dvipas[0].owner.as_str(), "TCPCS1");
    assert_eq!(c.dvipas[0].distribute[0].ports, [(80, 80), (443, 443), (8000, 8099)]);
    assert_eq!(c.stack("tgt1").unwrap().name.as_str(), "TGT1");
    assert_eq!(c.log, Log { filter: "info".into(), json: false });
}

#[test]
fn t58_unknown_key_says_where_and_what_was_expected() {
    let dir = Dir::new();
    insta::assert_snapshot!(dir.errors(&GOOD.replace("max_clients", "max_client")), @"iked.toml:9:1: unknown field `max_client`, expected one of `socket`, `max_clients`, `text`");
    insta::assert_snapshot!(dir.errors(&GOOD.replace("\"sled\"", "\"redis\"")), @"iked.toml:15:21: unknown variant `redis`, expected `sled` or `etcd`");
    insta::assert_snapshot!(dir.errors(&GOOD.replace("\"10.99.0.2\"", "\"10.99.0.256\"")), @"iked.toml:28:39: invalid IP address syntax");
    insta::assert_snapshot!(dir.errors("system = \"SYSA\"\nsystem = \"B\""), @"iked.toml:2:1: duplicate key");
    insta::assert_snapshot!(dir.errors("system = \"SYSA"), @r#"iked.toml:1:15: invalid basic string, expected `"`"#);
}

#[test]
fn metrics_are_off_unless_it_says_where_they_are_served() {
    let dir = Dir::new();
    assert_eq!(dir.parse(GOOD).unwrap().metrics, None);
    let with = |listen: &str| format!("{GOOD}\n[metrics]\nlisten = \"{listen}\"\n");
    let served = |listen: &str| dir.parse(&with(listen)).unwrap().metrics.unwrap().to_string();
    assert_eq!(served("[::1]:9477"), "[::1]:9477");
    assert_eq!(served("unix:/run/iked/metrics"), "unix:/run/iked/metrics");
    let wrong = dir.errors(&with("localhost"));
    assert!(wrong.contains("\"localhost\": expected ADDRESS:PORT or unix:/PATH"), "{wrong}");
}

#[test]
#[cfg(feature = "etcd")]
fn a_sysplex_on_etcd_says_where_it_is() {
    let dir = Dir::new();
    let with = |etcd: &str| GOOD.replace("\"sled\"", &format!("\"etcd\"\n{etcd}"));
    let plain =
        with("lease_ms = 200\n[sysplex.etcd]\nendpoints = [\"http://10.0.0.1:2379\", \"http://cf2:2379\"]");
    let sysplex = dir.parse(&plain).unwrap().sysplex.unwrap();
    assert_eq!(sysplex.lease, std::time::Duration::from_millis(200));
    assert_eq!(sysplex.etcd.unwrap().endpoints.len(), 2);
    insta::assert_snapshot!(dir.errors(&with("")), @r#"iked.toml:15:21: coupling_facility = "etcd" needs [sysplex.etcd] with endpoints"#);
    let told = |text: &str, lines: &[&str]| {
        let errors = dir.errors(text);
        assert_eq!(errors.lines().count(), lines.len(), "{errors}");
        for line in lines {
            assert!(errors.contains(line), "{line:?} is not in: {errors}");
        }
    };
    told(
        &with("lease_ms = 99\n[sysplex.etcd]\nendpoints = []\nca = \"none.pem\"\ncert = \"c\""),
        &[
            "iked.toml:15:21: none.pem: No such file",
            "iked.toml:16:12: lease_ms = 99: expected 100 to 60000",
            "iked.toml:18:13: endpoints: expected 1 to 16 URLs",
            "iked.toml:19:6: `ca` goes with endpoints with https",
            "iked.toml:20:8: `cert` and `key` go together",
            "iked.toml:20:8: `cert` and `key` go with endpoints with https",
        ],
    );
    told(
        &with("[sysplex.etcd]\nendpoints = [\"https://a:1\", \"http://b:1\", \"https://u@c/d\"]"),
        &[
            "iked.toml:17:13: endpoints with https need `ca`",
            "iked.toml:17:29: \"http://b:1\": expected https://HOST:PORT",
            "iked.toml:17:43: \"https://u@c/d\": expected https://HOST:PORT",
        ],
    );
    told(
        &GOOD.replace("\"sled\"", "\"sled\"\n[sysplex.etcd]\nendpoints = [\"http://a:1\"]"),
        &["[sysplex.etcd] goes with coupling_facility = \"etcd\""],
    );
}

#[test]
#[cfg(not(feature = "etcd"))]
fn without_the_feature_etcd_is_refused() {
    let text = GOOD.replace("\"sled\"", "\"etcd\"\n[sysplex.etcd]\nendpoints = [\"http://a:1\"]");
    insta::assert_snapshot!(Dir::new().errors(&text), @r#"iked.toml:15:21: coupling_facility = "etcd": this iked was built without etcd (--features etcd)"#);
}

#[test]
fn more_dvipas_than_one_transaction_can_ask_for_are_refused() {
    let many: String =
        (0..129).map(|n| format!("[[dvipa]]\naddress = \"198.51.100.{n}\"\nowner = \"TCPCS1\"\n")).collect();
    let (head, _) = GOOD.split_once("[[dvipa]]").unwrap();
    let errors = Dir::new().errors(&format!("{head}{many}"));
    assert!(errors.ends_with("more than 128 DVIPAs"), "{errors}");
}

#[test]
fn t58_all_contradictions_are_told_at_once() {
    let text = GOOD
        .replace("\"SYSA\"", "\"SYSTEM-NUMBER-1\"")
        .replace("owner = \"tcpcs1\"", "owner = \"TCPCS9\"")
        .replace("backups = [\"TGT1\"]", "backups = [\"TGT1\", \"TGT1\"]")
        .replace("netns = \"tgt1\"", "netns = \"dist1\"")
        .replace("10.99.0.2", "10.99.0.1")
        .replace("443, \"8000-8099\"", "0, \"8099-8000\"")
        .replace("max_clients = 50", "max_clients = 0");
    insta::assert_snapshot!(Dir::new().errors(&text), @r#"
        iked.toml:2:10: "SYSTEM-NUMBER-1" is no name: expected 1 to 8 characters out of A-Z a-z 0-9 @ # $ _ - (not first)
        iked.toml:9:15: max_clients = 0: expected 1 to 1000
        iked.toml:24:1: stacks TCPCS1 and TGT1 share a network namespace ("dist1"): expected one each (netns = …)
        iked.toml:28:39: 10.99.0.1 is the XCF address of TGT1 and the XCF address of TCPCS1: expected one use of an address
        iked.toml:33:9: owner "TCPCS9" is no [[stack]]: expected one of TCPCS1, TGT1
        iked.toml:34:20: TGT1 stands twice among owner and backups
        iked.toml:39:14: expected a port from 1 or a range "low-high"
        iked.toml:39:17: expected a port from 1 or a range "low-high"
    "#);
}

#[test]
fn distribution_needs_the_trusted_link() {
    let text = GOOD.replace("xcf = { interface = \"xcf0\", address = \"10.99.0.2\" }\n", "");
    insta::assert_snapshot!(Dir::new().errors(&text), @r#"
        iked.toml:32:9: TGT1 has no xcf: a DVIPA with backups or targets needs `xcf = { interface = …, address = … }` there
        iked.toml:41:12: TGT1 has no xcf: distribution from TCPCS1 to TGT1 goes over it
    "#);
    let text = GOOD.replace(
        "interface = \"xcf0\", address = \"10.99.0.1\"",
        "interface = \"eth0\", address = \"10.99.0.1\"",
    );
    insta::assert_snapshot!(Dir::new().errors(&text), @r#"iked.toml:21:21: "eth0" is both the XCF link and a network interface of TCPCS1: the trusted link must be its own"#);
}

#[test]
fn every_method_with_its_options() {
    let with = |coded: &str| {
        let text = format!("{GOOD}\n[[dvipa.distribute]]\nports = [9]\n{coded}\n");
        let d = Dir::new().parse(&text).unwrap().dvipas[0].distribute.last().unwrap().clone();
        let weights: Vec<_> = d.targets.iter().map(|t| t.weight).collect();
        (d.method, d.affinity_secs, weights)
    };
    let one = "targets = ['TGT1']";
    assert_eq!(with(one), (Method::RoundRobin, 0, vec![10]));
    assert_eq!(with(&format!("affinity_secs = 60\n{one}")), (Method::RoundRobin, 60, vec![10]));
    let weighted = "method = 'weighted-active'\ntargets = ['TCPCS1', { stack = 'TGT1', weight = 255 }]";
    assert_eq!(with(weighted), (Method::WeightedActive, 0, vec![10, 255]));
    let standby = Method::HotStandby { autoswitchback: true, healthswitch: true };
    assert_eq!(with(&format!("method = 'hot-standby'\n{one}")).0, standby);
    let stays = "method = 'hot-standby'\nautoswitchback = false\nhealthswitch = false";
    let standby = Method::HotStandby { autoswitchback: false, healthswitch: false };
    assert_eq!(with(&format!("{stays}\n{one}")).0, standby);
    assert_eq!(with(&format!("method = 'wlm'\n{one}")).0, Method::Wlm);
    assert_eq!(with(&format!("method = 'maglev'\n{one}")).0, Method::Maglev);
}

#[test]
fn options_that_do_not_go_with_the_method_are_told() {
    let errors =
        |coded: &str| Dir::new().errors(&format!("{GOOD}\n[[dvipa.distribute]]\nports = [9]\n{coded}\n"));
    insta::assert_snapshot!(errors("targets = [{ stack = 'TGT1', weight = 2 }]"), @"iked.toml:46:12: weight goes with the methods weighted-active, wlm and maglev");
    insta::assert_snapshot!(errors("healthswitch = true\ntargets = ['TGT1']"), @r#"iked.toml:46:16: healthswitch goes with method = "hot-standby""#);
    let weight = |w: &str| errors(&format!("method = 'wlm'\ntargets = [{{ stack = 'TGT1', {w} }}]"));
    insta::assert_snapshot!(weight("weight = 0"), @"iked.toml:47:12: weight: expected 1 to 255");
    insta::assert_snapshot!(weight("weight = 256"), @"iked.toml:47:12: weight: expected 1 to 255");
    insta::assert_snapshot!(weight("wait = 1"), @r#"iked.toml:47:11: expected the name of a stack ("TGT1") or { stack = "TGT1", weight = 20 }"#);
    insta::assert_snapshot!(errors("affinity_secs = 10000\ntargets = ['TGT1']"), @"iked.toml:46:17: affinity_secs = 10000: expected 0 to 9999");
    insta::assert_snapshot!(errors("method = 'random'\ntargets = ['TGT1']"), @"iked.toml:46:10: unknown variant `random`, expected one of `round-robin`, `weighted-active`, `hot-standby`, `wlm`, `maglev`");
}

#[test]
fn a_port_is_distributed_once() {
    let text = format!("{GOOD}\n[[dvipa.distribute]]\nports = [\"8050-9000\"]\ntargets = [\"TGT1\"]\n");
    insta::assert_snapshot!(Dir::new().errors(&text), @"iked.toml:45:9: a port of 203.0.113.10 is already distributed above");
}

#[test]
fn a_dvipa_needs_a_sysplex() {
    let (head, rest) = GOOD.split_once("[sysplex]").unwrap();
    let (_, stacks) = rest.split_once("[[stack]]").unwrap();
    insta::assert_snapshot!(Dir::new().errors(&format!("{head}[[stack]]{stacks}")), @"iked.toml:26:1: a [[dvipa]] needs a [sysplex] with a name and a key file");
}

#[test]
fn t27_key_file_open_to_others_is_refused() {
    let dir = Dir::new();
    dir.key(&"ab".repeat(32), 0o640);
    insta::assert_snapshot!(dir.errors(GOOD), @"iked.toml:14:12: key file sysplex.key: mode 0640 gives group or others access; expected 0600 (chmod 600)");
    dir.key(&"ab".repeat(31), 0o600);
    insta::assert_snapshot!(dir.errors(GOOD), @"iked.toml:14:12: key file sysplex.key: expected 32 bytes as 64 hexadecimal digits on one line; older keys on lines below it, 4 keys at most");
    dir.key(&"zz".repeat(32), 0o600);
    insta::assert_snapshot!(dir.errors(GOOD), @"iked.toml:14:12: key file sysplex.key: expected 32 bytes as 64 hexadecimal digits on one line; older keys on lines below it, 4 keys at most");
}

#[test]
fn t58_empty_binary_and_huge_files() {
    let dir = Dir::new();
    let path = dir.0.path().join("iked.toml");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Config::load(&path).unwrap_err().to_string().replace(&format!("{}/", dir.0.path().display()), "")
    };
    insta::assert_snapshot!(load(b""), @"iked.toml:1:1: missing field `system`");
    insta::assert_snapshot!(load(b"system = 'A'\n\xff\xfe\x00"), @"iked.toml: line 2: not UTF-8 text");
    insta::assert_snapshot!(load(&vec![b'#'; (1 << 20) + 1]), @"iked.toml: larger than 1048576 bytes");
    std::fs::remove_file(&path).unwrap();
    insta::assert_snapshot!(Config::load(&path).unwrap_err().to_string().rsplit_once('/').unwrap().1.to_owned(), @"iked.toml: No such file or directory (os error 2)");
}

const D1: &str = "IPCONFIG IPSECURITY SYSPLEXROUTING DYNAMICXCF 10.99.0.1 255.255.255.0 1
IPSEC LOGENABLE DVIPSEC IPSECRULE * * PROTOCOL UDP DESTPORT 500 ENDIPSEC
VIPADYNAMIC
  VIPADEFINE MOVEABLE WHENIDLE 255.255.255.0 203.0.113.10
  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 203.0.113.10 PORT 80 8000-8099 DESTIP 10.99.0.2
ENDVIPADYNAMIC";
const D2: &str = "IPCONFIG IPSECURITY DYNAMICXCF 10.99.0.2 255.255.255.0 1
VIPADYNAMIC VIPABACKUP 200 203.0.113.10 ENDVIPADYNAMIC";

/// The two stacks with what they are in profiles.
fn with_profiles(dir: &Dir, first: &str, second: &str) -> String {
    std::fs::write(dir.0.path().join("d1.profile"), first).unwrap();
    std::fs::write(dir.0.path().join("d2.profile"), second).unwrap();
    let (head, _) = GOOD.split_once("[[dvipa]]").unwrap();
    head.replace(
        "xcf = { interface = \"xcf0\", address = \"10.99.0.1\" }",
        "xcf = { interface = \"xcf0\" }\nprofile = \"d1.profile\"",
    )
    .replace(
        "xcf = { interface = \"xcf0\", address = \"10.99.0.2\" }",
        "xcf = { interface = \"xcf0\", address = \"10.99.0.2\" }\nprofile = \"d2.profile\"",
    )
}

#[test]
fn profiles_are_another_spelling() {
    let dir = Dir::new();
    let c = dir.parse(&with_profiles(&dir, D1, D2)).unwrap();
    assert_eq!(c.stacks[0].xcf.as_ref().unwrap().address, IpAddr::from([10, 99, 0, 1]));
    assert_eq!(c.stacks[0].default_filters.as_ref().unwrap().rules.len(), 1);
    assert_eq!(c.stacks[1].default_filters, None, "it has no IPSEC block");
    let [dvipa] = &c.dvipas[..] else { panic!("{:?}", c.dvipas) };
    assert_eq!((dvipa.owner.as_str(), dvipa.backups[0].as_str()), ("TCPCS1", "TGT1"));
    assert_eq!(dvipa.giveback, Giveback::WhenIdle);
    assert_eq!(dvipa.distribute[0].ports, [(80, 80), (8000, 8099)]);
    assert_eq!(dvipa.distribute[0].targets[0].stack.as_str(), "TGT1");
}

#[test]
fn every_method_of_a_profile() {
    let dir = Dir::new();
    let distribute = |coded: &str| {
        let first =
            D1.replace("DISTMETHOD ROUNDROBIN 203.0.113.10 PORT 80 8000-8099 DESTIP 10.99.0.2", coded);
        let mut c = dir.parse(&with_profiles(&dir, &first, D2)).unwrap();
        let d = c.dvipas.remove(0).distribute.remove(0);
        let targets: Vec<_> = d.targets.iter().map(|t| format!("{} {}", t.stack, t.weight)).collect();
        (d.method, d.ports, d.affinity_secs, targets.join(", "))
    };
    let all = vec![(1, 65_535)];
    let both = || "TCPCS1 10, TGT1 10".to_owned();
    assert_eq!(distribute("203.0.113.10 DESTIP ALL"), (Method::Wlm, all.clone(), 0, both()));
    let server = "DISTMETHOD SERVERWLM TIMEDAFFINITY 60 203.0.113.10 DESTIP ALL";
    assert_eq!(distribute(server), (Method::Wlm, all, 60, both()));
    let weighted = "DISTM WEIGHTEDACTIVE 203.0.113.10 PORT 80 DESTIP 10.99.0.1 WEIGHT 99 10.99.0.2";
    let targets = "TCPCS1 99, TGT1 10".to_owned();
    assert_eq!(distribute(weighted), (Method::WeightedActive, vec![(80, 80)], 0, targets));
    let standby = "DISTM HOTSTANDBY NOAUTOSWITCHBACK 203.0.113.10 PORT 80 DESTIP 10.99.0.1 BACKUP 7 10.99.0.2 PREFERRED";
    let method = Method::HotStandby { autoswitchback: false, healthswitch: true };
    assert_eq!(distribute(standby), (method, vec![(80, 80)], 0, "TGT1 10, TCPCS1 10".to_owned()));
}

#[test]
fn what_a_profile_cannot_mean_is_told() {
    let dir = Dir::new();
    let told = |first: &str, second: &str, expected: &str| {
        let errors = dir.errors(&with_profiles(&dir, first, second));
        assert!(errors.contains(expected), "{expected:?} is not in: {errors}");
    };
    told(D1, &D2.replace("10.99.0.2", "10.99.0.3"), "the XCF address of TGT1 is 10.99.0.3 in its profile");
    told(&D1.replace("ROUNDROBIN", "ROUNDROBIN OPTLOCAL 1"), D2, "OPTLOCAL is not supported");
    told(&D1.replace("ROUNDROBIN", "ROUNDROBIN SYSPLEXPORTS"), D2, "SYSPLEXPORTS is not supported");
    told(&D1.replace("DESTIP 10.99.0.2", "DESTIP 10.99.0.9"), D2, "no stack has the XCF address 10.99.0.9");
    told(D1, &D2.replace("203.0.113.10", "203.0.113.11"), "no profile here has VIPADEFINE for it");
    told(&D1.replace("VIPADEFINE", "VIPADEFINED"), D2, "the profile of TCPCS1");
    told(&D1.replace("DYNAMICXCF 10.99.0.1 255.255.255.0 1", ""), D2, "xcf needs an address");
    told(D1, D1, "203.0.113.10 is a DVIPA and a DVIPA");
}

#[test]
fn ike_config_is_read_and_the_configuration_goes_before_it() {
    let dir = Dir::new();
    let text = "IkeConfig\n{\n  IkeSyslogLevel 15\n  IkeRetries 3\n  IkeInitWait 5\n}\n";
    std::fs::write(dir.0.path().join("iked.conf"), text).unwrap();
    let c = dir.parse(&format!("{GOOD}\n[ike]\nfile = \"iked.conf\"\nretries = 4\n")).unwrap();
    assert_eq!((c.ike.retries, c.ike.init_wait.as_secs()), (4, 5));
    assert_eq!(c.log.filter, "iked=debug,info");
    std::fs::write(dir.0.path().join("iked.conf"), text.replace("IkeRetries", "IkeRetreis")).unwrap();
    let errors = dir.errors(&format!("{GOOD}\n[ike]\nfile = \"iked.conf\"\n"));
    assert!(errors.contains("did you mean `IkeRetries`?"), "{errors}");
}
