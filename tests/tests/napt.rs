//! Two clients behind one NAPT use the same source port towards the same port of a DVIPA, in transport mode, at the same time.
//!
//! ```text
//!   ONE 198.51.100.71 ─┐ mgmt                    ext 192.0.2.0/24            xcf
//!                      ├═══════ .1 NAT .50 ════════════════ .1 DIST ═══════════ TGT1
//!   TWO 198.51.100.72 ─┘        masquerades               192.0.2.100
//! ```

use anyhow::{Context, Result, bail, ensure};
use e2e::lab::Lab;
use e2e::node::{Daemon, Files, SERVAUTH_ROOT_ONLY};
use e2e::scenario::stack_table;
use e2e::{http, wait};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

const DVIPA: &str = "192.0.2.100";
const PORT: u16 = 80;
/// The port that both clients use.
const SAME: u16 = 40_000;
const PATIENCE: Duration = Duration::from_secs(60);

const ACTIONS: &str = "
IpGenericFilterAction guarded
{
  IpFilterAction   IpSec
  IpFilterLogging  LogDeny
}

IpDynVpnAction transport
{
  HowToEncapIKEv2  Transport
  IpDataOffer
  {
    HowToEncap    Transport
    HowToEncrypt  AES_GCM_16 KeyLength 128
  }
}

KeyExchangeAction kxStrong
{
  KeyExchangeOffer
  {
    HowToEncrypt          AES_GCM_16 KeyLength 128
    PseudoRandomFunction  HMAC_SHA2_256
    DHGroup               Group31
  }
}
";

/// A policy that protects TCP between `local` and `remote` in transport mode.
fn policy(local: (&str, &str), remote: (&str, &str), service_here: bool) -> String {
    let port = if service_here { "SourcePortRange     " } else { "DestinationPortRange" };
    format!(
        "IpFilterPolicy
{{
  AllowOnDemand    Yes
  IpFilterRuleRef  web
}}

KeyExchangePolicy
{{
  AllowNat            Yes
  KeyExchangeRuleRef  kx
}}

IpFilterRule web
{{
  IpSourceAddr  {}
  IpDestAddr    {}
  IpService
  {{
    Protocol              tcp
    {port}  {PORT}
  }}
  IpGenericFilterActionRef  guarded
  IpDynVpnActionRef         transport
}}

KeyExchangeRule kx
{{
  LocalSecurityEndpoint
  {{
    Identity  Fqdn {}
    Location  {}
  }}
  RemoteSecurityEndpoint
  {{
    Identity  Fqdn {}
    Location  {}
  }}
  KeyExchangeActionRef  kxStrong
  SharedKey             Ascii correct-horse-battery
}}
{ACTIONS}",
        local.0, remote.0, local.1, local.0, remote.1, remote.0
    )
}

fn client(lab: &Lab, node: &str, home: &str, name: &str) -> Result<Daemon> {
    let mut toml = "[ike]\nretries = 3\ninit_wait_secs = 2\n\n".to_owned();
    stack_table(&mut toml, lab, node, "[\"mgmt\"]", None, &format!("[\"{home}\"]"), None);
    let policy = policy((home, name), (DVIPA, "shop.example.org"), false);
    let files = Files { stacks: toml, policy, servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    let daemon = Daemon::start(lab, &format!("SYS{node}"), &files, &[node])?;
    lab.ip(node, &format!("route add {DVIPA}/32 via 10.98.0.1 dev mgmt src {home}"))?;
    Ok(daemon)
}

/// A connection of `node` from its home address and the port that all use.
fn open(lab: &Lab, node: &str, home: &str) -> Result<TcpStream> {
    let own: SocketAddrV4 = format!("{home}:{SAME}").parse()?;
    let server: SocketAddrV4 = format!("{DVIPA}:{PORT}").parse()?;
    lab.inside(node, move || -> Result<TcpStream> {
        let s = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&s, sockopt::ReuseAddr, &true)?;
        setsockopt(&s, sockopt::SendTimeout, &TimeVal::new(20, 0))?;
        setsockopt(&s, sockopt::ReceiveTimeout, &TimeVal::new(20, 0))?;
        bind(s.as_raw_fd(), &SockaddrIn::from(own)).context("bind")?;
        connect(s.as_raw_fd(), &SockaddrIn::from(server)).context("connect")?;
        Ok(TcpStream::from(s))
    })?
}

/// Says something on a connection and hears it back from the server.
fn echo(connection: &mut TcpStream, word: &str) -> Result<()> {
    write!(connection, "GET /echo/{word} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let n = connection.read(&mut buffer).context("answer")?;
        if n == 0 {
            bail!("the connection ended: {said}");
        }
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if said.contains(word) {
            return Ok(());
        }
    }
}

