//! The coupling facility on etcd (3.4 or later), for a sysplex of several hosts. The only file that knows its client.
//!
//! One connection at a time, to one endpoint. A call that fails or does not end in time gives the connection up,
//! and the next call goes to the next endpoint on a fresh one: a connection whose other end fell silent would stay
//! dead for as long as TCP waits, long after the network is well again. Nothing is repeated here; who calls knows
//! what may be repeated.

use super::fence::within;
use super::watch::Watched;
use super::{
    CALL_TIME, CfError, Change, Condition, CouplingFacility, Entry, MAX_RECORDS, Outcome, READ, Revision,
    Seen, Transaction, Watch,
};
use crate::cf::seal::{KeyError, read_private};
use crate::config::Etcd as Config;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, GetResponse, Identity,
    KeyValue, PutOptions, TlsOptions, Txn, TxnOp, WatchOptions, WatchStream,
};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Seconds until a leased record goes away after its writer has gone. Its writer repeats it three times meanwhile.
const LEASE_SECS: i64 = 10;
/// How often an idle connection is tried, and how long that may take. etcd takes more than one try in five seconds
/// for an attack, unless told otherwise.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));
/// Largest file of certificates that is read.
const MAX_PEM: u64 = 1 << 20;
/// gRPC's number for an answer that is larger than the client takes.
const OUT_OF_RANGE: i32 = 11;

/// An etcd cluster used as coupling facility.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("endpoints", &self.shared.endpoints).finish_non_exhaustive()
    }
}

struct Shared {
    endpoints: Vec<String>,
    options: ConnectOptions,
    way: Mutex<Way>,
}

/// The connection of the moment.
#[derive(Default)]
struct Way {
    client: Option<Client>,
    /// Counts connections, so that only the one that failed is given up.
    number: usize,
}

/// Why the configuration of etcd is of no use.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file of certificates.
    #[error("{}: {reason}", path.display())]
    File {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client's private key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Etcd {
    /// A way to the cluster of `config`. Connects when it is first used.
    ///
    /// # Errors
    /// A file of certificates cannot be read, or the private key is accessible to others.
    pub fn new(config: &Config) -> Result<Self, EtcdError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CALL_TIME)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some(ca) = &config.ca {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
            if let Some((cert, key)) = &config.identity {
                let private = read_private(key, MAX_PEM)?;
                tls = tls.identity(Identity::from_pem(read(cert)?, private.as_bytes()));
            }
            options = options.with_tls(tls);
        }
        let shared = Shared { endpoints: config.endpoints.clone(), options, way: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes a call on the connection of the moment. Whoever drops it before its end gives the connection up.
    async fn call<T, F>(&self, f: impl FnOnce(Client) -> F) -> Result<T, CfError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (client, number) = self.client().await?;
        let mut attempt = Attempt { shared: &self.shared, number, ended: false };
        let result = f(client).await;
        // An answer of etcd itself, even a refusal, says that the connection is well.
        attempt.ended = result.as_ref().err().is_none_or(is_answer);
        result.map_err(|e| self.failed(&e, number))
    }

    async fn client(&self) -> Result<(Client, usize), CfError> {
        let number = {
            let way = self.shared.way();
            if let Some(client) = &way.client {
                return Ok((client.clone(), way.number));
            }
            way.number
        };
        let endpoint = self.shared.endpoint(number);
        let connected = Client::connect([endpoint], Some(self.shared.options.clone())).await;
        let client = connected.map_err(|e| {
            self.shared.give_up(number);
            self.failed(&e, number)
        })?;
        let mut way = self.shared.way();
        if way.number == number {
            way.client.get_or_insert_with(|| client.clone());
        }
        Ok((client, number))
    }

    fn failed(&self, e: &Error, number: usize) -> CfError {
        CfError::Store(format!("etcd {}: {}", self.shared.endpoint(number), reasons(e)))
    }

    /// Up to [`READ`] entries, at `revision` if it is given, and the store's revision.
    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<i64>,
    ) -> Result<(Vec<Entry>, i64), CfError> {
        let mut limit = READ;
        loop {
            let first = match after.filter(|a| *a >= prefix) {
                // The key that comes right behind it.
                Some(after) => format!("{after}\0"),
                None => prefix.to_owned(),
            };
            let options = GetOptions::new()
                .with_range(end_of(prefix))
                .with_limit(i64::try_from(limit).unwrap_or(i64::MAX))
                .with_revision(revision.unwrap_or(0));
            let call = self.call(|mut c| async move {
                match c.get(first, Some(options)).await {
                    // Values larger than any of ours: with fewer at a time each of them can be refused alone.
                    Err(e) if limit > 1 && is_too_large(&e) => Ok(None),
                    got => got.map(Some),
                }
            });
            match call.await? {
                Some(got) => return Ok((entries(&got), header(got.header()))),
                None => limit /= 8,
            }
            limit = limit.max(1);
        }
    }

    /// Everything under `prefix` at one revision, which comes with it.
    async fn everything(&self, prefix: &str) -> Result<(Vec<Entry>, i64), CfError> {
        let (mut all, revision) = within(CALL_TIME, self.range(prefix, None, None)).await?;
        loop {
            let Some(last) = all.last().map(|e| e.key.clone()) else { return Ok((all, revision)) };
            let (more, _) = within(CALL_TIME, self.range(prefix, Some(&last), Some(revision))).await?;
            if more.is_empty() {
                return Ok((all, revision));
            }
            if all.len() >= MAX_RECORDS {
                return Err(CfError::Store(format!("more than {MAX_RECORDS} keys under {prefix}")));
            }
            all.extend(more);
        }
    }

    /// What happens under `prefix` from revision `from` on.
    async fn stream(&self, prefix: &str, from: i64) -> Result<WatchStream, CfError> {
        let options =
            WatchOptions::new().with_range(end_of(prefix)).with_start_revision(from).with_fragment();
        within(CALL_TIME, self.call(|mut c| async move { c.watch(prefix, Some(options)).await })).await
    }
}

