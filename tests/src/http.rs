//! A real HTTP server that says who it is, and clients.
//!
//! `/` answers with the server's name; `/echo/TEXT` with TEXT after the name; `/paced/RATE/N` as `/bytes/N`, RATE bytes
//! a second; `/bytes/N` with N bytes that [`Body`] makes, so that a client can tell a
//! single changed, lost or doubled byte.

use crate::lab::Lab;
use crate::process::Background;
use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

const CHUNK: usize = 64 << 10;

/// The bytes of `/bytes/N`: a fixed pseudo-random block, with the chunk's number at its start.
#[derive(Debug)]
pub struct Body {
    block: Vec<u8>,
    number: u64,
    left: u64,
}

impl Body {
    /// The first `length` bytes.
    #[must_use]
    pub fn new(length: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let block = std::iter::repeat_with(|| {
            // xorshift64: all that is asked of it is that no stretch looks like another.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(CHUNK / 8)
        .flatten()
        .collect();
        Self { block, number: 0, left: length }
    }

    /// SHA-256 of the whole.
    #[must_use]
    pub fn digest(length: u64) -> [u8; 32] {
        let mut hash = Sha256::new();
        for chunk in Self::new(length) {
            hash.update(&chunk);
        }
        hash.finalize().into()
    }
}

impl Iterator for Body {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
        if length == 0 {
            return None;
        }
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        self.left -= length as u64;
        Some(Bytes::copy_from_slice(&self.block[..length]))
    }
}

/// [`Body`] as the stream that the HTTP library wants.
struct BodyStream(Body);

impl futures_core::Stream for BodyStream {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// [`Body`] at a given speed.
struct PacedBody {
    body: Body,
    /// What is left of the body's present chunk.
    chunk: Bytes,
    tick: tokio::time::Interval,
    piece: usize,
}

impl PacedBody {
    /// Pieces in a second.
    const TICKS: u64 = 16;