#[test]
fn the_same_source_port_behind_one_napt() -> Result<()> {
    if !Lab::can_masquerade() {
        eprintln!("not run: nft is not installed");
        return Ok(());
    }
    let mut lab = Lab::new("napt")?;
    for node in ["ONE", "TWO", "NAT", "DIST", "TGT1"] {
        lab.node(node)?;
    }
    for (node, segment, host) in [
        ("ONE", "mgmt", 71),
        ("TWO", "mgmt", 72),
        ("NAT", "mgmt", 1),
        ("NAT", "ext", 50),
        ("DIST", "ext", 1),
        ("DIST", "xcf", 1),
        ("TGT1", "xcf", 21),
    ] {
        lab.join(node, segment, host)?;
    }
    lab.sysctl("NAT", "net/ipv4/ip_forward", "1")?;
    for host in [71, 72] {
        lab.ip("NAT", &format!("route add 198.51.100.{host}/32 via 10.98.0.{host}"))?;
    }
    lab.masquerade("NAT", "ext", "masquerade")?;

    let mut toml = "[ike]\nretries = 3\ninit_wait_secs = 2\n\n[sysplex]\nname = \"PLEX1\"\nkey_file = \"sysplex.key\"\ncoupling_facility = \"sled\"\n\n".to_owned();
    stack_table(&mut toml, &lab, "DIST", "[\"ext\"]", Some("10.99.0.1"), "[]", None);
    stack_table(&mut toml, &lab, "TGT1", "[]", Some("10.99.0.21"), "[]", None);
    toml += &format!(
        "[[dvipa]]\naddress = \"{DVIPA}\"\nowner = \"DIST\"\n\n[[dvipa.distribute]]\nports = [{PORT}]\nprotocol = \"tcp\"\nmethod = \"round-robin\"\ntargets = [\"TGT1\"]\n\n"
    );
    // All that this side sees of its clients is the address of the NAT.
    let policy = policy((DVIPA, "shop.example.org"), ("192.0.2.50", "*.example.net"), true);
    let files = Files { stacks: toml, policy, servauth: SERVAUTH_ROOT_ONLY.to_owned() };
    let plex = Daemon::start(&lab, "SYSA", &files, &["DIST", "TGT1"])?;
    let _server = http::start_server(&lab, "TGT1", "TGT1", PORT)?;
    plex.servers_known("DIST", PORT, 1)?;

    let clients = [("ONE", "198.51.100.71"), ("TWO", "198.51.100.72")];
    let daemons = [
        client(&lab, "ONE", clients[0].1, "one.example.net")?,
        client(&lab, "TWO", clients[1].1, "two.example.net")?,
    ];
    let open_to = |(node, home): (&str, &str)| {
        wait::until("a connection", PATIENCE, || {
            open(&lab, node, home).with_context(|| format!("{}\n{}", plex.log(), daemons[0].log()))
        })
    };
    let (mut one, mut two) = (open_to(clients[0])?, open_to(clients[1])?);
    // In turn, so that each answer could have gone to the other one.
    for round in 0..3 {
        echo(&mut one, &format!("first-{round}"))?;
        echo(&mut two, &format!("second-{round}"))?;
    }

    // Two tunnels with one address, one translated port.
    let tunnels = plex.entries("-p DIST -y display")?;
    ensure!(tunnels.len() == 2, "{tunnels:?}");
    let ports = plex.entries("-p DIST -o display")?;
    ensure!(ports.len() == 1, "{ports:?}");
    let shown = plex.ipsec("-p DIST -o display")?;
    ensure!(shown.contains("65535") && shown.contains("40000") && shown.contains("192.0.2.50"), "{shown}");
    let other = plex.entries("-p DIST -o display -n 192.0.2.51")?;
    ensure!(other.is_empty(), "{other:?}");

    // NAT resolution filters are shown where they are asked for.
    let kinds = |line: &str| -> Result<usize> {
        let all = plex.entries(line)?;
        Ok(all.iter().filter(|f| f["Type"] == "NRF").count())
    };
    ensure!(kinds("-p DIST -f display")? == 0);
    ensure!(kinds("-p DIST -f display -h")? == 2);
    // And say by which tunnel an answer would go.
    let test = plex.ipsec(&format!("-p DIST -t {DVIPA} 192.0.2.50 tcp {PORT} 65535 out"))?;
    ensure!(test.contains("NRF") && test.contains("40000"), "{test}");

    // A client that goes takes its resolutions along.
    daemons[1].ipsec("-p TWO -k deactivate -a all")?;
    wait::until("no translation", PATIENCE, || {
        let left = plex.entries("-p DIST -o display")?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    echo(&mut one, "still-there")?;
    Ok(())
}
