//! The control socket: where it may lie, who may connect, and one connection of `iked` at a time.

use crate::control::{FromStack, ToStack};
use crate::driver::option;
use crate::framing::{self, Decoder, FrameError};
use crate::outbox::{Outbox, Waiting};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use zeroize::Zeroize;

/// Octets read from a connection at once.
const READ_BYTES: usize = 64 << 10;
/// Octets of encoded messages that wait for a slow `iked` before the outbox holds the rest back.
const WRITE_BYTES: usize = 1 << 20;
/// Least descriptor number of the connection. When a process is killed, the kernel lets go of its descriptors from the highest
/// number down, and of each TUN device and packet socket it takes some 10 ms: `iked`, which waits for the end of this connection
/// to move our addresses, would learn it last of all.
const HIGH_NUMBER: i32 = 512;

/// Why the stack cannot be controlled (threats T57).
#[derive(Debug, Error)]
pub enum SocketError {
    /// Keys pass here: nobody else may reach it.
    #[error("{path} must be a folder of user {user} with mode 0700, it is {found}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Our user.
        user: u32,
        /// What it is.
        found: String,
    },
    /// Something else has the name.
    #[error("{0} is there and no socket of ours; it is not touched")]
    NotOurs(PathBuf),
    /// Another `stackd` answers there.
    #[error("another stackd listens on {0}")]
    Live(PathBuf),
    /// The system refused.
    #[error("{path}: {error}")]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlListener {
    /// Listens on `path`, in a folder that only we can enter. A stale socket of ours is replaced.
    ///
    /// # Errors
    /// When the folder or what stands at the path is not as it has to be.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |error| SocketError::System { path: path.to_owned(), error };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check_folder(folder)?;
        match std::fs::symlink_metadata(path) {
            Ok(m) if m.file_type().is_socket() && m.uid() == own_user() => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(SocketError::Live(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(system)?;
            }
            Ok(_) => return Err(SocketError::NotOurs(path.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(system(e)),
        }
        let listener = UnixListener::bind(path).map_err(system)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(system)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// The next connection of a user who may control us; others are closed, and said in the log.
    ///
    /// # Errors
    /// When the system is out of descriptors.
    pub async fn accept(&self) -> io::Result<Connection> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?;
            if peer.uid() == own_user() || peer.uid() == 0 {
                let stream = stream.into_std()?;
                // A process that may have few descriptors goes without.
                let stream = option::duplicate_from(stream.as_fd(), HIGH_NUMBER).map_or(stream, Into::into);
                return Ok(Connection::new(UnixStream::from_std(stream)?));
            }
            tracing::warn!(user = peer.uid(), process = peer.pid(), "control connection refused");
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket is gone already");
        }
    }
}

fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn check_folder(folder: &Path) -> Result<(), SocketError> {
    let user = own_user();
    let wrong = |found: String| Err(SocketError::Folder { path: folder.to_owned(), user, found });
    match std::fs::symlink_metadata(folder) {
        Ok(m) if !m.is_dir() => wrong("no folder".into()),
        Ok(m) if m.uid() != user => wrong(format!("of user {}", m.uid())),
        Ok(m) if m.mode() & 0o777 != 0o700 => wrong(format!("of mode {:04o}", m.mode() & 0o7777)),
        Ok(_) => Ok(()),
        Err(e) => wrong(format!("not accessible ({e})")),
    }
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionEnd {
    /// `iked` closed it.
    #[error("iked closed the control connection")]
    Closed,
    /// The other end speaks something else.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The system says so.
    #[error("the control connection failed: {0}")]
    System(#[from] io::Error),
}

/// One connection of `iked`.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    read: Box<[u8]>,
    write: Vec<u8>,
    written: usize,
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            read: vec![0; READ_BYTES].into_boxed_slice(),
            write: Vec::new(),
            written: 0,
        }
    }

    /// Waits until something arrived or, if there is something to write, until that is possible; then does both. The
    /// messages that are complete are to be taken with [`Self::next_message`]. May be dropped at any await.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn exchange(&mut self, outbox: &mut Outbox) -> Result<(), ConnectionEnd> {
        self.fill(outbox)?;
        let interest =
            if self.write.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = self.stream.ready(interest).await?;
        if ready.is_writable() && !self.write.is_empty() {
            match self.stream.try_write(&self.write[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
            if self.written == self.write.len() {
                self.write.clear();
                self.written = 0;
            }
        }
        if ready.is_readable() {
            match self.stream.try_read(&mut self.read) {
                Ok(0) => return Err(ConnectionEnd::Closed),
                Ok(n) => {
                    self.decoder.push(&self.read[..n]);
                    self.read[..n].zeroize();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When what arrived is none.
    pub fn next_message(&mut self) -> Result<Option<ToStack>, ConnectionEnd> {
        Ok(self.decoder.next_message()?)
    }

    /// Puts a message before everything that waits in the outbox.
    ///
    /// # Errors
    /// When it is larger than a frame may be.
    pub fn push(&mut self, message: &FromStack) -> Result<(), ConnectionEnd> {
        Ok(framing::encode(message, &mut self.write)?)
    }

    fn fill(&mut self, outbox: &mut Outbox) -> Result<(), ConnectionEnd> {
        while self.write.len() - self.written < WRITE_BYTES {
            let message = match outbox.pop() {
                Some(Waiting::Message(message)) => message,
                Some(Waiting::Frame(frame)) => {
                    self.write.extend_from_slice(&frame);
                    continue;
                }
                None => break,
            };
            match framing::encode(&message, &mut self.write) {
                Ok(()) => {}
                // An answer that is too long for a frame must not end the connection.
                Err(error @ FrameError::OwnTooLong { .. }) => {
                    self.push(&FromStack::Refused { reason: error.to_string() })?
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn private_folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    #[test]
    fn t57_what_is_not_our_own_stale_socket_is_never_touched() {
        runtime().block_on(async {
            let dir = private_folder();
            let path = dir.path().join("s");
            std::fs::write(&path, "mine").unwrap();
            assert!(matches!(ControlListener::bind(&path), Err(SocketError::NotOurs(_))));
            let link = dir.path().join("l");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert!(matches!(ControlListener::bind(&link), Err(SocketError::NotOurs(_))));
            assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        });
    }

    #[test]
    fn t57_a_live_socket_is_refused_and_a_stale_one_replaced() {
        runtime().block_on(async {
            let dir = private_folder();
            let path = dir.path().join("s");
            let first = ControlListener::bind(&path).unwrap();
            assert!(matches!(ControlListener::bind(&path), Err(SocketError::Live(_))));
            drop(first);
            assert!(!path.exists());
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists(), "stale");
            let again = ControlListener::bind(&path).unwrap();
            assert_eq!(std::fs::metadata(&again.path).unwrap().mode() & 0o777, 0o600);
        });
    }

    #[test]
    fn t57_a_folder_that_others_may_enter_is_refused() {
        runtime().block_on(async {
            let dir = private_folder();
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            let error = ControlListener::bind(&dir.path().join("s")).unwrap_err();
            assert!(error.to_string().contains("mode 0755"), "{error}");
        });
    }
}
