//! The key of the sysplex, which can be changed while the daemon runs.

use super::Core;
use crate::cf::keeper::Order;
use crate::cf::seal::SysplexKey;
use stack::control::KeyBytes;
use tracing::info;

impl Core {
    /// Puts another key in force: this system's records are sealed again under it, and its stacks seal with it what they say to
    /// others.
    pub fn change_key(&mut self, next: SysplexKey) {
        let Some(key) = &self.key else { return };
        key.replace(next);
        info!(
            "sysplex key changed: records of this system are sealed again under the first line of the key file"
        );
        self.order(Order::SealAgain);
        for index in 0..self.stacks.len() {
            self.configure(index, None);
        }
    }

    /// Keys of messages between stacks: they seal with the first and open with any.
    pub(super) fn xcf_keys(&self) -> Vec<KeyBytes> {
        let derived = self.key.iter().flat_map(|k| k.get().derive(b"xcf"));
        derived.map(|k| KeyBytes(k.to_vec())).collect()
    }
}
