//! Message ids, retransmission and repeats: a window of one request each way (RFC 7296 sections 2.1 to 2.3).

use crate::ike::timer::Backoff;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// From this id on the IKE SA is replaced, long before ids end (RFC 7296 section 2.2, threats T15).
pub(crate) const REPLACE_AT: u32 = u32::MAX - 0x1_0000;

/// Our requests: the id of the next one, and the one that waits for its answer, with what its answer is checked
/// against.
#[derive(Debug)]
pub(crate) struct Outbound<X> {
    next: u32,
    open: Option<Open<X>>,
}

/// A request without an answer yet.
#[derive(Debug)]
pub(crate) struct Open<X> {
    /// Its message id.
    pub(crate) id: u32,
    /// Its octets, for retransmission.
    pub(crate) message: Vec<u8>,
    /// When it is sent again.
    pub(crate) backoff: Backoff,
    /// What the answer is checked against.
    pub(crate) exchange: X,
}

impl<X> Outbound<X> {
    /// Starts with message id `next`.
    pub(crate) const fn new(next: u32) -> Self {
        Self { next, open: None }
    }

    /// Goes on where another process left it.
    pub(crate) const fn restore(next: u32, open: Option<Open<X>>) -> Self {
        Self { next, open }
    }

    /// The id of the next new request.
    pub(crate) const fn next(&self) -> u32 {
        self.next
    }

    /// The id that the next request takes; `None` while one is open or when ids have ended.
    pub(crate) const fn next_id(&self) -> Option<u32> {
        if self.open.is_some() || self.next == u32::MAX { None } else { Some(self.next) }
    }

    /// Notes that a request was sent with [`Self::next_id`]. Returns the wait before its first retransmission.
    pub(crate) fn sent(&mut self, message: Vec<u8>, backoff: Backoff, exchange: X) -> Duration {
        let open = Open { id: self.next, message, backoff, exchange };
        self.next += 1;
        self.open.insert(open).backoff.wait()
    }

    /// The open request.
    pub(crate) const fn open(&self) -> Option<&Open<X>> {
        self.open.as_ref()
    }

    /// The open request.
    pub(crate) const fn open_mut(&mut self) -> Option<&mut Open<X>> {
        self.open.as_mut()
    }

    /// Whether an answer with this id answers the open request.
    pub(crate) fn awaits(&self, id: u32) -> bool {
        self.open.as_ref().is_some_and(|open| open.id == id)
    }

    /// Closes the open request.
    pub(crate) fn close(&mut self) -> Option<Open<X>> {
        self.open.take()
    }

    /// Whether ids come to their end.
    pub(crate) const fn near_end(&self) -> bool {
        self.next >= REPLACE_AT
    }
}

/// The digest of a request and its answer.
pub(crate) type LastAnswer = ([u8; 32], Vec<u8>);

/// What a request of the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival<'a> {
    /// The expected one.
    Fresh,
    /// The last one once more, octet by octet: here is the answer that it got.
    Repeat(&'a [u8]),
    /// Anything else; dropped.
    Outside,
}

/// The peer's requests: the id expected next, and the answer to the last one.
#[derive(Debug)]
pub(crate) struct Inbound {
    expected: u32,
    last: Option<Answered>,
}

#[derive(Debug)]
struct Answered {
    request: [u8; 32],
    response: Vec<u8>,
}

impl Inbound {
    /// Expects message id `expected` first.
    pub(crate) const fn new(expected: u32) -> Self {
        Self { expected, last: None }
    }

    /// Goes on where another process left it; `last` is the digest of the last request and its answer.
    pub(crate) fn restore(expected: u32, last: Option<LastAnswer>) -> Self {
        Self { expected, last: last.map(|(request, response)| Answered { request, response }) }
    }

    /// What [`Self::restore`] takes.
    pub(crate) fn record(&self) -> (u32, Option<LastAnswer>) {
        (self.expected, self.last.as_ref().map(|last| (last.request, last.response.clone())))
    }

    /// Judges a request by its id and octets. A request with the last id and other octets is no repeat (threats T15).
    pub(crate) fn arrival(&self, id: u32, octets: &[u8]) -> Arrival<'_> {
        if id == self.expected {
            return Arrival::Fresh;
        }
        match &self.last {
            Some(last) if id.checked_add(1) == Some(self.expected) && last.request == digest(octets) => {
                Arrival::Repeat(&last.response)
            }
            _ => Arrival::Outside,
        }
    }

    /// The expected request was answered.
    pub(crate) fn answered(&mut self, request: &[u8], response: Vec<u8>) {
        self.last = Some(Answered { request: digest(request), response });
        self.expected = self.expected.saturating_add(1);
    }

    /// Whether ids come to their end.
    pub(crate) const fn near_end(&self) -> bool {
        self.expected >= REPLACE_AT
    }
}

fn digest(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), 2);

    #[test]
    fn one_request_at_a_time() {
        let mut out = Outbound::new(0);
        assert_eq!(out.next_id(), Some(0));
        out.sent(vec![1], BACKOFF, ());
        assert_eq!(out.next_id(), None);
        assert!(out.awaits(0) && !out.awaits(1));
        assert!(out.close().is_some());
        assert_eq!(out.next_id(), Some(1));
        assert!(!out.awaits(0), "an answer counts once");
    }

    #[test]
    fn t15_an_exact_repeat_gets_the_stored_answer_and_nothing_else_does() {
        let mut window = Inbound::new(7);
        assert_eq!(window.arrival(7, b"request"), Arrival::Fresh);
        window.answered(b"request", b"answer".to_vec());
        assert_eq!(window.arrival(7, b"request"), Arrival::Repeat(b"answer"));
        assert_eq!(window.arrival(7, b"other"), Arrival::Outside);
        assert_eq!(window.arrival(6, b"request"), Arrival::Outside);
        assert_eq!(window.arrival(9, b"request"), Arrival::Outside);
        assert_eq!(window.arrival(u32::MAX, b"request"), Arrival::Outside);
        assert_eq!(window.arrival(8, b"request"), Arrival::Fresh);
    }

    #[test]
    fn t15_ids_end_without_wrapping() {
        let mut out = Outbound::new(u32::MAX - 1);
        assert!(out.near_end());
        out.sent(Vec::new(), BACKOFF, ());
        out.close();
        assert_eq!(out.next_id(), None);
        let mut window = Inbound::new(u32::MAX);
        window.answered(b"a", b"b".to_vec());
        assert!(window.near_end());
    }
}
