//! An IKE datagram: parsing never panics, what parses encodes to something that parses to the same, and what is sealed
//! opens to the same.

use iked::ike::crypto::{IkeKeys, IvCounter, OpenError, Role};
use iked::ike::types::{Encryption, Group, Integrity, Prf, Secret};
use iked::ike::wire::{IkeSuite, Message, Parsed, Payload, choose_child, choose_ike};
use rand::SeedableRng;

fn suites() -> [IkeSuite; 2] {
    let (prf, group) = (Prf::HmacSha256, Group::Curve25519);
    [
        IkeSuite { encryption: Encryption::AesGcm16(128), integrity: None, prf, group },
        IkeSuite { encryption: Encryption::AesCbc(256), integrity: Some(Integrity::HmacSha256), prf, group },
    ]
}

pub(crate) fn check(data: &[u8]) {
    match Message::parse(data) {
        Err(error) => {
            let _ = (error.to_string(), error.notify());
        }
        Ok(Parsed::Protected(protected)) => {
            for suite in suites() {
                let keys = IkeKeys::initial(&suite, &[1; 16], &[2; 16], &Secret(vec![3; 32]), 4, 5);
                let opened = keys.opener(&suite, Role::Responder).open(data, &protected);
                assert_eq!(opened, Err(OpenError::Forged));
            }
        }
        Ok(Parsed::Clear(message)) => {
            look(&message);
            again(message);
        }
    }
}

/// Everything that the engine asks of payloads.
fn look(message: &Message) {
    for payload in &message.payloads {
        match payload {
            Payload::Sa(sa) => {
                let _ = (
                    sa.to_string(),
                    choose_ike(sa, &suites()),
                    choose_child(sa, &[]),
                    sa.accepted_ike(&suites()),
                );
            }
            Payload::IdInitiator(id) | Payload::IdResponder(id) => {
                let _ = (id.identity(), id.body());
            }
            Payload::Notify(notify) => {
                let _ = (notify.esp_spi(), notify.group(), notify.kind.to_string());
            }
            _ => (),
        }
    }
}

fn again(mut message: Message) {
    message.ignored.clear();
    for payload in &mut message.payloads {
        if let Payload::TsInitiator(ts) | Payload::TsResponder(ts) = payload {
            ts.skipped = 0;
            if ts.selectors.is_empty() {
                return;
            }
        }
    }
    let datagram = message.encode().expect("it came from a datagram");
    assert_eq!(Message::parse(&datagram), Ok(Parsed::Clear(message.clone())));

    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    for suite in suites() {
        let keys = IkeKeys::initial(&suite, &[1; 16], &[2; 16], &Secret(vec![3; 32]), 4, 5);
        let mut sealer = keys.sealer(&suite, Role::Initiator, IvCounter::of_epoch(0));
        // Only a datagram of 64 KiB has no room for IV and ICV.
        let Ok(sealed) = sealer.seal(&message, &mut rng) else { continue };
        let Ok(Parsed::Protected(protected)) = Message::parse(&sealed) else {
            panic!("sealed, not protected")
        };
        assert_eq!(keys.opener(&suite, Role::Responder).open(&sealed, &protected), Ok(message.clone()));
    }
}
