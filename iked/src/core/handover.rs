//! A planned move of a DVIPA that continues: what its old owner has accepted on each SA goes to the new one, which accepts
//! on from there at once.
//!
//! ```text
//!  old owner: Configure (Moving: it accepts nothing any more) ─► its SAs' windows ─► they go ─► "given up"
//!  new owner: the windows, then "given up" ─► the same SAs, with these windows ─► Configure (Owner): it accepts on
//! ```
//!
//! Windows count for the owner of the next epoch only: whatever else there is of them, nobody owned the address between.

use super::{Core, Internal, Now};
use crate::config::Name;
use crate::ike::types::{Continued, ReplayState};
use crate::stack_link::StackIndex;
use crate::takeover::Input;
use crate::takeover::wire::{Frame, RECORDS, Window, Windows};
use stack::control::{Answer, Question, SaView};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::debug;

/// How long a stack may take to say where its SAs stand; without that they go on as after a failure.
const ANSWER: Duration = Duration::from_millis(300);
/// How long a new owner waits for the coupling facility to raise its ceiling. Packets are held by the stacks for longer.
const RESERVATION: Duration = Duration::from_millis(50);
/// Windows of one DVIPA that are taken from another system.
const WINDOWS: usize = 1 << 17;
/// Words of one window that are taken from another system: far more than any stack keeps.
const WORDS: usize = 1 << 10;

/// Planned moves under way.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    /// Old owners of this system that have been told to stop: their stack and epoch.
    leaving: BTreeMap<IpAddr, (StackIndex, u64)>,
    /// What old owners have accepted, by inbound SPI, and the epoch in which they were owners.
    windows: BTreeMap<IpAddr, (u64, BTreeMap<u32, Window>)>,
    /// New owners of this system whose numbers are not reserved yet.
    reserving: BTreeMap<IpAddr, Reserving>,
}

/// A new owner that could send nothing: what came to it would be dropped, and so it is none yet.
#[derive(Debug)]
struct Reserving {
    stack: Name,
    epoch: u64,
    again: bool,
    /// When it becomes owner all the same.
    until: Instant,
}

impl Handovers {
    /// Whether a new owner waits for its numbers.
    pub(super) fn is_reserving(&self, dvipa: IpAddr) -> bool {
        self.reserving.contains_key(&dvipa)
    }

    /// When the first of them waits no longer.
    pub(super) fn next(&self) -> Option<Instant> {
        self.reserving.values().map(|r| r.until).min()
    }

    /// An owner stops.
    pub(super) fn leave(&mut self, dvipa: IpAddr, index: StackIndex, epoch: u64) {
        self.leaving.insert(dvipa, (index, epoch));
    }

    /// Windows from another system, in parts.
    pub(super) fn hear(&mut self, heard: Windows) {
        let Windows { dvipa, epoch, first, children } = heard;
        let (of, known) = self.windows.entry(dvipa).or_default();
        if first || *of != epoch {
            (*of, *known) = (epoch, BTreeMap::new());
        }
        let fits = |w: &Window| w.replay.seen.len() <= WORDS;
        let room = WINDOWS.saturating_sub(known.len());
        known.extend(children.into_iter().filter(fits).take(room).map(|w| (w.spi_in, w)));
    }

    /// Whether the owner before the one of `epoch` has handed over.
    pub(super) fn are_for(&self, dvipa: IpAddr, epoch: u64) -> bool {
        self.windows.get(&dvipa).is_some_and(|(of, _)| of.checked_add(1) == Some(epoch))
    }

    /// The windows of the owner before the one of `epoch`; older ones are of no use to anybody.
    pub(super) fn before(&mut self, dvipa: IpAddr, epoch: u64) -> Option<BTreeMap<u32, Window>> {
        let (of, windows) = self.windows.remove(&dvipa)?;
        (of.checked_add(1) == Some(epoch)).then_some(windows)
    }

