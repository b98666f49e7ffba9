//! The control stream between `iked` and `stackd`, seen from both ends.

use stack::control::{FromStack, ToStack};
use stack::framing::{Decoder, encode};

pub(crate) fn check(data: &[u8]) {
    let mut decoder = Decoder::default();
    decoder.push(data);
    while let Ok(Some(message)) = decoder.next_message::<ToStack>() {
        let mut out = Vec::new();
        encode(&message, &mut out).expect("it fitted a frame");
    }
    let mut decoder = Decoder::default();
    decoder.push(data);
    while let Ok(Some(message)) = decoder.next_message::<FromStack>() {
        let mut out = Vec::new();
        encode(&message, &mut out).expect("it fitted a frame");
    }
}