impl Shared {
    fn way(&self) -> MutexGuard<'_, Way> {
        // Two plain fields: nothing is half done after a panic.
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self, number: usize) -> &str {
        // A checked configuration has at least one.
        self.endpoints.get(number % self.endpoints.len().max(1)).map_or("none", String::as_str)
    }

    fn give_up(&self, number: usize) {
        let mut way = self.way();
        if way.number == number {
            way.client = None;
            way.number = number.wrapping_add(1);
        }
    }
}

/// A call under way.
struct Attempt<'a> {
    shared: &'a Shared,
    number: usize,
    ended: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.give_up(self.number);
        }
    }
}

impl CouplingFacility for Etcd {
    const EXPIRES: bool = true;

    async fn get(&self, key: &str) -> Result<Option<Entry>, CfError> {
        let got = self.call(|mut c| async move { c.get(key, None).await }).await?;
        Ok(entries(&got).pop())
    }

    async fn commit(&self, t: Transaction) -> Result<Outcome, CfError> {
        t.check()?;
        let mut lease = 0;
        if t.changes.iter().any(|c| matches!(c, Change::PutLeased(..))) {
            lease = self.call(|mut c| async move { c.lease_grant(LEASE_SECS, None).await }).await?.id();
        }
        let compares: Vec<_> = t.conditions.into_iter().map(compare).collect();
        let changes: Vec<_> = t.changes.into_iter().map(|c| operation(c, lease)).collect();
        let txn = Txn::new().when(compares).and_then(changes);
        let done = self.call(|mut c| async move { c.txn(txn).await }).await?;
        Ok(if done.succeeded() {
            Outcome::Committed(revision(header(done.header())))
        } else {
            Outcome::ConditionFailed
        })
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Entry>, CfError> {
        Ok(self.range(prefix, after, None).await?.0)
    }

    async fn watch(&self, prefix: &str) -> Result<Watch, CfError> {
        let (watched, watch) = Watch::new();
        let (all, revision) = self.everything(prefix).await?;
        let stream = self.stream(prefix, revision + 1).await?;
        let task = Watching { etcd: self.clone(), prefix: prefix.to_owned(), watched };
        tokio::spawn(async move {
            if let Err(e) = task.run(all, stream).await {
                // Nobody looks any more, perhaps.
                let _ = task.watched.send(Err(e)).await;
            }
        });
        Ok(watch)
    }
}

/// One watch.
struct Watching {
    etcd: Etcd,
    prefix: String,
    watched: Watched,
}

impl Watching {
    /// Tells `all`, then what comes by `stream`; begins again when etcd has forgotten what comes next.
    async fn run(&self, mut all: Vec<Entry>, mut stream: WatchStream) -> Result<(), CfError> {
        loop {
            if self.watched.send(Ok(Seen::All(all))).await.is_err() {
                return Ok(());
            }
            if self.tell(stream).await?.is_none() {
                return Ok(());
            }
            let revision;
            (all, revision) = self.etcd.everything(&self.prefix).await?;
            stream = self.etcd.stream(&self.prefix, revision + 1).await?;
        }
    }

