//! The socket's place in the file system (threats T57).
//!
//! Everybody may connect, so the socket has mode 0666 and SERVAUTH decides. That is safe only where nobody but root
//! and this daemon can put another socket in its place: its folder is checked for that, up to the root. A lock
//! beside the socket says that a daemon serves it; a socket without a server is replaced, anything else is left alone.

use nix::fcntl::{Flock, FlockArg, OFlag};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket};

/// Longest path that a socket address holds, without the final NUL.
const MAX_PATH: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit into a socket address.
    #[error("socket path {path}: {length} bytes, at most {MAX_PATH} are possible", path = path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The path has no folder or no name.
    #[error("socket path {path}: must be absolute and name a file", path = .0.display())]
    NotAFile(PathBuf),
    /// A folder could be changed by others.
    #[error("socket folder {folder}: owner {owner}, mode {mode:04o}: others could put another socket there",
            folder = folder.display())]
    UnsafeFolder {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Something that is no socket of ours is there.
    #[error("{path} is a {kind}; it is left alone", path = path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Another daemon serves it.
    #[error("another daemon serves {path}", path = .0.display())]
    Live(PathBuf),
    /// The system refused something.
    #[error("{what} {path}: {source}", path = path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that this daemon serves. Dropped: its file is removed, if it still is ours.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    mode: u32,
    /// Device and inode of our socket.
    id: (u64, u64),
    /// Held for as long as the socket is served.
    _lock: Flock<File>,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::System { what, path, source }
}

/// Makes the socket with this mode and listens.
pub(crate) fn listen(path: &Path, mode: u32) -> Result<(UnixListener, Place), SocketError> {
    let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else {
        return Err(SocketError::NotAFile(path.to_owned()));
    };
    if !folder.exists() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(folder).map_err(failed("make", folder))?;
    }
    // From here on the path has no symbolic link but perhaps its last part, which is never followed.
    let folder = folder.canonicalize().map_err(failed("find", folder))?;
    check_folders(&folder)?;
    let path = folder.join(name);
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(SocketError::TooLong { path, length });
    }
    let lock = lock(&folder, name, &path)?;
    remove_stale(&path)?;
    let (listener, id) = bind(&path, mode)?;
    Ok((listener, Place { path, mode, id, _lock: lock }))
}

/// Makes the socket where nothing is, and listens.
fn bind(path: &Path, mode: u32) -> Result<(UnixListener, (u64, u64)), SocketError> {
    let socket = UnixSocket::new_stream().map_err(failed("make a socket for", path))?;
    socket.bind(path).map_err(failed("bind", path))?;
    // Nobody can connect before listen: the mode is right before the first accept.
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))?;
    let made = std::fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let listener = socket.listen(BACKLOG).map_err(failed("listen on", path))?;
    Ok((listener, (made.dev(), made.ino())))
}

impl Place {
    /// Makes the socket again if its file was removed: clients that are connected stay, new ones find it. What
    /// somebody else put in its place is left alone.
    pub(super) fn renew(&mut self) -> Result<Option<UnixListener>, SocketError> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(meta) if (meta.dev(), meta.ino()) == self.id => return Ok(None),
            Ok(_) => remove_stale(&self.path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("look at", &self.path)(e)),
        }
        if let Some(folder) = self.path.parent() {
            check_folders(folder)?;
        }
        let (listener, id) = bind(&self.path, self.mode)?;
        self.id = id;
        Ok(Some(listener))
    }
}

/// Nobody but root and us may rename things on the way to the socket. In a folder above it a sticky bit is enough;
/// in its own folder it is not: others could make the socket before we do.
fn check_folders(folder: &Path) -> Result<(), SocketError> {
    let us = nix::unistd::geteuid().as_raw();
    let unmapped = unmapped_owner();
    for (depth, dir) in folder.ancestors().enumerate() {
        let meta = std::fs::metadata(dir).map_err(failed("look at", dir))?;
        let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
        let open = mode & 0o022 != 0 && (depth == 0 || mode & 0o1000 == 0);
        let trusted = owner == 0 || owner == us || (depth > 0 && unmapped == Some(owner));
        if open || !trusted {
            return Err(SocketError::UnsafeFolder { folder: dir.to_owned(), owner, mode });
        }
    }
    Ok(())
}

