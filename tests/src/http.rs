//! A real HTTP server that says who it is, and clients.
//!
//! `/` answers with the server's name; `/echo/TEXT` with TEXT after the name; `/bytes/N` with N bytes that [`Body`] makes, so that a client can tell a
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
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

fn answer(name: &str, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    let path = request.uri().path();
    if path == "/" {
        return Response::new(Full::new(Bytes::from(format!("{name}\n"))).boxed());
    }
    if let Some(text) = path.strip_prefix("/echo/") {
        return Response::new(Full::new(Bytes::from(format!("{name} {text}\n"))).boxed());
    }
    let length = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()).filter(|n| *n <= 8 << 30);
    match length {
        Some(length) => {
            let mut response = Response::new(StreamBody::new(BodyStream(Body::new(length))).boxed());
            response.headers_mut().insert(hyper::header::CONTENT_LENGTH, length.into());
            response
        }
        None => {
            let mut response = Response::new(Full::new(Bytes::from_static(b"not here\n")).boxed());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
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

/// Downloads over one connection until `stop` is set, comparing every byte with what was sent; gives their number.
///
/// # Errors
/// When the connection fails, lasts longer than `limit`, or a byte differs.
pub fn download_until(server: SocketAddr, stop: &AtomicBool, limit: Duration) -> Result<u64> {
    let length = 8 << 30;
    let response = agent(limit).get(format!("http://{server}/bytes/{length}")).call()?;
    let (mut reader, mut buffer, mut bytes) = (response.into_body().into_reader(), vec![0u8; CHUNK], 0);
    for expected in Body::new(length) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let got = &mut buffer[..expected.len()];
        reader.read_exact(got)?;
        ensure!(*got == *expected, "wrong bytes after {bytes}");
        bytes += got.len() as u64;
    }
    ensure!(bytes < length, "the download was over before it was stopped");
    Ok(bytes)
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