    /// `Some`: etcd ended the watch, because what it was to tell next is compacted. `None`: nobody looks any more.
    async fn tell(&self, mut stream: WatchStream) -> Result<Option<()>, CfError> {
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.watched.closed() => return Ok(None),
            };
            let lost = |why: String| CfError::Store(format!("etcd watch: {why}"));
            let message = message.map_err(|e| lost(reasons(&e)))?.ok_or_else(|| lost("ended".into()))?;
            for event in message.events() {
                let Some((kv, key)) =
                    event.kv().and_then(|kv| Some((kv, String::from_utf8(kv.key().to_vec()).ok()?)))
                else {
                    continue;
                };
                let revision = revision(kv.mod_revision());
                // A removed key has no version.
                let seen = match kv.version() {
                    0 => Seen::Removed { key, revision },
                    _ => Seen::Put(Entry { key, value: kv.value().to_vec(), revision }),
                };
                if self.watched.send(Ok(seen)).await.is_err() {
                    return Ok(None);
                }
            }
            if message.canceled() && message.compact_revision() > 0 {
                return Ok(Some(()));
            }
            if message.canceled() {
                return Err(lost(message.cancel_reason().into()));
            }
        }
    }
}

fn compare(condition: Condition) -> Compare {
    match condition {
        Condition::Value(key, value) => Compare::value(key, CompareOp::Equal, value),
        // A key that does not exist has revision 0.
        Condition::Absent(key) => Compare::mod_revision(key, CompareOp::Equal, 0),
        Condition::Revision(key, revision) => {
            Compare::mod_revision(key, CompareOp::Equal, i64::try_from(revision.0).unwrap_or(i64::MAX))
        }
    }
}

fn operation(change: Change, lease: i64) -> TxnOp {
    match change {
        Change::Put(key, value) => TxnOp::put(key, value, None),
        Change::PutLeased(key, value) => TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease))),
        Change::Remove(key) => TxnOp::delete(key, None),
    }
}

/// The first key behind all that begin with `prefix`; empty prefixes are not used.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // Text never has the octet 255.
        *last += 1;
    }
    end
}

fn entries(got: &GetResponse) -> Vec<Entry> {
    let entry = |kv: &KeyValue| {
        // A key that is no text is nobody's record.
        let key = String::from_utf8(kv.key().to_vec()).ok()?;
        Some(Entry { key, value: kv.value().to_vec(), revision: revision(kv.mod_revision()) })
    };
    got.kvs().iter().filter_map(entry).collect()
}

fn revision(n: i64) -> Revision {
    Revision(u64::try_from(n).unwrap_or(0))
}

fn header(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.map_or(0, etcd_client::ResponseHeader::revision)
}

