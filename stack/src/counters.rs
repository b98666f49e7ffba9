//! Named reasons, and what is counted by them: one closed list and one array for each kind (threats R2: no counter, no drop).

use crate::control::DropView;
use std::marker::PhantomData;

/// One of a closed list of reasons.
pub trait Reason: Copy + 'static {
    /// Every reason, in the order of their numbers.
    const ALL: &'static [Self];
    /// Its number.
    fn number(self) -> usize;
    /// The stable name in `snake_case`: what users see.
    fn name(self) -> &'static str;
}

/// Makes an enum whose variants have names a [`Reason`].
macro_rules! reasons {
    ($(#[$of:meta])* $vis:vis enum $reason:ident { $($(#[$doc:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        $vis enum $reason {
            $($(#[$doc])* $variant,)*
        }

        impl $reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name in `snake_case`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl $crate::counters::Reason for $reason {
            const ALL: &'static [Self] = Self::ALL;
            fn number(self) -> usize {
                self as usize
            }
            fn name(self) -> &'static str {
                self.name()
            }
        }
    };
}
pub(crate) use reasons;

/// How often, by reason.
#[derive(Debug, Clone)]
pub struct Counters<R> {
    counts: Box<[u64]>,
    of: PhantomData<R>,
}

impl<R: Reason> Default for Counters<R> {
    fn default() -> Self {
        Self { counts: vec![0; R::ALL.len()].into_boxed_slice(), of: PhantomData }
    }
}

impl<R: Reason> Counters<R> {
    /// Counts one.
    pub fn count(&mut self, reason: R) {
        self.add(reason, 1);
    }

    /// Counts several at once.
    pub fn add(&mut self, reason: R, times: u64) {
        let slot = &mut self.counts[reason.number()];
        *slot = slot.saturating_add(times);
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, reason: R) -> u64 {
        self.counts[reason.number()]
    }

    /// The reasons that occurred.
    #[must_use]
    pub fn view(&self) -> Vec<DropView> {
        R::ALL
            .iter()
            .filter(|r| self.of(**r) > 0)
            .map(|r| DropView { reason: r.name().to_owned(), packets: self.of(*r) })
            .collect()
    }
}
