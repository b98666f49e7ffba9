//! The silence meter: a UDP stream of 100 packets a second each way between a client and a DVIPA.
//!
//! TCP rounds an outage up to its next retransmission; numbered datagrams with the kernel's receive times show how long it was.

use crate::lab::Lab;
use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::{TimeSpec, TimeVal};
use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two datagrams of a stream.
pub const PERIOD: Duration = Duration::from_millis(10);
/// Port of the meter.
pub const PORT: u16 = 9000;

/// A running meter.
#[derive(Debug)]
pub struct Meter {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    to_server: Arc<Mutex<Stream>>,
    to_client: Arc<Mutex<Stream>>,
}

/// What arrived of one direction.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// Number and kernel's time (`CLOCK_REALTIME`) of each datagram, in the order of arrival.
    pub arrived: Vec<(u64, Duration)>,
    /// How many were sent.
    pub sent: u64,
}

impl Stream {
    /// The longest time between two arrivals, counting from `since` on, as the clock of [`realtime`] has it.
    #[must_use]
    pub fn silence(&self, since: Duration) -> Duration {
        // The last arrival before `since` begins the first gap.
        let times = self.arrived.windows(2).filter(|w| w[1].1 >= since);
        times.map(|w| w[1].1.saturating_sub(w[0].1)).max().unwrap_or(Duration::MAX)
    }

    /// Datagrams that were sent and did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let mut numbers: Vec<u64> = self.arrived.iter().map(|a| a.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.sent.saturating_sub(numbers.len() as u64)
    }

    /// Datagrams that did not arrive, before the last one that did: those under way at the end are not counted.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing_since(Duration::ZERO)
    }

    /// As [`Stream::missing`], of those behind the last one that arrived before `since`, as the clock of [`realtime`] has it:
    /// the first ones of a stream may come before anybody listens.
    #[must_use]
    pub fn missing_since(&self, since: Duration) -> u64 {
        let before = self.arrived.iter().filter(|(_, at)| *at < since).map(|(number, _)| number + 1);
        let first = before.max().unwrap_or(0);
        let arrived: BTreeSet<u64> = self.arrived.iter().map(|a| a.0).filter(|n| *n >= first).collect();
        arrived.last().map_or(0, |last| last + 1 - first - arrived.len() as u64)
    }

    /// Datagrams that arrived more than once.
    #[must_use]
    pub fn doubled(&self) -> usize {
        let mut numbers: Vec<u64> = self.arrived.iter().map(|a| a.0).collect();
        numbers.sort_unstable();
        numbers.windows(2).filter(|w| w[0] == w[1]).count()
    }
}

/// What a meter saw.
#[derive(Debug, Clone)]
pub struct Silence {
    /// From the client to the DVIPA.
    pub to_server: Stream,
    /// From the DVIPA to the client.
    pub to_client: Stream,
}

/// The clock of the arrival times.
#[must_use]
pub fn realtime() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).unwrap_or(TimeSpec::new(0, 0));
    duration(now)
}

fn duration(t: TimeSpec) -> Duration {
    let (seconds, nanos) = (t.tv_sec(), t.tv_nsec());
    Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0))
}

impl Meter {
    /// Starts a stream from `client` to `server` (a DVIPA) and back from whichever of `targets` gets it, and waits until both
    /// directions flow.
    ///
    /// # Errors
    /// When a socket cannot be made, or nothing arrives within ten seconds.
    pub fn start(lab: &Lab, client: &str, server: SocketAddr, targets: &[String]) -> Result<Self> {
        let any = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        Self::start_from(lab, client, any, server, targets)
    }

