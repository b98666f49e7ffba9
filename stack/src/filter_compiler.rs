//! Compiles filter tables beside the packet path: a thread of its own, because a large table takes longer than the
//! sockets' buffers hold packets. The worker is given the finished table and exchanges it between two batches.
//!
//! ```text
//!   control thread ── SetFilters, questions about filters ──► compiler ── Command::Filters, questions ──► worker
//!                                                                ▲                                         │
//!                                                                └──────── the table before, to drop ◄─────┘
//! ```
//!
//! Questions about filters go the same way, so that they are answered from the table that was sent before them.

use crate::control::{FilterSet, ToStack};
use crate::engine::filter::Table;
use crate::worker::{Command, WorkerHandle};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A table that was exchanged for another one.
#[derive(Debug)]
pub struct Exchanged {
    /// The one before. It is dropped where nobody waits: that of many rules takes its time.
    pub before: Arc<Table>,
    /// How long the packet path was kept.
    pub took: Duration,
}

/// The compiler's thread, as the control thread sees it.
#[derive(Debug)]
pub struct Compiler {
    jobs: mpsc::Sender<ToStack>,
}

impl Compiler {
    /// Starts it.
    ///
    /// # Errors
    /// When the process is out of threads.
    pub fn start(worker: WorkerHandle) -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel();
        std::thread::Builder::new().name("filters".into()).spawn(move || {
            let mut current = Arc::new(Table::default());
            while let Ok(job) = jobs.recv() {
                let sent = match job {
                    ToStack::SetFilters(set) => match compile(*set, &worker, &current) {
                        Some(table) => {
                            current = table;
                            true
                        }
                        None => false,
                    },
                    other => worker.send(Command::Message(other)),
                };
                if !sent {
                    // The worker has ended, and says so itself.
                    return;
                }
            }
        })?;
        Ok(Self { jobs: sender })
    }

    /// Whether a message goes this way.
    #[must_use]
    pub fn takes(message: &ToStack) -> bool {
        use crate::control::Question::{Filters, Summary, Test};
        matches!(message, ToStack::SetFilters(_) | ToStack::Ask { question: Filters | Summary | Test(_), .. })
    }

    /// Gives it a message that it [takes](Compiler::takes). False when the worker has ended.
    #[must_use]
    pub fn send(&self, message: ToStack) -> bool {
        self.jobs.send(message).is_ok()
    }
}

/// Compiles a table, puts it in force and waits until it is. `None`: the worker has ended.
#[expect(clippy::disallowed_methods, reason = "how long it took is told to people")]
fn compile(set: FilterSet, worker: &WorkerHandle, before: &Table) -> Option<Arc<Table>> {
    let start = Instant::now();
    let table = Arc::new(Table::new(set, before));
    let compiled = start.elapsed();
    let (done, exchanged) = mpsc::channel();
    if !worker.send(Command::Filters { table: Arc::clone(&table), done }) {
        return None;
    }
    let Exchanged { before, took } = exchanged.recv().ok()?;
    tracing::info!(
        rules = table.rules().len(),
        epoch = table.epoch(),
        before = before.rules().len(),
        "filters in force: compiled in {:.1} ms beside the packet path, exchanged in {:.3} ms",
        compiled.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3
    );
    Some(table)
}
