//! Tests of the coupling facility, each run for every store: in memory, sled and, with the feature, etcd.

mod fence;
mod store;

use super::memory::Memory;
use super::sled::Embedded;
use super::{Change, CouplingFacility, Transaction};

/// A store for one test.
pub(super) trait Store: Sized {
    /// How it is reached.
    type Facility: CouplingFacility;

    /// An empty one.
    async fn new() -> Self;

    /// A way to it; all lead to the same store.
    fn facility(&self) -> Self::Facility;
}

pub(super) struct InMemory(Memory);

impl Store for InMemory {
    type Facility = Memory;

    async fn new() -> Self {
        Self(Memory::new())
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

    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cf = Embedded::open(&dir.path().join("cf")).unwrap();
        Self { _dir: dir, cf }
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
    };
    (@$name:ident $store:ty: $($test:ident),*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(<$store as crate::cf::suite::Store>::new().await).await;
                }
            )*
        }
    };
}
use for_every_store;

fn put(key: &str, value: &[u8]) -> Change {
    Change::Put(key.into(), value.into())
}

fn unconditional(changes: Vec<Change>) -> Transaction {
    Transaction { conditions: vec![], changes }
}
