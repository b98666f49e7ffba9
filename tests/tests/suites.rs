//! Every suite of ESP that strongSwan's user-space ESP has too, negotiated and used, one after the other in one lab; and what policy allows for IKE
//! SAs beyond the usual, strong and weak.
//!
//! ```text
//!   PEER .11 === ext === .1 DIST .1 === xcf === .21 TGT1
//! ```

use anyhow::{Context, Result, ensure};
use e2e::http;
use e2e::lab::Lab;
use e2e::node::Daemon;
use e2e::policy::ExchangeOffer;
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

/// strongSwan's proposal for the IKE SA of the suite of the same place, the offer that it meets, and what is displayed of it:
/// encryption, authentication, PRF, group. The suites behind these are made with the usual one.
const EXCHANGES: [(&str, ExchangeOffer, [&str; 4]); 7] = [
    (
        "aes256-sha512-ecp521",
        exchange("AES_CBC KeyLength 256", "HMAC_SHA2_512_256", "HMAC_SHA2_512", "Group21"),
        ["AES-CBC", "HMAC-SHA2-512-256", "HMAC-SHA2-512", "21"],
    ),
    (
        "aes128-aesxcbc-prfaesxcbc-modp2048",
        exchange("AES_CBC KeyLength 128", "AES128_XCBC_96", "AES128_XCBC", "Group14"),
        ["AES-CBC", "AES128-XCBC-96", "AES128-XCBC", "14"],
    ),
    (
        "3des-md5-modp768",
        exchange("3DES", "HMAC_MD5_96", "HMAC_MD5", "Group1"),
        ["3DES-CBC", "HMAC-MD5-96", "HMAC-MD5", "1"],
    ),
    (
        "des-sha1-modp1024",
        exchange("DES", "HMAC_SHA1_96", "HMAC_SHA1", "Group2"),
        ["DES-CBC", "HMAC-SHA1-96", "HMAC-SHA1", "2"],
    ),
    (
        "aes128gcm16-prfsha384-modp1536",
        exchange("AES_GCM_16 KeyLength 128", "HMAC_SHA2_256_128", "HMAC_SHA2_384", "Group5"),
        ["AES-GCM-16", "", "HMAC-SHA2-384", "5"],
    ),
    (
        "aes192-sha384-prfaesxcbc-modp2048s256",
        exchange("AES_CBC KeyLength 192", "HMAC_SHA2_384_192", "AES128_XCBC", "Group24"),
        ["AES-CBC", "HMAC-SHA2-384-192", "AES128-XCBC", "24"],
    ),
    (
        "aes256-sha1-ecp384",
        exchange("AES_CBC KeyLength 256", "HMAC_SHA1_96", "HMAC_SHA1", "Group20"),
        ["AES-CBC", "HMAC-SHA1-96", "HMAC-SHA1", "20"],
    ),
];

const fn exchange(
    encrypt: &'static str,
    verify: &'static str,
    prf: &'static str,
    group: &'static str,
) -> ExchangeOffer {
    ExchangeOffer { encrypt, verify, prf, group }
}

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
    let exchange_offers = EXCHANGES.iter().map(|(_, offer, _)| *offer).collect();
    let plex =
        Sysplex::start(&mut lab, &Options { targets: 1, offers, exchange_offers, ..Options::default() })?;
    let connection = |(at, (esp, ..)): (usize, &(&str, &str, &str, &str, &str))| {
        let usual = Connection::host_to_host(esp, PEER4, DVIPA4, SECRET);
        let ike = EXCHANGES.get(at).map_or(usual.ike.clone(), |(ike, ..)| (*ike).to_owned());
        Connection { ike, esp: (*esp).to_owned(), ..usual }
    };
    let peer = Swan::start(&lab, "PEER", &SUITES.iter().enumerate().map(connection).collect::<Vec<_>>())?;
    for (at, (proposal, .., encrypt, auth)) in SUITES.into_iter().enumerate() {
        peer.initiate(proposal).with_context(|| format!("{}\n{}", plex.daemon.log(), peer.log()))?;
        if let Some((ike, _, expected)) = EXCHANGES.get(at) {
            let shown = plex.daemon.entries("-p DIST -k display")?;
            let keys = [
                "EncryptionAlgorithm",
                "AuthenticationAlgorithm",
                "PseudoRandomFunction",
                "DiffieHellmanGroup",
            ];
            let shown = keys.map(|key| shown[0][key].to_string().trim_matches('"').to_owned());
            let is_as_expected =
                shown.iter().zip(expected).all(|(shown, expected)| expected.is_empty() || shown == expected);
            ensure!(is_as_expected, "{ike}: {shown:?}");
        }
        let tunnel = only_tunnel(&plex.daemon, "DIST")?;
        let shown = tunnel.to_string();
        ensure!(shown.contains(encrypt) && shown.contains(auth), "{proposal}: {shown}");
        let length = 200_000;
        lab.inside("PEER", move || http::download(server(false), length, SOON))?
            .with_context(|| format!("{proposal}\n{}\n{}", plex.daemon.log(), peer.log()))?
            .verify(length)?;
        plex.ended_by(&peer, proposal)?;
    }
    Ok(())
}
