//! TIMEDAFFINITY: connections of one client address go to the same target until some seconds after the last one ended
//! (spec section 7). Bounded: beyond that, clients are not bound.

use crate::engine::connection::Place;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Clients of one service that are bound at a time.
const MAX_CLIENTS: usize = 65_536;

#[derive(Debug, Clone, Copy)]
struct Bound {
    place: Place,
    active: u32,
    /// With no connection left: until when.
    until: Instant,
    /// Stands in the queue of those that may be forgotten.
    queued: bool,
}

/// Which clients of a service are bound to which target.
#[derive(Debug)]
pub(super) struct Affinity {
    life: Duration,
    clients: HashMap<IpAddr, Bound>,
    /// Clients without connections, each once, in about the order in which they may be forgotten.
    idle: VecDeque<IpAddr>,
}

impl Affinity {
    /// As configured, with what is bound already; `None`: off.
    pub(super) fn configured(seconds: u32, before: Option<Self>) -> Option<Self> {
        let life = Duration::from_secs(u64::from(seconds));
        if seconds == 0 {
            return None;
        }
        let empty = || Self { life, clients: HashMap::new(), idle: VecDeque::new() };
        Some(Self { life, ..before.unwrap_or_else(empty) })
    }

    /// Where the client is bound to.
    pub(super) fn of(&self, now: Instant, client: IpAddr) -> Option<Place> {
        self.clients.get(&client).filter(|b| b.active > 0 || now < b.until).map(|b| b.place)
    }

    /// One connection more. False: there is no room, the client is not bound.
    pub(super) fn bind(&mut self, now: Instant, client: IpAddr, place: Place) -> bool {
        if let Some(b) = self.clients.get_mut(&client) {
            b.place = place;
            b.active = b.active.saturating_add(1);
            return true;
        }
        self.forget_idle(now);
        if self.clients.len() >= MAX_CLIENTS {
            return false;
        }
        self.clients.insert(client, Bound { place, active: 1, until: now, queued: false });
        true
    }

    /// One connection less.
    pub(super) fn unbind(&mut self, client: IpAddr, at: Instant) {
        let Some(b) = self.clients.get_mut(&client) else { return };
        b.active = b.active.saturating_sub(1);
        if b.active == 0 {
            b.until = at + self.life;
            if !std::mem::replace(&mut b.queued, true) {
                self.idle.push_back(client);
            }
        }
    }

    /// Forgets a few whose time is over; when there is no room, one whose time is not.
    fn forget_idle(&mut self, now: Instant) {
        let full = self.clients.len() >= MAX_CLIENTS;
        for _ in 0..4 {
            let Some(client) = self.idle.pop_front() else { return };
            let Some(b) = self.clients.get_mut(&client) else { continue };
            b.queued = false;
            if b.active > 0 {
                continue;
            }
            if b.until <= now || full {
                self.clients.remove(&client);
            } else {
                b.queued = true;
                self.idle.push_back(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn place(n: u8) -> Place {
        Place::At(IpAddr::from([10, 99, 0, n]))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn holds_until_some_seconds_after_the_last_connection() {
        let now = Instant::now();
        let later = |s| now + Duration::from_secs(s);
        assert!(Affinity::configured(0, None).is_none());
        let mut a = Affinity::configured(10, None).unwrap();
        assert_eq!(a.of(now, client(1)), None);
        assert!(a.bind(now, client(1), place(2)) && a.bind(now, client(1), place(2)));
        assert_eq!(a.of(later(1000), client(1)), Some(place(2)), "connections are open");
        a.unbind(client(1), later(1000));
        a.unbind(client(1), later(1001));
        assert_eq!(a.of(later(1010), client(1)), Some(place(2)));
        assert_eq!(a.of(later(1011), client(1)), None);
        let a = Affinity::configured(30, Some(a)).unwrap();
        assert_eq!(a.life, Duration::from_secs(30));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    fn t44_a_million_clients_take_bounded_room_and_bound_ones_stay() {
        let now = Instant::now();
        let mut a = Affinity::configured(3600, None).unwrap();
        assert!(a.bind(now, client(0), place(1)));
        for n in 1..1_000_000 {
            if a.bind(now, client(n), place(2)) {
                a.unbind(client(n), now);
            }
            assert!(a.clients.len() <= MAX_CLIENTS && a.idle.len() <= MAX_CLIENTS);
        }
        assert_eq!(a.of(now, client(0)), Some(place(1)));
        for n in 1_000_000..1_100_000 {
            a.bind(now, client(n), place(2));
        }
        assert!(!a.bind(now, client(2_000_000), place(2)), "all are busy");
        assert!(a.clients.len() <= MAX_CLIENTS);
    }
}
