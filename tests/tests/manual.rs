//! Manual tunnels against scapy's ESP and AH: both modes, both versions, alone and one inside the other; switched by an operator.
//!
//! ```text
//!   PEER (scapy, addresses .101 …, ::101 …) === ext === .1 DIST (home 203.0.113.10, 2001:db8:113::10)
//! ```

use anyhow::{Context, Result, bail, ensure};
use e2e::lab::Lab;
use e2e::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use e2e::process::{Background, run};
use e2e::scenario::stack_table;
use e2e::wait;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const HOME4: &str = "203.0.113.10";
const HOME6: &str = "2001:db8:113::10";
const SOON: Duration = Duration::from_secs(60);
/// The Python that Debian's scapy is for.
const PYTHON: &str = "/usr/bin/python3";

/// An algorithm: policy's word, scapy's word, octets of its key.
type Algorithm = (&'static str, &'static str, usize);

const CBC128: Algorithm = ("AES_CBC KeyLength 128", "AES-CBC", 16);
const CBC256: Algorithm = ("AES_CBC KeyLength 256", "AES-CBC", 32);
const TRIPLE_DES: Algorithm = ("3DES", "3DES", 24);
const DES: Algorithm = ("DES", "DES", 8);
const NO_CIPHER: Algorithm = ("DoNot", "NULL", 0);
const SHA1: Algorithm = ("HMAC_SHA1", "HMAC-SHA1-96", 20);
const SHA256: Algorithm = ("HMAC_SHA2_256_128", "SHA2-256-128", 32);
const SHA384: Algorithm = ("HMAC_SHA2_384_192", "SHA2-384-192", 48);
const SHA512: Algorithm = ("HMAC_SHA2_512_256", "SHA2-512-256", 64);
const MD5: Algorithm = ("HMAC_MD5", "HMAC-MD5-96", 16);

/// What protects a tunnel.
#[derive(Clone, Copy)]
enum Protection {
    Esp(Algorithm, Algorithm),
    Ah(Algorithm),
    Both(Algorithm, Algorithm),
}
use Protection::{Ah, Both, Esp};

/// In both modes and both versions, each with other algorithms.
const CASES: [(bool, bool, Protection); 16] = [
    (false, true, Esp(CBC128, SHA1)),
    (false, false, Esp(CBC256, SHA256)),
    (true, true, Esp(CBC256, SHA384)),
    (true, false, Esp(CBC128, SHA512)),
    (false, true, Ah(SHA256)),
    (false, false, Ah(SHA1)),
    (true, true, Ah(SHA256)),
    (true, false, Ah(SHA512)),
    (false, true, Both(CBC128, SHA256)),
    (false, false, Both(CBC256, SHA1)),
    (true, true, Both(CBC256, SHA256)),
    (true, false, Both(CBC128, SHA384)),
    (false, true, Esp(NO_CIPHER, SHA256)),
    (false, true, Esp(TRIPLE_DES, SHA1)),
    (false, false, Esp(DES, MD5)),
    (false, true, Ah(MD5)),
];

struct Case {
    name: String,
    v6: bool,
    tunnel: bool,
    protection: Protection,
    number: usize,
}

