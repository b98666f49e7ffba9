//! Waiting: one `epoll` for the worker, and an `eventfd` by which other threads wake it.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Most descriptors that one wait reports; the rest comes with the next.
const EVENTS: usize = 64;

/// Waits for many descriptors, level-triggered; each is known by a token of the caller's choice.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: [EpollEvent; EVENTS],
}

impl Poller {
    /// A poller without descriptors.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> nix::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: [EpollEvent::empty(); EVENTS],
        })
    }

    /// Adds a descriptor; it leaves by itself when it is closed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, fd: impl AsFd, token: u64) -> nix::Result<()> {
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
    }

    /// Waits until something is readable or the time is over, and gives the tokens.
    ///
    /// # Errors
    /// What the kernel says; an interruption is no error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> nix::Result<impl Iterator<Item = u64> + use<>> {
        // Rounded up: waking a little late costs nothing, waking a little early a turn of the loop.
        let timeout = timeout.map_or(EpollTimeout::NONE, |d| {
            let milliseconds = d.as_micros().div_ceil(1000);
            EpollTimeout::from(u16::try_from(milliseconds).unwrap_or(u16::MAX))
        });
        let ready = match self.epoll.wait(&mut self.events, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e),
        };
        let events = self.events;
        Ok((0..ready).map(move |i| events[i].data()))
    }
}

/// Wakes the worker from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker that nobody waits for yet.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        // The only failure is a counter that is full, and then it is readable already.
        let _ = self.0.write(1);
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits a moment for room to write; whether there is some shows the next try.
pub(super) fn wait_writable(fd: BorrowedFd<'_>, milliseconds: u8) {
    let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::from(milliseconds));
}