    /// Windows for another system, as frames.
    pub(super) fn frames(&mut self, dvipa: IpAddr, epoch: u64) -> Vec<Frame> {
        let Some((_, windows)) = self.windows.remove(&dvipa).filter(|(of, _)| *of == epoch) else {
            return vec![];
        };
        let windows: Vec<Window> = windows.into_values().collect();
        let part = |(at, children): (usize, &[Window])| {
            Frame::Windows(Windows { dvipa, epoch, first: at == 0, children: children.to_vec() })
        };
        windows.chunks(RECORDS).enumerate().map(part).collect()
    }
}

/// Where a child goes on that its old owner has handed over: outbound above everything that one could have sent.
pub(super) fn goes_on(window: &Window, next_sequence: u64) -> Continued {
    let replay = ReplayState { highest: window.replay.highest, seen: window.replay.seen.clone() };
    Continued { next_sequence, replay: Some(replay), bytes: window.bytes }
}

impl Core {
    /// A stack is to speak for a DVIPA: at once, or, where SAs are handed over to it, as soon as it may send on them. Until then
    /// packets wait, as they do while nobody is the owner.
    pub(super) fn take_over_reserved(
        &mut self,
        now: Now,
        dvipa: IpAddr,
        stack: Name,
        epoch: u64,
        again: bool,
    ) {
        let recorded = self.takeovers.machine.view(dvipa, now.boot).and_then(|v| v.recorded) == Some(true);
        let waits = recorded && self.handovers.are_for(dvipa, epoch) && !self.has_reserved(dvipa, epoch);
        if !waits {
            self.handovers.reserving.remove(&dvipa);
            return self.take_over(now, dvipa, &stack, epoch, again);
        }
        let until = now.instant + RESERVATION;
        self.handovers.reserving.insert(dvipa, Reserving { stack, epoch, again, until });
    }

    /// The numbers of a new owner are reserved, or it waits no longer.
    pub(super) fn reserved(&mut self, now: Now, dvipa: IpAddr) {
        let Some(Reserving { stack, epoch, again, .. }) = self.handovers.reserving.remove(&dvipa) else {
            return;
        };
        if self.takeovers.machine.serving(dvipa) == Some((&stack, epoch)) {
            self.take_over(now, dvipa, &stack, epoch, again);
        }
    }

    /// New owners wait no longer for the coupling facility.
    pub(super) fn reserve_no_longer(&mut self, now: Now) {
        let over: Vec<IpAddr> = self
            .handovers
            .reserving
            .iter()
            .filter(|(_, r)| r.until <= now.instant)
            .map(|(d, _)| *d)
            .collect();
        for dvipa in over {
            self.reserved(now, dvipa);
        }
    }

    /// A stack has the configuration for which `input` waited.
    pub(super) fn configured_for(&mut self, now: Now, index: StackIndex, input: Input) {
        if let Input::GaveUp { dvipa, .. } = &input
            && let Some((leaving, epoch)) = self.handovers.leaving.get(dvipa)
            && *leaving == index
        {
            return self.ask_windows(index, *dvipa, *epoch);
        }
        self.takeover(now, input);
    }

    /// The stack accepts nothing any more: what it has accepted is what it will have.
    fn ask_windows(&self, index: StackIndex, dvipa: IpAddr, epoch: u64) {
        let answer = self.stacks[index].link.as_ref().map(|link| link.ask(Question::Sas));
        let internal = self.internal.clone();
        tokio::spawn(async move {
            let sas = match answer {
                Some(answer) => match tokio::time::timeout(ANSWER, answer).await {
                    Ok(Ok(Answer::Sas(sas))) => sas,
                    _ => vec![],
                },
                None => vec![],
            };
            let _ = internal.send(Internal::Left { index, dvipa, epoch, sas }).await;
        });
    }

