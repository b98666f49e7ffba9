//! Captures: every frame that an interface of a node carried, kept as evidence and written as a pcap.

use crate::lab::Lab;
use crate::packet::{Frame, Seen};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes kept of each frame; enough for all headers and the first words of a small answer.
const SNAP: usize = 256;
/// Frames kept at most, so that a long download does not fill the memory.
const MOST: usize = 400_000;

/// What is still on its way when a capture is ended arrives within this time.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest time for what waits in the socket when a capture is ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Frame>>>>,
    file: PathBuf,
}

impl Capture {
    /// Captures what `interface` of `node` carries, both ways, from now on.
    ///
    /// # Errors
    /// When the interface does not exist or a packet socket cannot be made.
    pub fn start(lab: &Lab, node: &str, interface: &str) -> Result<Self> {
        Self::start_keeping(lab, node, interface, |_| true)
    }

    /// As [`Capture::start`], and keeps only frames that `keep` accepts: for long times.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn start_keeping(
        lab: &Lab,
        node: &str,
        interface: &str,
        keep: impl Fn(&Seen) -> bool + Send + 'static,
    ) -> Result<Self> {
        let file = lab.folder("captures")?.join(format!("{}-{interface}.pcap", node.to_lowercase()));
        let stop = Arc::new(AtomicBool::new(false));
        let (stop2, interface) = (Arc::clone(&stop), interface.to_owned());
        let (ready, started) = std::sync::mpsc::channel();
        let thread = lab.spawn(node, move || -> Result<Vec<Frame>> {
            let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll)?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, PAUSE.subsec_micros().into()))?;
            // Beyond the limit of ordinary users where that is allowed.
            setsockopt(&fd, sockopt::RcvBufForce, &(32 << 20))
                .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &(4 << 20)))?;
            let index = nix::net::if_::if_nametoindex(interface.as_str()).context(interface)? as usize;
            ready.send(()).context("the starter is gone")?;
            let (mut frames, mut buffer) = (Vec::new(), vec![0u8; 70_000]);
            let mut ending: Option<Instant> = None;
            loop {
                if ending.is_none() && stop2.load(Ordering::Relaxed) {
                    ending = Some(crate::wait::now());
                }
                // Heartbeats leave no pause: after this time nothing is waited for, only what is there is taken.
                if ending.is_some_and(|since| since.elapsed() > PAUSE) {
                    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                }
                match recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer) {
                    Ok((length, Some(from))) if from.ifindex() == index && frames.len() < MOST => {
                        let frame = Frame::new(&buffer[..length.min(SNAP)], length, crate::wait::now());
                        if keep(&frame.seen) {
                            frames.push(frame);
                        }
                    }
                    Ok(_) => {}
                    Err(Errno::EAGAIN | Errno::EINTR) if ending.is_some() => return Ok(frames),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(e) => return Err(e).context("capture"),
                }
                if ending.is_some_and(|since| since.elapsed() > PATIENCE) {
                    return Ok(frames);
                }
            }
        })?;
        let thread = std::thread::spawn(move || match thread.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        started.recv().context("the capture did not start")?;
        Ok(Self { stop, thread: Some(thread), file })
    }

    /// Ends the capture, writes the pcap and gives the frames in order.
    ///
    /// # Errors
    /// When the capture failed or the file cannot be written.
    pub fn finish(mut self) -> Result<Frames> {
        self.stop.store(true, Ordering::Relaxed);
        let frames = match self.thread.take().context("a capture is finished once")?.join() {
            Ok(frames) => frames?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        write_pcap(&self.file, &frames)?;
        Ok(Frames { frames, file: self.file.clone() })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a capture saw.
#[derive(Debug)]
pub struct Frames {
    /// In the order of arrival.
    pub frames: Vec<Frame>,
    /// The pcap.
    pub file: PathBuf,
}

impl Frames {
    /// Frames that `wanted` accepts.
    pub fn matching<'a>(&'a self, wanted: impl Fn(&Seen) -> bool + 'a) -> impl Iterator<Item = &'a Frame> {
        self.frames.iter().filter(move |f| wanted(&f.seen))
    }

    /// How many frames carry `marker` in the bytes that were kept of them.
    #[must_use]
    pub fn holding(&self, marker: &[u8]) -> usize {
        self.frames.iter().filter(|f| f.bytes.windows(marker.len()).any(|w| w == marker)).count()
    }

    /// How many frames `wanted` accepts.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.matching(wanted).count()
    }
}

fn write_pcap(path: &Path, frames: &[Frame]) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut writer = pcap_file::pcap::PcapWriter::new(std::io::BufWriter::new(file))?;
    let Some(first) = frames.first().map(|f| f.at) else { return Ok(()) };
    for frame in frames {
        let packet = pcap_file::pcap::PcapPacket::new(
            frame.at - first,
            u32::try_from(frame.length).unwrap_or(u32::MAX),
            &frame.bytes,
        );
        writer.write_packet(&packet)?;
    }
    Ok(())
}
