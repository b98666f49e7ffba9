//! One running scenario for all tests of a file.

use anyhow::Result;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A scenario that the first test makes, every test borrows in turn, and the last one that waits for it removes.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Weak<Mutex<Option<T>>>>);

impl<T> Shared<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// Runs `test` on the scenario, alone; after a test that failed, on a new one.
    ///
    /// # Errors
    /// When the scenario cannot be made, or the test's own.
    pub fn with(
        &self,
        make: impl FnOnce() -> Result<T>,
        test: impl FnOnce(&mut T) -> Result<()>,
    ) -> Result<()> {
        let slot = {
            let mut weak = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            weak.upgrade().unwrap_or_else(|| {
                let slot = Arc::new(Mutex::new(None));
                *weak = Arc::downgrade(&slot);
                slot
            })
        };
        let mut place = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: a test that fails or panics takes its scenario with it.
        let mut scenario = match place.take() {
            Some(scenario) => scenario,
            None => make()?,
        };
        test(&mut scenario)?;
        *place = Some(scenario);
        Ok(())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}
