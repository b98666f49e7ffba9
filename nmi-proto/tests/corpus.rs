//! Replays the fuzz corpora: whatever a fuzzer once found stays found.

#[path = "../../fuzz/checks/nmi_message.rs"]
mod nmi_message;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;

#[test]
fn nmi_message_corpus() {
    replay::replay("nmi_message", nmi_message::check);
}
