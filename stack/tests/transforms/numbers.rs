//! Sequence numbers of an SA that goes from owner to owner (T26): whatever happens, none is on the wire twice.

use crate::common::pair;
use proptest::prelude::*;
use stack::control::{Continued, EspSuite, ReplaySnapshot, SaPair};
use stack::engine::ceiling::Ceiling;
use stack::engine::esp;
use stack::engine::sad::{NoNumber, SaHandle, Sad};
use std::collections::HashSet;
use std::sync::Arc;

const GCM: EspSuite = EspSuite::AesGcm16 { key_bits: 128 };
/// How far a ceiling is raised at a time.
const STEP: u64 = 30;

/// A stack that is, or was, owner.
struct Owner {
    sad: Sad,
    handle: SaHandle,
    ceiling: Arc<Ceiling>,
}

impl Owner {
    fn new(continued: Option<Continued>) -> Self {
        let mut sad = Sad::new(1);
        let p = SaPair { ceiling_of: Some("192.0.2.1".parse().unwrap()), continued, ..pair(GCM) };
        let handle = sad.install(p).unwrap();
        let ceiling = Arc::new(Ceiling::default());
        sad.get_mut(handle).unwrap().share_ceiling(ceiling.clone());
        Self { sad, handle, ceiling }
    }

    /// The number of one packet, if it may be sent.
    fn send(&mut self) -> Result<u32, NoNumber> {
        let (mut arena, mut notices) = (vec![], vec![]);
        let sa = self.sad.get_mut(self.handle).unwrap();
        let range = esp::seal(sa, &[0x45; 20], &[], &mut arena, &mut notices)?;
        Ok(u32::from_be_bytes(arena[range][4..8].try_into().unwrap()))
    }

    fn next(&self) -> u64 {
        self.sad.get(self.handle).unwrap().sequence_numbers().0
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Some owner, maybe one that was stopped for long and does not know that it is over, sends.
    Send { owner: usize, packets: u8 },
    /// The owner raises the ceiling in the coupling facility; the answer may get lost.
    Raise { answered: bool },
    /// The owner fails, or seems to: it may go on sending.
    Failure,
    /// The owner gives up in an orderly way.
    Move,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..8, 1u8..40).prop_map(|(owner, packets)| Step::Send { owner, packets }),
        3 => any::<bool>().prop_map(|answered| Step::Raise { answered }),
        1 => Just(Step::Failure),
        1 => Just(Step::Move),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn t26_over_failures_moves_and_raises_no_number_is_sent_twice(steps in steps()) {
        let mut owners = vec![Owner::new(None)];
        let mut stored = 0;
        let mut sent = HashSet::new();
        for step in steps {
            let current = owners.len() - 1;
            match step {
                Step::Send { owner, packets } => {
                    let owner = owner.min(current);
                    for _ in 0..packets {
                        match owners[owner].send() {
                            Ok(n) => {
                                prop_assert!(sent.insert(n), "{} twice", n);
                                prop_assert!(u64::from(n) <= stored, "{} above the ceiling {}", n, stored);
                            }
                            Err(e) => {
                                prop_assert_eq!(e, NoNumber::Ceiling);
                                break;
                            }
                        }
                    }
                }
                Step::Raise { answered } => {
                    stored += STEP;
                    if answered {
                        owners[current].ceiling.set(stored);
                    }
                }
                Step::Failure => {
                    let continued = Continued { next_sequence: stored + 1, replay: None };
                    owners.push(Owner::new(Some(continued)));
                }
                Step::Move => {
                    // It stops first, then says where it is.
                    owners[current].ceiling.set(0);
                    let replay = Some(ReplaySnapshot { highest: 0, seen: vec![] });
                    let continued = Continued { next_sequence: owners[current].next(), replay };
                    owners.push(Owner::new(Some(continued)));
                    owners[current + 1].ceiling.set(stored);
                }
            }
        }
    }
}

#[test]
fn t26_a_pair_with_a_ceiling_sends_nothing_before_it_is_told() {
    let mut o = Owner::new(None);
    assert_eq!(o.send(), Err(NoNumber::Ceiling));
    o.ceiling.set(2);
    assert_eq!([o.send(), o.send(), o.send()], [Ok(1), Ok(2), Err(NoNumber::Ceiling)]);
    assert!(o.sad.get(o.handle).unwrap().take_ceiling_wish().is_some());
    // Nor one of which nobody but the pair itself knows that it has one.
    let mut sad = Sad::new(1);
    let p = SaPair { ceiling_of: Some("192.0.2.1".parse().unwrap()), ..pair(GCM) };
    let handle = sad.install(p).unwrap();
    let sealed = esp::seal(sad.get_mut(handle).unwrap(), &[0x45; 20], &[], &mut vec![], &mut vec![]);
    assert_eq!(sealed, Err(NoNumber::Ceiling));
}

#[test]
fn t49_numbers_of_nonsense_from_a_record_only_end_the_sa() {
    let last = u64::from(u32::MAX);
    for next_sequence in [0, last, last + 1, u64::MAX] {
        let mut o = Owner::new(Some(Continued { next_sequence, replay: None }));
        o.ceiling.set(u64::MAX);
        let sent = o.send();
        match next_sequence {
            0 => assert_eq!(sent, Ok(1)),
            n if n == last => assert_eq!(sent, Ok(u32::MAX)),
            _ => assert!(matches!(sent, Err(NoNumber::Expired(_))), "{next_sequence}: {sent:?}"),
        }
    }
}
