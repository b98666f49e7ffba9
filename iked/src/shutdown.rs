//! The end in good order: peers have been told, now the stacks undo what they did to the system, the clients are
//! told, and the coupling facility writes its last records. Each step has its own limit; none can hold the end up.

use crate::core::Core;
use crate::shell::Inputs;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long stacks of other systems may take to take DVIPAs over.
pub(crate) const HAND_OVER_TIME: Duration = Duration::from_secs(1);
/// How long peers may take to answer Deletes.
pub(crate) const PEER_TIME: Duration = Duration::from_secs(3);
/// How long all tasks may take to end; longer than a stack may.
const TASK_TIME: Duration = Duration::from_secs(8);

/// Ends everything that the core task drove. Events that still come are taken and dropped, so that no task waits
/// for the core.
pub(crate) async fn end(
    mut core: Core,
    mut inputs: Inputs,
    stop_links: CancellationToken,
    tasks: TaskTracker,
) {
    inputs.management.stop();
    stop_links.cancel();
    core.end_stacks();
    // The keeper ends when its last sender does; it tries once more to write what is left.
    drop(core);
    tasks.close();
    let drained = async {
        loop {
            tokio::select! {
                Some(_) = inputs.links.recv() => {}
                Some(_) = inputs.requests.recv() => {}
                Some(_) = inputs.reports.recv() => {}
                Some(_) = inputs.internal.recv() => {}
                else => break,
            }
        }
    };
    tokio::select! {
        () = tasks.wait() => {}
        () = async { drained.await; tasks.wait().await } => {}
        () = tokio::time::sleep(TASK_TIME) => warn!("some tasks did not end in {} s", TASK_TIME.as_secs()),
    }
}
