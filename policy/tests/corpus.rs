//! Replays the fuzz corpora: whatever a fuzzer once found stays found.

#[path = "../../fuzz/checks/policy_text.rs"]
mod policy_text;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;

#[test]
fn policy_text_corpus() {
    replay::replay("policy_text", policy_text::check);
}