    fn new(length: u64, rate: u64) -> Self {
        Self {
            body: Body::new(length),
            chunk: Bytes::new(),
            tick: tokio::time::interval(Duration::from_nanos(1_000_000_000 / Self::TICKS)),
            piece: usize::try_from(rate / Self::TICKS).unwrap_or(CHUNK).max(1),
        }
    }
}

impl futures_core::Stream for PacedBody {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.chunk.is_empty() {
            match self.body.next() {
                Some(chunk) => self.chunk = chunk,
                None => return Poll::Ready(None),
            }
        }
        std::task::ready!(self.tick.poll_tick(context));
        let length = self.piece.min(self.chunk.len());
        let piece = self.chunk.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Serves on `port` of every address until the process ends.
///
/// # Errors
/// When the port cannot be bound.
pub fn serve(name: &str, port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    runtime.block_on(async move {
        let listener =
            tokio::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await.context("listen")?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let service =
                    service_fn(move |request| async move { Ok::<_, Infallible>(answer(name, &request)) });
                let io = hyper_util::rt::TokioIo::new(stream);
                // A client that goes away ends its own connection and nothing else.
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    })
}

fn answer(name: &'static str, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let path = request.uri().path();
    if path == "/" {
        return Response::new(Full::new(Bytes::from(format!("{name}\n"))).boxed());
    }
    if let Some(text) = path.strip_prefix("/echo/") {
        return Response::new(Full::new(Bytes::from(format!("{name} {text}\n"))).boxed());
    }
    let most = |n: &u64| *n <= 8 << 30;
    let paced = path.strip_prefix("/paced/").and_then(|p| p.split_once('/'));
    let paced =
        paced.and_then(|(rate, length)| Some((rate.parse().ok()?, length.parse().ok().filter(most)?)));
    let length = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()).filter(most);
    match (paced, length) {
        (Some((rate, length)), _) => {
            of_length(name, length, StreamBody::new(PacedBody::new(length, rate)).boxed())
        }
        (None, Some(length)) => {
            of_length(name, length, StreamBody::new(BodyStream(Body::new(length))).boxed())
        }
        (None, None) => {
            let mut response = Response::new(Full::new(Bytes::from_static(b"not here\n")).boxed());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn of_length(
    name: &'static str,
    length: u64,
    body: BoxBody<Bytes, Infallible>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_LENGTH, length.into());
    headers.insert(hyper::header::SERVER, hyper::header::HeaderValue::from_static(name));
    response
}

/// A server process in a node.
///
/// # Errors
/// When it does not come up.
pub fn start_server(lab: &Lab, node: &str, name: &str, port: u16) -> Result<Background> {
    let mut command = lab.exec(node, &crate::node::binary("demo")?);
    command.args(["serve", "--name", name, "--port", &port.to_string()]);
    let log = lab.folder("http")?.join(format!("{}.log", node.to_lowercase()));
    let mut server = Background::start(command, &log)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    crate::wait::until("HTTP server", Duration::from_secs(10), || {
        ensure!(server.running(), "ended: {}", server.output());
        lab.inside(node, move || std::net::TcpStream::connect(address))??;
        Ok(())
    })?;
    Ok(server)
}

fn agent(limit: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(limit)).build().into()
}

/// The text that `http://SERVER/` answers, over a connection of its own.
///
/// # Errors
/// When the server cannot be reached within `limit`.
pub fn get(lab: &Lab, node: &str, server: SocketAddr, limit: Duration) -> Result<String> {
    get_path(lab, node, server, "/", limit)
}

/// The text that the server answers for `path`.
///
/// # Errors
/// As [`get`].
pub fn get_path(lab: &Lab, node: &str, server: SocketAddr, path: &str, limit: Duration) -> Result<String> {
    let url = format!("http://{server}{path}");
    lab.inside(node, move || -> Result<String> {
        let mut response = agent(limit).get(url).call()?;
        Ok(response.body_mut().read_to_string()?.trim().to_owned())
    })?
}

/// A finished download.
#[derive(Debug, Clone, Copy)]
pub struct Download {
    /// Bytes received.
    pub bytes: u64,
    /// SHA-256 of what came.
    pub digest: [u8; 32],
}

impl Download {
    /// Says whether exactly the bytes came that were sent.
    ///
    /// # Errors
    /// When one differs.
    pub fn verify(&self, length: u64) -> Result<()> {
        if self.bytes != length || self.digest != Body::digest(length) {
            bail!(
                "download of {length} bytes: {} came and the checksum is {}",
                self.bytes,
                hex::encode(self.digest)
            );
        }
        Ok(())
    }
}

/// Downloads over one connection until `stop` is set and at least `least` bytes came, however slow or fast the machine
/// is; compares every byte with what was sent.
///
/// # Errors
/// When the connection fails, lasts longer than `limit`, or a byte differs.
pub fn download_until(server: SocketAddr, stop: &AtomicBool, least: u64, limit: Duration) -> Result<()> {
    let length = 8 << 30;
    let response = agent(limit).get(format!("http://{server}/bytes/{length}")).call()?;
    let (mut reader, mut buffer, mut bytes) = (response.into_body().into_reader(), vec![0u8; CHUNK], 0);
    for expected in Body::new(length) {
        if stop.load(Ordering::Relaxed) && bytes >= least {
            break;
        }
        let got = &mut buffer[..expected.len()];
        reader.read_exact(got)?;
        ensure!(*got == *expected, "wrong bytes after {bytes}");
        bytes += got.len() as u64;
    }
    ensure!(bytes < length, "the download was over before it was stopped");
    Ok(())
}

/// A download of `/paced/…` that may be watched while it runs.
#[derive(Debug)]
pub struct Paced {
    /// Who served it; empty until the answer began.
    pub server: Mutex<String>,
    /// Bytes so far.
    pub bytes: AtomicU64,
    /// It ends after the next bytes that come.
    enough: AtomicBool,
}

/// How a paced download ended.
#[derive(Debug)]
pub struct Finished {
    /// Who served it; empty when no answer came.
    pub server: String,
    /// The longest time between two pieces.
    pub stall: Duration,
    /// Why it failed; `None`: every byte came.
    pub error: Option<String>,
}

impl PacedDownload {
    /// Starts `count` downloads of `length` bytes at `rate` bytes a second each, over connections of their own.
    ///
    /// # Errors
    /// When a thread cannot enter the node.
    pub fn start(
        lab: &Lab,
        node: &str,
        server: SocketAddr,
        (count, length, rate): (usize, u64, u64),
        limit: Duration,
    ) -> Result<Vec<Self>> {
        let start = |_| {
            let watch = Arc::new(Paced {
                server: Mutex::default(),
                bytes: AtomicU64::new(0),
                enough: AtomicBool::new(false),
            });
            let watched = Arc::clone(&watch);
            let thread = lab.spawn(node, move || {
                let mut stall = Duration::ZERO;
                let error = paced(server, (length, rate), limit, &watched, &mut stall).err();
                let server = watched.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Finished { server, stall, error: error.map(|e| format!("{e:#}")) }
            })?;
            Ok(Self { watch, thread })
        };
        (0..count).map(start).collect()
    }