impl Case {
    fn local(&self) -> &'static str {
        if self.v6 { HOME6 } else { HOME4 }
    }
    fn remote(&self) -> String {
        let host = 101 + self.number;
        if self.v6 { format!("2001:db8:2::{host}") } else { format!("192.0.2.{host}") }
    }
    /// SPI of a direction; ESP and AH have their own.
    fn spi(&self, ah: bool, inbound: bool) -> usize {
        0x1000 + self.number * 4 + usize::from(ah) * 2 + usize::from(inbound)
    }
    fn key(&self, algorithm: Algorithm, salt: usize) -> String {
        (0..algorithm.2).map(|i| format!("{:02x}", (i * 7 + salt + self.number * 3) % 256)).collect()
    }

    fn policy(&self) -> String {
        let (cipher, auth, protocol) = match self.protection {
            Esp(cipher, auth) => (cipher, auth, "ESP"),
            Ah(auth) => (NO_CIPHER, auth, "AH"),
            Both(cipher, auth) => (cipher, auth, "AH"),
        };
        let weak = [cipher.0, auth.0].iter().any(|w| matches!(*w, "3DES" | "DES" | "HMAC_MD5"));
        let mut text = format!(
            "
IpFilterRule {name}
{{
  IpSourceAddr  {local}
  IpDestAddr    {remote}
  IpService
  {{
    Protocol   all
    Direction  Bidirectional
    Routing    Local
  }}
  IpGenericFilterActionRef  guarded
  IpManVpnActionRef         man-{name}
}}
IpManVpnAction man-{name}
{{
  AllowWeak                   {weak}
  HowToEncap                  {encap}
  HowToAuth                   {protocol} {auth}
  HowToEncrypt                {cipher}
  LocalSecurityEndpointAddr   {local}
  RemoteSecurityEndpointAddr  {remote}
  Active                      {active}
",
            name = self.name,
            local = self.local(),
            remote = self.remote(),
            weak = if weak { "Yes" } else { "No" },
            encap = if self.tunnel { "Tunnel" } else { "Transport" },
            auth = auth.0,
            cipher = cipher.0,
            active = if self.number == 0 { "no" } else { "yes" },
        );
        for (direction, inbound) in [("Inbound", true), ("Outbound", false)] {
            let mut sa = |kind: &str, ah, key: String| {
                let spi = self.spi(ah, inbound);
                let _ =
                    write!(text, "  {kind}{direction}Sa\n  {{\n    Spi  {spi}\n    Key  Hex {key}\n  }}\n");
            };
            sa("Auth", protocol == "AH", self.key(auth, usize::from(inbound) + 40));
            if cipher.2 > 0 {
                sa("Encrypt", false, self.key(cipher, usize::from(inbound)));
            }
        }
        text + "}\n"
    }

    fn for_scapy(&self) -> Value {
        let part = |ah: bool, cipher: Algorithm, auth: Option<Algorithm>| {
            let auth_key = |inbound| auth.map_or(String::new(), |a| self.key(a, usize::from(inbound) + 40));
            json!({
                "spi_in": self.spi(ah, true), "spi_out": self.spi(ah, false),
                "crypt": cipher.1, "crypt_in": self.key(cipher, 1), "crypt_out": self.key(cipher, 0),
                "auth": auth.map_or("NULL", |a| a.1), "auth_in": auth_key(true), "auth_out": auth_key(false),
            })
        };
        let (esp, ah) = match self.protection {
            Esp(cipher, auth) => (Some(part(false, cipher, Some(auth))), None),
            Ah(auth) => (None, Some(part(true, NO_CIPHER, Some(auth)))),
            Both(cipher, auth) => (Some(part(false, cipher, None)), Some(part(true, NO_CIPHER, Some(auth)))),
        };
        let mode = if self.tunnel { "tunnel" } else { "transport" };
        json!({
            "name": self.name, "v6": self.v6, "mode": mode, "local": self.local(), "remote": self.remote(),
            "esp": esp, "ah": ah,
        })
    }
}

fn cases() -> Vec<Case> {
    let case = |(number, (v6, tunnel, protection)): (usize, (bool, bool, Protection))| Case {
        name: format!("case{number}"),
        v6,
        tunnel,
        protection,
        number,
    };
    CASES.into_iter().enumerate().map(case).collect()
}

fn policy(cases: &[Case]) -> String {
    let mut text = "IpFilterPolicy\n{\n  FilterLogging  On\n".to_owned();
    for case in cases {
        let _ = writeln!(text, "  IpFilterRuleRef  {}", case.name);
    }
    text.push_str(
        "}\nIpGenericFilterAction guarded\n{\n  IpFilterAction   IpSec\n  IpFilterLogging  LogDeny\n}\n",
    );
    text.extend(cases.iter().map(Case::policy));
    text
}

fn has_scapy() -> bool {
    run(Command::new(PYTHON).args(["-c", "import scapy.layers.ipsec"])).is_ok_and(|o| o.status.success())
}

struct Setup {
    lab: Lab,
    daemon: Daemon,
    scapy: Background,
    cases: Vec<Case>,
}

fn setup(name: &str) -> Result<Option<Setup>> {
    if !has_scapy() {
        eprintln!("not run: Debian's python3-scapy is not installed");
        return Ok(None);
    }
    let cases = cases();
    let mut lab = Lab::new(name)?;
    lab.node("PEER")?;
    lab.join("PEER", "ext", 11)?;
    lab.node("DIST")?;
    lab.join("DIST", "ext", 1)?;
    let mut toml = String::new();
    stack_table(&mut toml, &lab, "DIST", "[\"ext\"]", None, &format!("[\"{HOME4}\", \"{HOME6}\"]"), None);
    let files = Files { stacks: toml, policy: policy(&cases), servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    let daemon = Daemon::start(&lab, "SYSA", &files, &["DIST"])?;
    let mac = lab.mac("PEER", "ext")?.map(|octet| format!("{octet:02x}")).join(":");
    for case in &cases {
        // No kernel has these addresses: nobody but scapy answers.
        lab.ip("DIST", &format!("neigh replace {} lladdr {mac} dev ext nud permanent", case.remote()))?;
    }
    let mut command = lab.exec("PEER", Path::new(PYTHON));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scapy_peer.py")).args(["ext", &mac]);
    command.arg(Value::from(cases.iter().map(Case::for_scapy).collect::<Vec<_>>()).to_string());
    let mut scapy = Background::start(command, &lab.dir.join("scapy.log"))?;
    wait::until("scapy", SOON, || {
        ensure!(scapy.running(), "ended: {}", scapy.output());
        ensure!(scapy.output().contains("ready"), "{}", scapy.output());
        Ok(())
    })?;
    Ok(Some(Setup { lab, daemon, scapy, cases }))
}

/// Sends `data` from the home address until it comes back in upper case.
fn ask(lab: &Lab, case: &Case, data: String, tries: u32) -> Result<()> {
    let from = SocketAddr::new(case.local().parse::<IpAddr>()?, 0);
    let to = SocketAddr::new(case.remote().parse::<IpAddr>()?, 7777);
    lab.inside("DIST", move || -> Result<()> {
        let socket = UdpSocket::bind(from)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(to)?;
        let mut last = None;
        for _ in 0..tries {
            // An error of the datagram before may be told at either place.
            let asked = socket.send(data.as_bytes()).and_then(|_| {
                let mut answer = [0; 2000];
                socket.recv(&mut answer).map(|n| answer[..n].to_vec())
            });
            match asked {
                Ok(answer) if answer == data.to_uppercase().as_bytes() => return Ok(()),
                Ok(answer) => bail!("{} octets that are not the answer", answer.len()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| anyhow::anyhow!("not asked"), Into::into))
    })?
}

fn shown(daemon: &Daemon) -> Result<Vec<Value>> {
    daemon.entries("-p DIST -m display")
}

#[test]
fn every_protocol_mode_and_version_exchanges_traffic_with_scapy() -> Result<()> {
    let Some(Setup { lab, daemon, scapy, cases }) = setup("manual")? else { return Ok(()) };
    daemon.ipsec("-p DIST -m activate -a all")?;
    for case in &cases {
        for data in ["hello".to_owned(), "x".repeat(1300)] {
            ask(&lab, case, data, 30).with_context(|| {
                format!(
                    "{} {:?}\n{}\n{:?}\n{}",
                    case.policy(),
                    case.remote(),
                    scapy.output(),
                    shown(&daemon),
                    daemon.log()
                )
            })?;
        }
    }
    let tunnels = shown(&daemon)?;
    assert_eq!(tunnels.len(), cases.len());
    for tunnel in &tunnels {
        for field in ["OutboundPackets", "InboundPackets"] {
            assert!(tunnel[field].as_u64().is_some_and(|n| n >= 2), "{field}: {tunnel}");
        }
    }
    let unwanted = ["authentication_failed", "malformed_ah", "malformed_esp", "replay"];
    for reason in unwanted {
        assert_eq!(daemon.drops("DIST", reason)?, 0, "{reason}");
    }
    Ok(())
}

#[test]
fn an_operator_switches_a_manual_tunnel() -> Result<()> {
    let Some(Setup { lab, daemon, scapy, cases }) = setup("switch")? else { return Ok(()) };
    let first = &cases[0];
    let of_first = || -> Result<Value> {
        let mut entries = daemon.entries("-p DIST -m display -n man-case0")?;
        ensure!(entries.len() == 1, "{entries:?}");
        Ok(entries.remove(0))
    };
    // Active no: nothing passes, and nothing leaves in clear.
    assert_eq!(of_first()?["State"], "Inactive");
    assert!(ask(&lab, first, "early".to_owned(), 1).is_err());
    assert!(!scapy.output().contains("case0"), "{}", scapy.output());

    let said = daemon.ipsec("-p DIST -m activate -n man-case0")?;
    assert!(said.contains("Activated"), "{said}");
    let entry = of_first()?;
    assert_eq!((&entry["State"], &entry["TunnelID"]), (&json!("Active"), &json!("M1")));
    ask(&lab, first, "now".to_owned(), 30).with_context(|| scapy.output())?;
    // That is what it says, with an exit code of its own.
    let again = run(&mut daemon.ipsec_command("-p DIST -m activate -a M1")?)?;
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stdout).contains("Already active"), "{again:?}");

    daemon.ipsec("-p DIST -m deactivate -a M1")?;
    assert_eq!(of_first()?["State"], "Inactive");
    assert!(ask(&lab, first, "late".to_owned(), 1).is_err());
    // The others never noticed, and a policy that did not change changes nothing.
    daemon.ipsec("-p DIST -f reload")?;
    assert_eq!(of_first()?["State"], "Inactive");
    ask(&lab, &cases[1], "still here".to_owned(), 30).with_context(|| scapy.output())
}
