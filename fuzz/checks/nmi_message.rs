//! A stream on the management socket, seen by the server and by a client.

use nmi_proto::answer::Message;
use nmi_proto::check::Request;
use nmi_proto::codec::Decoder;
use nmi_proto::display;
use nmi_proto::header::MessageHeader;
use nmi_proto::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};

pub(crate) fn check(data: &[u8]) {
    server(data);
    client(data);
}

fn server(data: &[u8]) {
    let mut decoder = Decoder::new(MAX_REQUEST_BYTES);
    decoder.push(data);
    while let Ok(Some(frame)) = decoder.next_frame() {
        let _ = MessageHeader::read_lenient(frame.bytes());
        match Request::check(&frame) {
            Ok(request) => {
                let _ = (request.target(), request.body());
            }
            Err(fault) => {
                let _ = fault.to_string();
            }
        }
    }
}

fn client(data: &[u8]) {
    let mut decoder = Decoder::new(MAX_ANSWER_BYTES);
    decoder.push(data);
    while let Ok(Some(frame)) = decoder.next_frame() {
        let Ok(message) = Message::read(frame) else { continue };
        let _ = message.refusal();
        let _ = message.parse::<display::StackRecord>();
        let _ = message.parse::<display::Statistics>();
        let _ = message.parse::<display::FilterRecord>();
        let _ = message.parse::<display::PortTranslation>();
        let _ = message.parse::<display::ManualRecord>();
        let _ = message.parse::<display::DynStackRecord>();
        let _ = message.parse::<display::DynIkeRecord>();
        let _ = message.parse::<display::IkeRecord>();
        let _ = message.parse::<display::Interface>();
        let _ = message.parse::<display::Nss>();
        let _ = message.parse::<display::DropCount>();
        let _ = message.parse::<display::Distribution>();
    }
}
