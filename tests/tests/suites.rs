//! Every suite of ESP that strongSwan's user-space ESP has too, negotiated and used, one after the other in one lab; one of them by an
//! IKE SA of group 21.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 TGT1
//! ```

use anyhow::{Context, Result, ensure};
use e2e::http;
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::scenario::{DVIPA4, Options, PEER4, SECRET, Sysplex, server};
use e2e::swan::{Connection, Swan, missing};
use e2e::wait;
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// strongSwan's proposal, HowToEncrypt and HowToAuth, and what is displayed of them.
const SUITES: [(&str, &str, &str, &str, &str); 12] = [
    ("aes128gcm16", "AES_GCM_16 KeyLength 128", "ESP NULL", "AES-GCM-16", ""),
    ("aes256gcm16", "AES_GCM_16 KeyLength 256", "ESP NULL", "AES-GCM-16", ""),
    ("chacha20poly1305", "CHACHA20_POLY1305", "ESP NULL", "ChaCha20-Poly1305", ""),
    ("aes128-sha1", "AES_CBC KeyLength 128", "ESP HMAC_SHA1", "AES-CBC", "HMAC-SHA1-96"),
    ("aes192-sha256", "AES_CBC KeyLength 192", "ESP HMAC_SHA2_256_128", "AES-CBC", "HMAC-SHA2-256-128"),
    ("aes256-sha384", "AES_CBC KeyLength 256", "ESP HMAC_SHA2_384_192", "AES-CBC", "HMAC-SHA2-384-192"),
    ("aes256-sha512", "AES_CBC KeyLength 256", "ESP HMAC_SHA2_512_256", "AES-CBC", "HMAC-SHA2-512-256"),
    ("aes128-aesxcbc", "AES_CBC KeyLength 128", "ESP AES128_XCBC_96", "AES-CBC", "AES128-XCBC-96"),
    ("aes128ctr-sha256", "AES_CTR KeyLength 128", "ESP HMAC_SHA2_256_128", "AES-CTR", "HMAC-SHA2-256-128"),
    ("aes256ctr-sha512", "AES_CTR KeyLength 256", "ESP HMAC_SHA2_512_256", "AES-CTR", "HMAC-SHA2-512-256"),
    ("null-sha256", "DoNot", "ESP HMAC_SHA2_256_128", "NULL", "HMAC-SHA2-256-128"),
    ("3des-md5", "3DES", "ESP HMAC_MD5", "3DES-CBC", "HMAC-MD5-96"),
];

fn only_tunnel(daemon: &Daemon, stack: &str) -> Result<Value> {
    wait::until("one dynamic tunnel", SOON, || {
        let mut tunnels = daemon.entries(&format!("-p {stack} -y display"))?;
        ensure!(tunnels.len() == 1, "{tunnels:?}\n{}", daemon.log());
        Ok(tunnels.remove(0))
    })
}

#[test]
fn strongswan_and_we_agree_on_every_suite_and_carry_traffic_with_it() -> Result<()> {
    if missing() {
        return Ok(());
    }
    let mut lab = Lab::new("suites")?;
    let offers = SUITES.map(|(_, encrypt, auth, ..)| (encrypt, auth)).to_vec();
    let plex = Sysplex::start(&mut lab, &Options { targets: 1, offers, ..Options::default() })?;
    let connection = |(proposal, ..): (&str, &str, &str, &str, &str)| {
        let esp = proposal.to_owned();
        let usual = Connection { esp, ..Connection::host_to_host(proposal, PEER4, DVIPA4, SECRET) };
        match proposal {
            // One IKE SA of the largest kind.
            "aes256-sha512" => Connection { ike: "aes256-sha512-ecp521".to_owned(), ..usual },
            _ => usual,
        }
    };
    let peer = Swan::start(&lab, "PEER", &SUITES.map(connection))?;
    for (proposal, .., encrypt, auth) in SUITES {
        peer.initiate(proposal).with_context(|| plex.daemon.log())?;
        let tunnel = only_tunnel(&plex.daemon, "DIST")?;
        let shown = tunnel.to_string();
        ensure!(shown.contains(encrypt) && shown.contains(auth), "{proposal}: {shown}");
        let length = 200_000;
        lab.inside("PEER", move || http::download(server(false), length, SOON))?
            .with_context(|| format!("{proposal}\n{}\n{}", plex.daemon.log(), peer.log()))?
            .verify(length)?;
        peer.swanctl(&["--terminate", "--ike", proposal])?;
        wait::until("the tunnel is gone", SOON, || {
            let left = plex.daemon.entries("-p DIST -y display")?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
    }
    Ok(())
}
