//! Replays the fuzz corpora: whatever a fuzzer once found stays found.

#[path = "../../fuzz/checks/control_frame.rs"]
mod control_frame;
#[path = "../../fuzz/checks/esp.rs"]
mod esp;
#[path = "../../fuzz/checks/gre.rs"]
mod gre;
#[path = "../../fuzz/checks/packet.rs"]
mod packet;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../fuzz/checks/stack_engine.rs"]
mod stack_engine;
#[path = "../../fuzz/checks/xcf.rs"]
mod xcf;

#[test]
fn packet_corpus() {
    replay::replay("packet", packet::check);
}

#[test]
fn esp_corpus() {
    replay::replay("esp", esp::check);
}

#[test]
fn gre_corpus() {
    replay::replay("gre", gre::check);
}

#[test]
fn control_frame_corpus() {
    replay::replay("control_frame", control_frame::check);
}

#[test]
fn stack_engine_corpus() {
    replay::replay("stack_engine", stack_engine::check);
}

#[test]
fn xcf_corpus() {
    replay::replay("xcf", xcf::check);
}