    /// An old owner of this system has said where its SAs stand.
    pub(super) fn left_with(
        &mut self,
        now: Now,
        index: StackIndex,
        dvipa: IpAddr,
        epoch: u64,
        sas: Vec<SaView>,
    ) {
        if self.handovers.leaving.get(&dvipa) != Some(&(index, epoch)) {
            return;
        }
        let stack = &self.stacks[index];
        let name = stack.entry.name.clone();
        let children = stack.engine.children().into_iter().filter(|c| c.local.ip() == dvipa);
        let of_dvipa: HashSet<u32> = children.map(|c| c.spi_in).collect();
        let window = |sa: SaView| {
            let bytes = sa.in_bytes.max(sa.out_bytes);
            sa.replay.map(|replay| (sa.spi_in, Window { spi_in: sa.spi_in, bytes, replay }))
        };
        let windows: BTreeMap<_, _> =
            sas.into_iter().filter(|sa| of_dvipa.contains(&sa.spi_in)).filter_map(window).collect();
        debug!(%dvipa, epoch, windows = windows.len(), "handed over");
        self.handovers.windows.insert(dvipa, (epoch, windows));
        self.end_leaving(now, dvipa);
        self.takeover(now, Input::GaveUp { dvipa, stack: name });
    }

    /// An old owner's SAs go.
    pub(super) fn end_leaving(&mut self, now: Now, dvipa: IpAddr) {
        if let Some((index, _)) = self.handovers.leaving.remove(&dvipa) {
            self.forget(now, index, dvipa);
        }
    }

    /// The process of an old owner has ended before it said anything.
    pub(super) fn leaving_gone(&mut self, now: Now, index: StackIndex) {
        let of_stack = self.handovers.leaving.iter().filter(|(_, (i, _))| *i == index);
        for dvipa in of_stack.map(|(dvipa, _)| *dvipa).collect::<Vec<_>>() {
            self.end_leaving(now, dvipa);
        }
    }

    /// Windows that another system's stack hands over.
    pub(super) fn hear_windows(&mut self, from: &Name, windows: Windows) {
        if self.config.dvipas.iter().any(|d| d.address == windows.dvipa) {
            debug!(dvipa = %windows.dvipa, %from, epoch = windows.epoch, windows = windows.children.len(), "handed over");
            self.handovers.hear(windows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::control::ReplaySnapshot;

    fn window(spi_in: u32, words: usize) -> Window {
        Window { spi_in, bytes: 1, replay: ReplaySnapshot { highest: 9, seen: vec![1; words] } }
    }

    fn dvipa() -> IpAddr {
        "203.0.113.10".parse().unwrap()
    }

    #[test]
    fn t49_windows_count_for_the_next_owner_only_and_once() {
        let mut h = Handovers::default();
        let windows = || Windows { dvipa: dvipa(), epoch: 4, first: true, children: vec![window(1000, 2)] };
        h.hear(windows());
        assert!(h.before(dvipa(), 6).is_none(), "somebody else was owner since");
        h.hear(windows());
        assert!(h.before(dvipa(), 4).is_none(), "of the same epoch");
        h.hear(windows());
        assert_eq!(h.before(dvipa(), 5).unwrap().len(), 1);
        assert!(h.before(dvipa(), 5).is_none());
        h.hear(Windows { epoch: u64::MAX, ..windows() });
        assert!(h.before(dvipa(), 0).is_none());
    }

    #[test]
    fn t49_windows_that_no_stack_could_have_are_left_out() {
        let mut h = Handovers::default();
        let children = vec![window(1000, WORDS + 1), window(1001, WORDS)];
        h.hear(Windows { dvipa: dvipa(), epoch: 4, first: true, children });
        assert_eq!(h.before(dvipa(), 5).unwrap().into_keys().collect::<Vec<_>>(), [1001]);
    }

    #[test]
    fn what_goes_out_in_parts_comes_in_whole() {
        let mut from = Handovers::default();
        let all: BTreeMap<u32, Window> = (1000..1200).map(|spi| (spi, window(spi, 16))).collect();
        from.windows.insert(dvipa(), (7, all.clone()));
        let mut to = Handovers::default();
        to.hear(Windows { dvipa: dvipa(), epoch: 7, first: true, children: vec![window(5, 1)] });
        let frames = from.frames(dvipa(), 7);
        assert!(frames.len() > 1);
        for frame in frames {
            match Frame::decode(&frame.encode()) {
                Ok(Frame::Windows(windows)) => to.hear(windows),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(to.before(dvipa(), 8), Some(all));
        assert!(from.frames(dvipa(), 7).is_empty(), "once");
    }
}