    /// Whether it has ended, well or not.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends downloads that have lasted long enough: each must get right bytes once more within `limit`. One that does not
    /// has failed, and is left alone.
    ///
    /// # Errors
    /// When the node could not be entered.
    pub fn conclude(downloads: Vec<Self>, limit: Duration) -> Result<Vec<Finished>> {
        for download in &downloads {
            download.watch.enough.store(true, Ordering::Relaxed);
        }
        let end = crate::wait::now() + limit;
        let conclude = |download: Self| {
            let left = end.saturating_duration_since(crate::wait::now());
            let ended = crate::wait::until("its end", left, || {
                ensure!(download.ended());
                Ok(())
            });
            match ended {
                Ok(()) => download.finish(),
                Err(_) => Ok(Finished {
                    server: download.server(),
                    stall: limit,
                    error: Some(format!("stands still after {:?} bytes", download.watch.bytes)),
                }),
            }
        };
        downloads.into_iter().map(conclude).collect()
    }

    /// Who serves it; empty until the answer began.
    #[must_use]
    pub fn server(&self) -> String {
        self.watch.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the node could not be entered.
    pub fn finish(self) -> Result<Finished> {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A paced download in the background.
#[derive(Debug)]
pub struct PacedDownload {
    /// What can be seen of it meanwhile.
    pub watch: Arc<Paced>,
    thread: JoinHandle<Result<Finished>>,
}

fn paced(
    server: SocketAddr,
    (length, rate): (u64, u64),
    limit: Duration,
    watch: &Paced,
    stall: &mut Duration,
) -> Result<()> {
    let response = agent(limit).get(format!("http://{server}/paced/{rate}/{length}")).call()?;
    let name = response.headers().get("server").and_then(|v| v.to_str().ok()).unwrap_or_default();
    name.clone_into(&mut watch.server.lock().unwrap_or_else(PoisonError::into_inner));
    let (mut reader, mut buffer) = (response.into_body().into_reader(), vec![0u8; CHUNK]);
    let mut last = crate::wait::now();
    for expected in Body::new(length) {
        let mut rest = &expected[..];
        while !rest.is_empty() {
            let wanted = rest.len();
            let got = reader.read(&mut buffer[..wanted])?;
            ensure!(got > 0, "the connection ended after {} bytes", watch.bytes.load(Ordering::Relaxed));
            ensure!(
                buffer[..got] == rest[..got],
                "wrong bytes after {}",
                watch.bytes.load(Ordering::Relaxed)
            );
            let now = crate::wait::now();
            *stall = (*stall).max(now - last);
            last = now;
            watch.bytes.fetch_add(got as u64, Ordering::Relaxed);
            if watch.enough.load(Ordering::Relaxed) {
                return Ok(());
            }
            rest = &rest[got..];
        }
    }
    Ok(())
}

/// Downloads `length` bytes and takes the checksum.
///
/// # Errors
/// When the connection fails or is not done within `limit`.
pub fn download(server: SocketAddr, length: u64, limit: Duration) -> Result<Download> {
    let response = agent(limit).get(format!("http://{server}/bytes/{length}")).call()?;
    let mut reader = response.into_body().into_reader();
    let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0u8; 256 << 10], 0);
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
    Ok(Download { bytes, digest: hash.finalize().into() })
}
