//! Who is at the other end: the uid comes from the kernel, names and groups from the user database.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long names and groups of a connection's user are used before they are asked for again: a group that is taken
/// away works so soon, and a user database over the network is not asked for each request.
const KEPT: Duration = Duration::from_secs(5);

/// A user as the database knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Name; `None`: the database has no user of that uid.
    pub name: Option<String>,
    /// Names of the primary and the supplementary groups.
    pub groups: BTreeSet<String>,
}

/// Who asks: credentials that the kernel gave when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Process; for the log only, it may have ended and its number be another's.
    pub pid: i32,
    /// What the database says.
    pub user: User,
}

/// The user database. Its answers may take long: it is called where blocking is allowed.
pub trait Resolve: Send + Sync + std::fmt::Debug {
    /// The user of a uid. `gid` is the group that the kernel gave with it.
    ///
    /// # Errors
    /// The database does not answer.
    fn user(&self, uid: u32, gid: u32) -> io::Result<User>;
}

/// The system's user database (NSS).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemUsers;

impl Resolve for SystemUsers {
    fn user(&self, uid: u32, gid: u32) -> io::Result<User> {
        let text = |name: &std::ffi::OsStr| name.to_str().map(str::to_owned);
        // The group that the process runs with is proved by the kernel, so it counts even if the database changed.
        let mut groups: BTreeSet<String> =
            users::get_group_by_gid(gid).and_then(|g| text(g.name())).into_iter().collect();
        let Some(user) = users::get_user_by_uid(uid) else { return Ok(User { name: None, groups }) };
        let listed = user
            .groups()
            .ok_or_else(|| io::Error::other(format!("the groups of uid {uid} cannot be listed")))?;
        groups.extend(listed.iter().filter_map(|g| text(g.name())));
        Ok(User { name: text(user.name()), groups })
    }
}

/// The identity of one connection, asked for anew every few seconds.
#[derive(Debug)]
pub struct Identities {
    uid: u32,
    gid: u32,
    pid: i32,
    resolver: Arc<dyn Resolve>,
    last: Mutex<Option<(Instant, User)>>,
}

impl Identities {
    /// For a connection with these credentials.
    #[must_use]
    pub fn new(uid: u32, gid: u32, pid: i32, resolver: Arc<dyn Resolve>) -> Self {
        Self { uid, gid, pid, resolver, last: Mutex::new(None) }
    }

    /// User.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Process, for the log.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// The caller as the database knows it now.
    ///
    /// # Errors
    /// The database does not answer: nothing may be permitted.
    pub async fn caller(&self) -> io::Result<Caller> {
        let mut last = self.last.lock().await;
        let user = match &*last {
            Some((at, user)) if at.elapsed() < KEPT => user.clone(),
            _ => {
                let (resolver, uid, gid) = (Arc::clone(&self.resolver), self.uid, self.gid);
                let user = tokio::task::spawn_blocking(move || resolver.user(uid, gid))
                    .await
                    .map_err(io::Error::other)??;
                *last = Some((Instant::now(), user.clone()));
                user
            }
        };
        Ok(Caller { uid: self.uid, pid: self.pid, user })
    }
}
