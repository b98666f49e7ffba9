//! Protected messages that come in fragments (RFC 7383 section 2.6).
//!
//! Each fragment is authentic by itself: nothing is kept that the peer's keys have not sealed. Of each direction one message
//! is put together at a time, as the window allows no second.

use super::receive::Datagram;
use crate::ike::crypto::{OpenError, Opener};
use crate::ike::wire::{Fragment, Message, PayloadType};

/// Octets that the fragments of a message may hold together: what one datagram could.
const OCTETS: usize = 65_535;

/// What a datagram of this SA opened to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A message, and the datagram by which a repeat of it is known: the first fragment, where there are several.
    Whole(Message, Vec<u8>),
    /// A fragment of one that is not complete.
    Part,
}

/// Messages of which not all has come, of both directions.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    requests: Option<Parts>,
    responses: Option<Parts>,
}

/// The fragments of one message.
#[derive(Debug)]
struct Parts {
    message_id: u32,
    /// What they hold, by number.
    parts: Vec<Option<Vec<u8>>>,
    octets: usize,
    /// Type of the first payload, and the datagram of the first fragment.
    head: Option<(PayloadType, Vec<u8>)>,
}

impl Fragments {
    /// Opens a datagram: a message, or a fragment.
    pub(crate) fn open(&mut self, opener: &Opener, datagram: &Datagram<'_>) -> Result<Opened, OpenError> {
        let Datagram { octets, protected, .. } = datagram;
        let Some(fragment) = protected.fragment else {
            return opener.open(octets, protected).map(|message| Opened::Whole(message, octets.to_vec()));
        };
        let text = opener.open_text(octets, protected)?;
        let place = if protected.header.flags.response { &mut self.responses } else { &mut self.requests };
        let message_id = protected.header.message_id;
        let total = usize::from(fragment.total);
        // Another message, or the same once more in smaller fragments, begins anew; larger ones come too late.
        let goes_on = place.as_ref().is_some_and(|p| p.message_id == message_id && p.parts.len() >= total);
        if !goes_on {
            *place = Some(Parts { message_id, parts: vec![None; total], octets: 0, head: None });
        }
        let Some(parts) = place else { return Ok(Opened::Part) };
        if parts.parts.len() == total && parts.octets + text.len() <= OCTETS {
            parts.take(fragment, protected.first, text, octets);
        }
        let Some((first, joined, head)) = parts.joined() else { return Ok(Opened::Part) };
        *place = None;
        Ok(Opened::Whole(Message::parse_inner(protected.header, first, &joined)?, head))
    }
}

impl Parts {
    fn take(&mut self, fragment: Fragment, first: PayloadType, text: Vec<u8>, datagram: &[u8]) {
        let Some(place) = self.parts.get_mut(usize::from(fragment.number) - 1) else { return };
        if place.is_some() {
            return;
        }
        self.octets += text.len();
        *place = Some(text);
        if fragment.number == 1 {
            self.head = Some((first, datagram.to_vec()));
        }
    }

    /// What all of them hold, once all are here.
    fn joined(&self) -> Option<(PayloadType, Vec<u8>, Vec<u8>)> {
        let texts: Vec<&[u8]> = self.parts.iter().map(Option::as_deref).collect::<Option<_>>()?;
        let (first, head) = self.head.clone()?;
        Some((first, texts.concat(), head))
    }
}