    /// As [`Meter::start`], from the client's address `own`: a socket without one takes the route that has none either.
    ///
    /// # Errors
    /// As [`Meter::start`].
    pub fn start_from(
        lab: &Lab,
        client: &str,
        own: IpAddr,
        server: SocketAddr,
        targets: &[String],
    ) -> Result<Self> {
        let mut meter = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            to_server: Arc::default(),
            to_client: Arc::default(),
        };
        for target in targets {
            let socket = lab.inside(target, move || UdpSocket::bind(server))??;
            meter.end_point(socket, None, (&Arc::clone(&meter.to_client), &Arc::clone(&meter.to_server)))?;
        }
        let socket = lab.inside(client, move || UdpSocket::bind((own, 0)))??;
        meter.end_point(
            socket,
            Some(server),
            (&Arc::clone(&meter.to_server), &Arc::clone(&meter.to_client)),
        )?;
        crate::wait::until("the meter's streams", Duration::from_secs(10), || {
            let seen = [&meter.to_server, &meter.to_client].map(|s| lock(s).arrived.len());
            ensure!(seen.iter().all(|n| *n >= 10), "{seen:?} datagrams arrived");
            Ok(())
        })?;
        Ok(meter)
    }

    /// A socket that sends its own numbers every [`PERIOD`] to `to`, or to whoever it heard first, and notes what arrives.
    fn end_point(
        &mut self,
        socket: UdpSocket,
        to: Option<SocketAddr>,
        (own, other): (&Arc<Mutex<Stream>>, &Arc<Mutex<Stream>>),
    ) -> Result<()> {
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000))?;
        let known = Arc::new(Mutex::new(to));
        let (receiver, stop, arrived, learned) =
            (socket.try_clone()?, Arc::clone(&self.stop), Arc::clone(other), Arc::clone(&known));
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some((number, at, from)) = receive(&receiver)? {
                    lock(&arrived).arrived.push((number, at));
                    learned.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(from);
                }
            }
            Ok(())
        }));
        let (stop, sent) = (Arc::clone(&self.stop), Arc::clone(own));
        self.threads.push(std::thread::spawn(move || {
            let mut due = crate::wait::now();
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let to = *known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(to) = to {
                    // Refused while there is no way: that is what is measured.
                    let _ = socket.send_to(&number.to_be_bytes(), to);
                    number += 1;
                    lock(&sent).sent = number;
                }
                due += PERIOD;
                pause_until(due);
            }
            Ok(())
        }));
        Ok(())
    }

    /// What arrived so far.
    #[must_use]
    pub fn so_far(&self) -> Silence {
        Silence { to_server: lock(&self.to_server).clone(), to_client: lock(&self.to_client).clone() }
    }

    /// Ends the streams and gives what arrived.
    ///
    /// # Errors
    /// When a socket failed.
    pub fn finish(mut self) -> Result<Silence> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(self.so_far())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(stream: &Mutex<Stream>) -> std::sync::MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock of a paced sender: returns at `due`, or at once when that is past.
pub(crate) fn pause_until(due: Instant) {
    while let Some(left) = due.checked_duration_since(crate::wait::now()).filter(|d| !d.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// A datagram's number, the kernel's time of its arrival and its sender; `None`: nothing came.
fn receive(socket: &UdpSocket) -> Result<Option<(u64, Duration, SocketAddr)>> {
    let mut bytes = [0u8; 64];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let mut control = cmsg_space!(TimeSpec);
    let message = match recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut control),
        MsgFlags::empty(),
    ) {
        Ok(message) => message,
        // An ICMP error for what was sent is reported here.
        Err(
            Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH,
        ) => {
            return Ok(None);
        }
        Err(e) => return Err(e).context("meter"),
    };
    let at = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(at) => Some(duration(at)),
        _ => None,
    });
    let (length, from) = (message.bytes, message.address.context("a datagram has a sender")?);
    let number = <[u8; 8]>::try_from(&bytes[..length]).context("a datagram of the meter has 8 bytes")?;
    let from = SocketAddr::from((from.ip(), from.port()));
    Ok(Some((u64::from_be_bytes(number), at.unwrap_or_else(realtime), from)))
}
