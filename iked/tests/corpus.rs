//! Replays the fuzz corpora: whatever a fuzzer once found stays found.

#[path = "../../fuzz/checks/ike_engine.rs"]
mod ike_engine;
#[path = "../../fuzz/checks/ike_message.rs"]
mod ike_message;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;

#[test]
fn ike_message_corpus() {
    replay::replay("ike_message", ike_message::check);
}

#[test]
fn ike_engine_corpus() {
    replay::replay("ike_engine", ike_engine::check);
}