fn is_too_large(e: &Error) -> bool {
    matches!(e, Error::GRpcStatus(status) if status.code() as i32 == OUT_OF_RANGE)
}

/// Whether etcd itself said so, not the way to it.
fn is_answer(e: &Error) -> bool {
    match e {
        // Transport errors have a source; what came over the wire has none.
        Error::GRpcStatus(status) => std::error::Error::source(status).is_none(),
        _ => false,
    }
}

/// An error with what lies under it: "transport error" alone helps nobody.
fn reasons(e: &Error) -> String {
    let (mut text, mut source): (String, Option<&(dyn std::error::Error + 'static)>) = match e {
        Error::GRpcStatus(status) => (status.message().to_owned(), std::error::Error::source(status)),
        Error::TransportError(t) => (t.to_string(), std::error::Error::source(t)),
        e => (e.to_string(), None),
    };
    while let Some(e) = source {
        let next = e.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = e.source();
    }
    text.escape_debug().to_string()
}

fn read(path: &Path) -> Result<String, EtcdError> {
    use std::io::Read;
    let failed = |reason: String| EtcdError::File { path: path.into(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
    file.take(MAX_PEM + 1).read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    if text.len() as u64 > MAX_PEM || !text.contains("-----BEGIN") {
        return Err(failed("expected certificates in PEM".into()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::suite::etcd::Server;
    use super::super::suite::{put, unconditional};
    use super::*;

    /// etcd forgets its history while a watch is behind: everything is read again, and nothing after it is missed.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn t48_a_watch_survives_compaction() {
        let Some(server) = Server::plain().await else { return };
        let etcd = server.facility();
        let mut newest = 0;
        for n in 0..20u8 {
            let done = etcd.commit(unconditional(vec![put("/w/a", &[n])])).await.unwrap();
            let Outcome::Committed(revision) = done else { panic!() };
            newest = i64::try_from(revision.0).unwrap();
        }
        etcd.call(|mut c| async move { c.compact(newest, None).await }).await.unwrap();
        // As a watcher that was cut off at revision 2 and comes back.
        let stream = etcd.stream("/w/", 2).await.unwrap();
        let (watched, mut watch) = Watch::new();
        let task = Watching { etcd: etcd.clone(), prefix: "/w/".into(), watched };
        tokio::spawn(async move { task.run(vec![], stream).await });
        assert_eq!(watch.next().await, Ok(Seen::All(vec![])));
        let Ok(Seen::All(again)) = watch.next().await else { panic!() };
        assert_eq!(again.iter().map(|e| e.value[0]).collect::<Vec<_>>(), [19]);
        etcd.commit(unconditional(vec![put("/w/b", b"")])).await.unwrap();
        let Ok(Seen::Put(entry)) = watch.next().await else { panic!() };
        assert_eq!(entry.key, "/w/b");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn t49_values_that_are_larger_than_an_answer_may_be_do_not_hide_the_others() {
        let Some(server) = Server::plain().await else { return };
        let etcd = server.facility();
        etcd.commit(unconditional(vec![put("/h/a", b"good"), put("/h/z", b"good")])).await.unwrap();
        for n in 0..9 {
            let key = format!("/h/huge{n}");
            // Past our own bounds, as somebody hostile would.
            etcd.call(|mut c| async move { c.put(key, vec![7; 1_000_000], None).await }).await.unwrap();
        }
        let (mut keys, mut after): (Vec<String>, Option<String>) = (vec![], None);
        loop {
            let page = etcd.page("/h/", after.as_deref()).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            keys.extend(page.into_iter().map(|e| e.key));
        }
        assert_eq!(keys.len(), 11);
        assert!(
            matches!(etcd.watch("/h/").await.unwrap().next().await, Ok(Seen::All(all)) if all.len() == 11)
        );
    }

    #[test]
    fn the_key_behind_all_of_a_prefix() {
        assert_eq!(end_of("/a/"), b"/a0");
    }
}
