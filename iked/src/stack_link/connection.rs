//! One connection to a stack: what is sent on it, and the questions that wait for their answers.

use nix::sys::signal::{Signal as NixSignal, kill};
use nix::unistd::Pid;
use stack::control::{Answer, Question, ToStack};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait for one stack; a stack that lets more pile up is reset.
const QUEUE: usize = 8192;
/// From this many free places on IKE datagrams are dropped, so that commands still fit. IKE repeats itself.
const RESERVE: usize = QUEUE / 2;
/// Questions to one stack that may be open.
const MAX_QUESTIONS: usize = 256;

/// The core's end of one connection.
#[derive(Debug, Clone)]
pub struct Connection {
    to: mpsc::Sender<ToStack>,
    /// The process at its other end.
    pub(super) process: Option<Pid>,
    questions: Arc<Mutex<Questions>>,
}

#[derive(Debug, Default)]
struct Questions {
    next: u64,
    open: BTreeMap<u64, oneshot::Sender<Answer>>,
}

/// The stack does not take messages: the connection is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stack does not take messages")]
pub struct Stuck;

impl Connection {
    /// A connection, and the end at which what was sent comes out and answers go in.
    #[must_use]
    pub fn pair() -> (Self, ConnectionEnd) {
        let (to, from_core) = mpsc::channel(QUEUE);
        let questions = Arc::<Mutex<Questions>>::default();
        let this = Self { to, process: None, questions: Arc::clone(&questions) };
        (this, ConnectionEnd { from_core, answers: Answers(questions) })
    }

    /// Queues a command, which must not be lost.
    ///
    /// # Errors
    /// The queue is full: drop the connection, the next one begins from the desired state again.
    pub fn send(&self, message: ToStack) -> Result<(), Stuck> {
        match self.to.try_send(message) {
            // Closed: the link has seen the end and says Down soon.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Stuck),
        }
    }

    /// Ends the process at the other end, which does not do what it must. While the connection stands the number is
    /// that process's.
    pub fn kill(&self) {
        if let Some(process) = self.process {
            // It may have ended by itself.
            let _ = kill(process, NixSignal::SIGKILL);
        }
    }

    /// Queues a datagram, which may be lost as on any network.
    pub fn send_datagram(&self, message: ToStack) {
        if self.to.capacity() > RESERVE {
            // Closed is as good as lost.
            let _ = self.to.try_send(message);
        }
    }

    /// Asks the stack. The receiver fails when the connection ends or too many questions are open.
    #[must_use]
    pub fn ask(&self, question: Question) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut q = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            q.open.retain(|_, waiting| !waiting.is_closed());
            if q.open.len() >= MAX_QUESTIONS {
                return answer;
            }
            q.next += 1;
            let id = q.next;
            q.open.insert(id, reply);
            id
        };
        if self.to.try_send(ToStack::Ask { id, question }).is_err() {
            self.questions.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&id);
        }
        answer
    }
}

/// The link's end of a [`Connection`].
#[derive(Debug)]
pub struct ConnectionEnd {
    /// What the core sends; ends when the core dropped the connection.
    pub from_core: mpsc::Receiver<ToStack>,
    /// Where answers go.
    pub answers: Answers,
}

/// The questions of one connection that wait for their answers.
#[derive(Debug)]
pub struct Answers(Arc<Mutex<Questions>>);

impl Answers {
    /// Gives an answer to whoever asked. Answers that nobody waits for any more are dropped.
    pub fn give(&self, id: u64, answer: Answer) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_datagrams_first_and_then_says_stuck() {
        let (c, mut end) = Connection::pair();
        let datagram = || ToStack::AcquireFailed { id: 0 };
        for _ in 0..QUEUE {
            c.send_datagram(datagram());
        }
        let mut kept = 0;
        while end.from_core.try_recv().is_ok() {
            kept += 1;
        }
        assert_eq!(kept, QUEUE - RESERVE);
        for _ in 0..QUEUE {
            c.send(datagram()).unwrap();
        }
        assert_eq!(c.send(datagram()), Err(Stuck));
    }
}
