//! Tests of the coupling facility, each run for every store: in memory, sled and, with the feature, etcd.

#[cfg(feature = "etcd")]
pub(super) mod etcd;
mod fence;
mod store;

use super::memory::Memory;
use super::sled::Embedded;
use super::{Change, CouplingFacility, Transaction};

/// A store for one test.
pub(super) trait Store: Sized {
    /// How it is reached.
    type Facility: CouplingFacility;

    /// An empty one; `None`, and a line that says so, if it is not installed here.
    async fn new() -> Option<Self>;

    /// A way to it; all lead to the same store.
    fn facility(&self) -> Self::Facility;
}

pub(super) struct InMemory(Memory);

impl Store for InMemory {
    type Facility = Memory;

    async fn new() -> Option<Self> {
        Some(Self(Memory::new()))
    }

    fn facility(&self) -> Memory {
        self.0.host()
    }
}

pub(super) struct OnDisk {
    _dir: tempfile::TempDir,
    cf: Embedded,
}

impl Store for OnDisk {
    type Facility = Embedded;

    async fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(&dir.path().join("cf")).unwrap();
        Some(Self { _dir: dir, cf })
    }

    fn facility(&self) -> Embedded {
        self.cf.clone()
    }
}

/// Makes a test of each function for each store.
macro_rules! for_every_store {
    ($($test:ident),* $(,)?) => {
        for_every_store!(@memory crate::cf::suite::InMemory: $($test),*);
        for_every_store!(@sled crate::cf::suite::OnDisk: $($test),*);
        #[cfg(feature = "etcd")]
        for_every_store!(@etcd crate::cf::suite::etcd::Server: $($test),*);
    };
    (@$name:ident $store:ty: $($test:ident),*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(store) = <$store as crate::cf::suite::Store>::new().await {
                        super::$test(store).await;
                    }
                }
            )*
        }
    };
}
use for_every_store;

pub(super) fn put(key: &str, value: &[u8]) -> Change {
    Change::Put(key.into(), value.into())
}

pub(super) fn unconditional(changes: Vec<Change>) -> Transaction {
    Transaction { conditions: vec![], changes }
}
