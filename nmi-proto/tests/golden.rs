//! Golden bytes. `golden/NMsec*.txt` were made from the tables of the format by another program, with another IBM-1047
//! table (iconv's): each field with its value, then the structure's bytes in both code pages.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use nmi_proto::control::{LoadPolicy, Subscription, TestPacket, Tunnel, VipaControl};
use nmi_proto::display::{
    Authority, Backup, Caller, Defensive, DefensiveControl, Dist, Distribution, DropCount, Dvipa, Event,
    ExcludedAddress, IkeTunnel, IkeTunnelStats, Interface, IpDynTunnel, IpDynamicIke, IpDynamicStack,
    IpFilter, IpManualTunnel, IpTunnel, Nss, PortTranslation, Stack, Statistics, Takeover, TakeoverStepTime,
    Verdict, VipaTarget,
};
use nmi_proto::filter::InFilter;
use nmi_proto::layout::{Kind, Structure, Value};
use nmi_proto::text::CodePage;
use std::path::Path;

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Bytes of lines like `0000  d5d4a2d4 00000060`.
fn dump<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let digits: String = lines.flat_map(|l| l.split_whitespace().skip(1)).collect();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn show(value: Value) -> String {
    match value {
        Value::Bool(b) => u8::from(b).to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Text(t) => t,
        Value::Addr(a) => Value::Bytes(a.0.to_vec()).pipe(show),
        Value::Bytes(b) => b.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}
impl Pipe for Value {}

fn check<S: Structure + PartialEq + std::fmt::Debug>() {
    let text = golden(&format!("{}.txt", S::NAME));
    let expected: Vec<(&str, &str)> =
        text.lines().filter_map(|l| l.split_once(" = ")).map(|(n, v)| (n, v.trim_end())).collect();
    let section =
        |page: &str| dump(text.lines().skip_while(|l| *l != page).skip(1).take_while(|l| !l.is_empty()));
    let mut first: Option<S> = None;
    for (page, name) in [(CodePage::Ascii, "ascii"), (CodePage::Ibm1047, "ibm-1047")] {
        let bytes = section(name);
        assert_eq!(bytes.len(), S::SIZE, "{}", S::NAME);
        let value = S::read(&bytes, page).unwrap();
        let mut seen = Vec::new();
        value.visit(&mut |def, v| seen.push((def.name, show(v))));
        let seen: Vec<(&str, &str)> = seen.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(seen, expected, "{} in {name}", S::NAME);
        assert_eq!(value.to_bytes(page), bytes, "{} in {name}", S::NAME);
        assert_eq!(S::reserved_set(&bytes), None);

        // Longer: from a later version. Shorter: refused.
        let longer = [bytes.as_slice(), &[0xFF; 12]].concat();
        assert_eq!(S::read(&longer, page).unwrap(), value);
        assert!(S::read(&bytes[..S::SIZE - 1], page).is_err());
        // Each reserved row is noticed on its own.
        for field in S::FIELDS.iter().filter(|f| f.kind == Kind::Zero) {
            let mut set = bytes.clone();
            let last = field.offset * 8 + field.bit + field.bits - 1;
            set[last / 8] |= 0x80 >> (last % 8);
            assert_eq!(S::reserved_set(&set), Some(field));
        }
        match &first {
            None => first = Some(value),
            Some(first) => assert_eq!(first, &value, "the code page changes no value"),
        }
    }
}

#[test]
fn every_structure_has_its_golden_bytes() {
    check::<InFilter>();
    check::<Stack>();
    check::<ExcludedAddress>();
    check::<Statistics>();
    check::<IpFilter>();
    check::<PortTranslation>();
    check::<IpTunnel>();
    check::<IpManualTunnel>();
    check::<IpDynTunnel>();
    check::<IpDynamicStack>();
    check::<IpDynamicIke>();
    check::<IkeTunnel>();
    check::<IkeTunnelStats>();
    check::<Interface>();
    check::<Nss>();
    check::<Dist>();
    check::<DropCount>();
    check::<Distribution>();
    check::<Dvipa>();
    check::<Backup>();
    check::<VipaTarget>();
    check::<Takeover>();
    check::<TakeoverStepTime>();
    check::<Authority>();
    check::<Caller>();
    check::<Event>();
    check::<Tunnel>();
    check::<LoadPolicy>();
    check::<VipaControl>();
    check::<Subscription>();
    check::<Defensive>();
    check::<DefensiveControl>();
    check::<TestPacket>();
    check::<Verdict>();
}

/// The worked examples of `docs/nmi.md`, section 11.
mod examples {
    use super::{dump, golden};
    use nmi_proto::answer::{Message, input_record, request, with_records};
    use nmi_proto::check::{Body, Request};
    use nmi_proto::code::{MessageType, ReasonCode, ReturnCode};
    use nmi_proto::codec::{Decoder, Frame};
    use nmi_proto::display::{Record as _, Stack, StackRecord};
    use nmi_proto::filter::InFilter;
    use nmi_proto::header::MessageHeader;
    use nmi_proto::text::CodePage;
    use nmi_proto::value::Time;

    const NOW: Time = Time(0x6600_0000);

    fn bytes(name: &str) -> Vec<u8> {
        dump(golden(&format!("message-{name}.txt")).lines())
    }

    fn frame(bytes: &[u8]) -> Frame {
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert!(!decoder.is_partial());
        frame
    }

    #[test]
    fn init() {
        let expected = bytes("init_ebcdic");
        assert_eq!(MessageHeader::init(CodePage::Ibm1047, NOW).to_bytes().to_vec(), expected);
        let message = Message::read(frame(&expected)).unwrap();
        assert_eq!((message.header.message_type, message.header.version), (MessageType::INIT, 1));
        assert_eq!(message.refusal(), None);
    }

    #[test]
    fn term() {
        let h = MessageHeader::term(CodePage::Ibm1047, NOW, ReturnCode::EINVAL, ReasonCode::BAD_IDENT);
        assert_eq!(h.to_bytes().to_vec(), bytes("term_ebcdic"));
    }

    #[test]
    fn stackinfo() {
        let asked = bytes("get_stackinfo_request_ebcdic");
        assert_eq!(request(CodePage::Ibm1047, MessageType::GET_STACKINFO, "", 1, &[]), asked);
        let asked = frame(&asked);
        let asked = Request::check(&asked).unwrap();
        assert_eq!(asked.target(), None);

        let stack = Stack {
            ip_security: true,
            logging: true,
            policy_filters: true,
            name: "TCPIP".into(),
            nat_keepalive: 20,
            ..Stack::default()
        };
        let record = StackRecord { stack, excluded: Vec::new() };
        let built = record.build(CodePage::Ibm1047);
        let header = asked.header().answer(NOW, ReturnCode::OK, ReasonCode::NONE);
        let header = with_records(header, built.len() as u64, 1, 1).unwrap();
        let answer = [header.to_bytes().as_slice(), &built].concat();
        assert_eq!(answer, bytes("get_stackinfo_response_ebcdic"));

        let read = Message::read(frame(&answer)).unwrap().parse::<StackRecord>().unwrap();
        assert_eq!((read.records, read.total, read.timestamp), (vec![record], 1, NOW));
    }

    #[test]
    fn iketun_with_a_filter() {
        let filter = InFilter::tunnel("K1");
        let asked = request(
            CodePage::Ascii,
            MessageType::GET_IKETUN,
            "TCPIP",
            2,
            &[input_record(CodePage::Ascii, &filter)],
        );
        assert_eq!(asked.len(), 352);
        assert_eq!(asked[..192], bytes("get_iketun_request_ascii"));
        let asked = frame(&asked);
        let asked = Request::check(&asked).unwrap();
        assert_eq!(asked.target(), Some("TCPIP"));
        assert_eq!(asked.body().unwrap(), Body::Display(vec![filter]));
    }

    #[test]
    fn unknown_stack() {
        let asked = request(CodePage::Ascii, MessageType::GET_SUMMARY, "NOSUCH", 3, &[]);
        let header = MessageHeader::read_lenient(&asked).unwrap();
        let answer = header.answer(NOW, ReturnCode::ENXIO, ReasonCode::NONE);
        assert_eq!(answer.to_bytes().to_vec(), bytes("get_summary_refused_ascii"));
    }
}