/// The user as whom files show whose owner has no number here: in a user namespace that is the host's root, to whom
/// `/` and `/tmp` belong.
fn unmapped_owner() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let mut words = map.split_whitespace();
    let whole = words.next() == Some("0") && words.next() == Some("0") && words.next() == Some("4294967295");
    if whole {
        return None;
    }
    std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()
}

fn lock(folder: &Path, name: &std::ffi::OsStr, socket: &Path) -> Result<Flock<File>, SocketError> {
    let mut file = OsString::from(".");
    file.push(name);
    file.push(".lock");
    let path = folder.join(file);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(&path)
        .map_err(failed("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => SocketError::Live(socket.to_owned()),
        errno => SocketError::System { what: "lock", path, source: errno.into() },
    })
}

/// Removes a socket that nobody serves. The lock is held, so no other daemon does the same.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("look at", path)(e)),
    };
    let t = meta.file_type();
    let us = nix::unistd::geteuid().as_raw();
    let kind = match () {
        () if t.is_symlink() => "symbolic link",
        () if t.is_dir() => "folder",
        () if !t.is_socket() => "file",
        () if meta.uid() != us => "socket of another user",
        () => {
            return match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => Err(SocketError::Live(path.to_owned())),
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed("remove the stale", path))
                }
                // A server that does not accept fast enough is a server.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(SocketError::Live(path.to_owned())),
                Err(e) => Err(failed("try", path)(e)),
            };
        }
    };
    Err(SocketError::Occupied { path: path.to_owned(), kind })
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.id);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "management socket not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(path: &Path) -> Result<(UnixListener, Place), SocketError> {
        super::listen(path, 0o666)
    }

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
    }

    #[tokio::test]
    async fn t57_only_a_stale_socket_of_ours_is_replaced() {
        let dir = folder();
        let path = dir.path().join("ipsecmgmt");
        for kind in ["file", "folder", "symbolic link"] {
            match kind {
                "file" => std::fs::write(&path, b"precious").unwrap(),
                "folder" => std::fs::create_dir(&path).unwrap(),
                _ => std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap(),
            }
            let error = listen(&path).unwrap_err();
            assert!(matches!(error, SocketError::Occupied { kind: k, .. } if k == kind), "{kind}: {error}");
            assert!(std::fs::symlink_metadata(&path).is_ok(), "{kind} is still there");
            if kind == "folder" {
                std::fs::remove_dir(&path).unwrap()
            } else {
                std::fs::remove_file(&path).unwrap()
            }
        }
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_listener, place) = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        drop(place);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn t57_a_live_socket_is_left_to_its_server() {
        let dir = folder();
        let path = dir.path().join("ipsecmgmt");
        let served = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Live(_))), "by the lock");
        drop(served);
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Live(_))), "by connecting");
    }

    #[tokio::test]
    async fn t57_a_folder_that_others_can_write_is_refused() {
        let dir = folder();
        let inner = dir.path().join("sock");
        for (outer_mode, inner_mode, safe) in [
            (0o755, 0o755, true),
            (0o755, 0o777, false),
            (0o755, 0o1777, false),
            (0o777, 0o755, false),
            (0o1777, 0o755, true),
        ] {
            std::fs::create_dir(&inner).unwrap();
            std::fs::set_permissions(&inner, Permissions::from_mode(inner_mode)).unwrap();
            std::fs::set_permissions(dir.path(), Permissions::from_mode(outer_mode)).unwrap();
            let result = listen(&inner.join("s"));
            assert_eq!(result.is_ok(), safe, "{outer_mode:o} {inner_mode:o}: {result:?}");
            drop(result);
            std::fs::remove_dir_all(&inner).unwrap();
        }
    }

    #[tokio::test]
    async fn t57_removed_or_replaced_while_running_is_not_ours_to_remove() {
        let dir = folder();
        let path = dir.path().join("ipsecmgmt");
        let (_listener, place) = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"somebody else's").unwrap();
        drop(place);
        assert!(path.exists());
        let long = dir.path().join("x".repeat(108));
        assert!(matches!(listen(&long), Err(SocketError::TooLong { .. })));
        assert!(matches!(listen(Path::new("relative")), Err(SocketError::NotAFile(_))));
    }
}
