//! Lying lengths, offsets, counts and texts: the faults of section 2.5 in their order (threats T54, T56), and that no
//! bytes whatsoever make a reader panic.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use nmi_proto::answer::{Message, input_record, request};
use nmi_proto::check::{Body, Fault, Request};
use nmi_proto::code::{MessageType, ReasonCode, ReturnCode, SaState, TunnelStatus};
use nmi_proto::codec::Decoder;
use nmi_proto::control::{LoadPolicy, Tunnel};
use nmi_proto::display::{
    Dist, Distribution, DropCount, DynIkeRecord, ExcludedAddress, FilterRecord, IkeRecord, IkeTunnel,
    IkeTunnelStats, Interface, IpDynTunnel, IpDynamicIke, IpDynamicStack, IpFilter, IpManualTunnel, IpTunnel,
    Nss, PortTranslation, Record, Stack, StackRecord, Statistics,
};
use nmi_proto::filter::InFilter;
use nmi_proto::identity::Identity;
use nmi_proto::layout::{Kind, Structure};
use nmi_proto::record::{RecordBuilder, RecordView};
use nmi_proto::text::CodePage;
use nmi_proto::{DecodeError, MAX_REQUEST_BYTES};
use proptest::prelude::*;

/// What a daemon would do with these bytes as the first on a connection.
fn judge(bytes: &[u8]) -> Result<Body, Fault> {
    let mut decoder = Decoder::new(MAX_REQUEST_BYTES);
    decoder.push(bytes);
    let frame = decoder.next_frame().map_err(Fault::of_stream)?.expect("a whole message");
    Request::check(&frame)?.body()
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn iketun(filters: &[InFilter]) -> Vec<u8> {
    let records: Vec<_> = filters.iter().map(|f| input_record(CodePage::Ascii, f)).collect();
    request(CodePage::Ascii, MessageType::GET_IKETUN, "TCPIP", 7, &records)
}

#[test]
fn t54_each_fault_has_its_reason_and_its_effect_on_the_connection() {
    let good = iketun(&[InFilter::tunnel("K1")]);
    assert!(judge(&good).is_ok());
    type Edit = fn(&mut Vec<u8>);
    let closes = true;
    #[rustfmt::skip]
    let cases: &[(&str, Edit, ReasonCode, bool)] = &[
        ("ident", |m| m[0] = b'X', ReasonCode::BAD_IDENT, closes),
        ("ident before length", |m| { m[0] = 0; put(m, 12, 0xFFFF_FFFF) }, ReasonCode::BAD_IDENT, closes),
        ("length 0xffffffff", |m| put(m, 12, 0xFFFF_FFFF), ReasonCode::EXCESSIVE_SIZE, closes),
        ("length one above the limit", |m| put(m, 12, MAX_REQUEST_BYTES + 1), ReasonCode::EXCESSIVE_SIZE, closes),
        ("length in the wrong byte order", |m| put(m, 12, 96u32.swap_bytes()), ReasonCode::EXCESSIVE_SIZE, closes),
        ("length 0", |m| put(m, 12, 0), ReasonCode::MSG_SIZE, closes),
        ("length 15", |m| put(m, 12, 15), ReasonCode::MSG_SIZE, closes),
        ("length below a header", |m| { m.truncate(40); put(m, 12, 40) }, ReasonCode::MSG_SIZE, false),
        ("header length", |m| put(m, 4, 92), ReasonCode::HDR_SIZE, false),
        ("header length before message length", |m| { m.truncate(16); put(m, 12, 16); put(m, 4, 0) }, ReasonCode::HDR_SIZE, false),
        ("version 0", |m| m[9] = 0, ReasonCode::BAD_VERSION, false),
        ("version 2", |m| m[9] = 2, ReasonCode::BAD_VERSION, false),
        ("version before type", |m| { m[9] = 2; m[10] = 0x7F }, ReasonCode::BAD_VERSION, false),
        ("type unknown", |m| m[10] = 0x7F, ReasonCode::BAD_TYPE, false),
        ("type INIT", |m| m[10..12].copy_from_slice(&[0, 1]), ReasonCode::BAD_TYPE, false),
        ("type CLIENTINFO", |m| m[10..12].copy_from_slice(&[1, 0x0E]), ReasonCode::BAD_TYPE, false),
        ("reserved word", |m| m[39] = 1, ReasonCode::RESERVED_NONZERO, false),
        ("reserved of the input descriptor", |m| m[79] = 1, ReasonCode::RESERVED_NONZERO, false),
        ("output descriptor", |m| m[95] = 1, ReasonCode::RESERVED_NONZERO, false),
        ("records into the header", |m| put(m, 64, 40), ReasonCode::MSG_SIZE, false),
        ("records beyond the message", |m| put(m, 64, 0xFFFF_FFF0), ReasonCode::MSG_SIZE, false),
        ("record bytes too many", |m| put(m, 68, 0xFFFF_FFFF), ReasonCode::MSG_SIZE, false),
        ("record bytes too few", |m| put(m, 68, 252), ReasonCode::MSG_SIZE, false),
        ("record count too high", |m| put(m, 72, 0xFFFF_FFFF), ReasonCode::MSG_SIZE, false),
        ("record count 0", |m| put(m, 72, 0), ReasonCode::MSG_SIZE, false),
        ("record ident", |m| m[96] = 0, ReasonCode::BAD_IDENT, closes),
        ("record ident in the other code page", |m| m[96..100].copy_from_slice(&[0xD5, 0xD4, 0xA2, 0xD9]), ReasonCode::BAD_IDENT, closes),
        ("record length 0", |m| put(m, 100, 0), ReasonCode::RECORD_LENGTH, false),
        ("record length no multiple of 4", |m| put(m, 100, 254), ReasonCode::RECORD_LENGTH, false),
        ("record length beyond the message", |m| put(m, 100, 0xFFFF_FFFC), ReasonCode::RECORD_LENGTH, false),
        ("record header length", |m| m[105] = 16, ReasonCode::SEC_DESC, false),
        ("65535 sections", |m| m[106..108].fill(0xFF), ReasonCode::SEC_DESC, false),
        ("2 cascades", |m| m[109] = 2, ReasonCode::SEC_DESC, false),
        ("record reserved", |m| m[111] = 1, ReasonCode::RESERVED_NONZERO, false),
        ("section into the record header", |m| put(m, 112, 16), ReasonCode::SEC_DESC, false),
        ("section beyond the record", |m| put(m, 112, 28), ReasonCode::SEC_DESC, false),
        ("section offset 0xfffffffc", |m| put(m, 112, 0xFFFF_FFFC), ReasonCode::SEC_DESC, false),
        ("section not aligned", |m| { put(m, 112, 25); m[117] = 0xE0 }, ReasonCode::SEC_DESC, false),
        ("65535 instances", |m| m[118..120].fill(0xFF), ReasonCode::SEC_DESC, false),
        ("instances of no length", |m| { m[116..118].fill(0); m[118..120].fill(0xFF) }, ReasonCode::SEC_DESC, false),
        ("section absent", |m| m[112..120].fill(0), ReasonCode::SEC_DESC, false),
        ("section shorter", |m| m[117] = 228, ReasonCode::SEC_LENGTH, false),
        ("target blank", |m| m[40..64].fill(b' '), ReasonCode::BAD_TARGET, false),
        ("target no text", |m| m[41] = 0, ReasonCode::BAD_VALUE, false),
        ("filter reserved", |m| m[123] = 1, ReasonCode::RESERVED_NONZERO, false),
        ("filter without criterion", |m| m[120] = 0, ReasonCode::BAD_FILTER, false),
        ("criterion not for IKE tunnels", |m| m[120] = 0x20, ReasonCode::BAD_FILTER, false),
        ("blank criterion", |m| m[124..172].fill(b' '), ReasonCode::BAD_VALUE, false),
        ("NUL in a criterion", |m| m[126] = 0, ReasonCode::BAD_VALUE, false),
    ];
    for (what, edit, reason, closes) in cases {
        let mut bytes = good.clone();
        edit(&mut bytes);
        let fault = judge(&bytes).expect_err(what);
        assert_eq!(
            (fault.rc, fault.rsn, fault.closes),
            (ReturnCode::EINVAL, *reason, *closes),
            "{what}: {fault}"
        );
    }
}

#[test]
fn t54_overlapping_sections_are_refused() {
    let stack = StackRecord { excluded: vec![Default::default()], ..StackRecord::default() };
    let mut bytes = stack.build(CodePage::Ascii);
    assert!(RecordView::split(&bytes, CodePage::Ascii).is_ok());
    let first = u32::from_be_bytes(bytes[16..20].try_into().unwrap());
    put(&mut bytes, 24, first);
    assert!(matches!(
        RecordView::split(&bytes, CodePage::Ascii),
        Err(DecodeError::Descriptor { index: 1, .. })
    ));
}

#[test]
fn t54_the_answer_repeats_what_could_be_read() {
    let mut short = iketun(&[]);
    short.truncate(24);
    put(&mut short, 12, 24);
    let header = nmi_proto::header::MessageHeader::read_lenient(&short).unwrap();
    assert_eq!(header.message_type, MessageType::GET_IKETUN);
    assert_eq!(header.correlator, 7u64.to_be_bytes());
    assert_eq!(header.target_name().unwrap(), "");
}

#[test]
fn t54_requests_without_records_have_none_and_no_target_where_none_is_due() {
    let record = input_record(CodePage::Ascii, &InFilter::tunnel("K1"));
    let summary = request(CodePage::Ascii, MessageType::GET_SUMMARY, "TCPIP", 1, &[record]);
    assert_eq!(judge(&summary).unwrap_err().rsn, ReasonCode::RECORD_NUM);
    let stackinfo = request(CodePage::Ascii, MessageType::GET_STACKINFO, "TCPIP", 1, &[]);
    assert_eq!(judge(&stackinfo).unwrap_err().rsn, ReasonCode::BAD_TARGET);
}

#[test]
fn t56_number_of_filters_and_tunnels_at_the_limit_and_above() {
    let filter = InFilter { by_state: true, state: SaState::ACTIVE, ..InFilter::default() };
    assert!(judge(&iketun(&vec![filter.clone(); 100])).is_ok());
    assert_eq!(judge(&iketun(&vec![filter; 101])).unwrap_err().rsn, ReasonCode::RECORD_NUM);
    let control = |n| {
        let tunnel = input_record(CodePage::Ibm1047, &Tunnel::with_id("Y1"));
        judge(&request(CodePage::Ibm1047, MessageType::REFRESH_IPTUNDYN, "TCPIP", 1, &vec![tunnel; n]))
    };
    assert!(matches!(control(1000), Ok(Body::Control(all)) if all.len() == 1000));
    assert!(matches!(control(0), Ok(Body::Control(all)) if all.is_empty()));
    assert_eq!(control(1001).unwrap_err().rsn, ReasonCode::RECORD_NUM);
}

#[test]
fn t56_which_fields_a_control_request_needs() {
    let ask = |ty, tunnel: &Tunnel| {
        judge(&request(CodePage::Ascii, ty, "TCPIP", 1, &[input_record(CodePage::Ascii, tunnel)]))
            .map_err(|f| f.rsn)
    };
    let activate = MessageType::ACTIVATE_IPTUNDYN;
    assert!(ask(activate, &Tunnel::named("Branch")).is_ok());
    assert_eq!(ask(activate, &Tunnel::with_id("Y1")), Err(ReasonCode::BAD_VALUE));
    assert_eq!(ask(activate, &Tunnel::default()), Err(ReasonCode::BAD_VALUE));
    assert!(ask(MessageType::DEACTIVATE_IKETUN, &Tunnel::with_id("K1")).is_ok());
    assert_eq!(ask(MessageType::DEACTIVATE_IKETUN, &Tunnel::default()), Err(ReasonCode::BAD_VALUE));
    let set = Tunnel { status: TunnelStatus::STATEUPDATED, ..Tunnel::with_id("K1") };
    assert_eq!(ask(MessageType::DEACTIVATE_IKETUN, &set), Err(ReasonCode::BAD_VALUE));
}

#[test]
fn load_policy_takes_one_record_with_a_known_set() {
    let ask = |records: &[Vec<u8>]| {
        judge(&request(CodePage::Ascii, MessageType::LOAD_POLICY, "TCPIP", 1, records)).map_err(|f| f.rsn)
    };
    let load =
        |set| input_record(CodePage::Ascii, &LoadPolicy { filter_set: nmi_proto::code::FilterSet(set) });
    assert!(matches!(ask(&[load(1)]), Ok(Body::LoadPolicy(_))));
    assert_eq!(ask(&[]), Err(ReasonCode::RECORD_NUM));
    assert_eq!(ask(&[load(0), load(1)]), Err(ReasonCode::RECORD_NUM));
    assert_eq!(ask(&[load(2)]), Err(ReasonCode::BAD_VALUE));
}

#[test]
fn a_reader_skips_what_a_later_version_appends() {
    let today =
        StackRecord { stack: Stack { name: "TCPIP".into(), ..Default::default() }, ..Default::default() };
    // The same record with a first section that is 8 bytes longer, and a third section.
    let longer = [today.stack.to_bytes(CodePage::Ascii), vec![0xEE; 8]].concat();
    let later = RecordBuilder::new(CodePage::Ascii)
        .variable(&longer)
        .all(&today.excluded)
        .variable(b"what comes after")
        .finish();
    let (view, rest) = RecordView::split(&later, CodePage::Ascii).unwrap();
    assert!(rest.is_empty());
    assert_eq!(StackRecord::parse(&view).unwrap(), today);
}

#[test]
fn cascaded_records_come_back_below_their_parent() {
    let child = DynIkeRecord { local_id: Some(Identity::Fqdn("a.example".into())), ..Default::default() };
    for children in [vec![], vec![child.clone()], vec![child.clone(), child]] {
        let parent = IkeRecord {
            remote_id: Some(Identity::KeyId(vec![0, 255, 0xD5])),
            cascade: Some(children),
            ..Default::default()
        };
        let mut expected = parent.clone();
        expected.tunnel.remote_id_type = nmi_proto::code::IdType::KEY_ID;
        for c in expected.cascade.iter_mut().flatten() {
            c.ike.local_id_type = nmi_proto::code::IdType::FQDN;
        }
        let bytes = parent.build(CodePage::Ibm1047);
        let (view, _) = RecordView::split(&bytes, CodePage::Ibm1047).unwrap();
        assert_eq!(IkeRecord::parse(&view).unwrap(), expected);
    }
}

fn name() -> impl Strategy<Value = String> {
    // Printable, without trailing blanks: what a text field can hold.
    "[ -~]{0,47}[!-~]|".prop_map(|s| s)
}

fn identity() -> impl Strategy<Value = Option<Identity>> {
    prop_oneof![
        Just(None),
        any::<std::net::IpAddr>().prop_map(|a| Some(Identity::Address(a))),
        "[ -~]{1,300}".prop_map(|s| Some(Identity::Dn(s))),
        prop::collection::vec(any::<u8>(), 1..300).prop_map(|b| Some(Identity::KeyId(b))),
        any::<(std::net::Ipv4Addr, std::net::Ipv4Addr)>()
            .prop_map(|(a, b)| Some(Identity::Range(a.into(), b.into()))),
    ]
}

/// A structure read from any bytes and written again gives back every field's bytes, and zero where none is.
fn round_trip<S: Structure + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    page: CodePage,
    text: &[String],
) -> S {
    let mut bytes = bytes[..S::SIZE].to_vec();
    let mut texts = text.iter().cycle();
    for f in S::FIELDS.iter().filter(|f| f.kind == Kind::Text) {
        let width = f.bits / 8;
        let text: String = texts.next().unwrap().chars().take(width).collect();
        page.write_padded(&text, &mut bytes[f.offset..f.offset + width]);
    }
    let value = S::read(&bytes, page).unwrap();
    let mut expected = bytes;
    for f in S::FIELDS.iter().filter(|f| f.kind == Kind::Zero) {
        for bit in f.offset * 8 + f.bit..f.offset * 8 + f.bit + f.bits {
            expected[bit / 8] &= !(0x80 >> (bit % 8));
        }
    }
    assert_eq!(value.to_bytes(page), expected, "{}", S::NAME);
    value
}

proptest! {
    #[test]
    fn parse_then_write_is_the_identity(
        bytes in prop::collection::vec(any::<u8>(), 408),
        text in prop::collection::vec(name(), 8),
        ebcdic in any::<bool>(),
        remote_id in identity(),
    ) {
        let page = if ebcdic { CodePage::Ibm1047 } else { CodePage::Ascii };
        let filter: IpFilter = round_trip(&bytes, page, &text);
        round_trip::<Stack>(&bytes, page, &text);
        round_trip::<ExcludedAddress>(&bytes, page, &text);
        round_trip::<Statistics>(&bytes, page, &text);
        round_trip::<PortTranslation>(&bytes, page, &text);
        round_trip::<IpTunnel>(&bytes, page, &text);
        round_trip::<IpManualTunnel>(&bytes, page, &text);
        round_trip::<IpDynTunnel>(&bytes, page, &text);
        round_trip::<IpDynamicStack>(&bytes, page, &text);
        round_trip::<IpDynamicIke>(&bytes, page, &text);
        round_trip::<IkeTunnel>(&bytes, page, &text);
        round_trip::<IkeTunnelStats>(&bytes, page, &text);
        round_trip::<Interface>(&bytes, page, &text);
        round_trip::<Nss>(&bytes, page, &text);
        round_trip::<Dist>(&bytes, page, &text);
        round_trip::<DropCount>(&bytes, page, &text);
        round_trip::<Distribution>(&bytes, page, &text);
        round_trip::<InFilter>(&bytes, page, &text);
        round_trip::<Tunnel>(&bytes, page, &text);
        round_trip::<LoadPolicy>(&bytes, page, &text);

        let mut record = FilterRecord { filter, remote_id };
        let built = record.build(page);
        prop_assert!(built.len().is_multiple_of(4));
        let (view, rest) = RecordView::split(&built, page).unwrap();
        prop_assert!(rest.is_empty());
        let read = FilterRecord::parse(&view).unwrap();
        record.filter.remote_id_type = read.filter.remote_id_type;
        prop_assert_eq!(read, record);
    }

    #[test]
    fn t54_no_bytes_make_a_server_panic(edits in prop::collection::vec((0usize..352, any::<u8>()), 1..12), cut in 0usize..352) {
        let mut bytes = iketun(&[InFilter::tunnel("K1")]);
        for (at, value) in edits {
            bytes[at] = value;
        }
        let mut decoder = Decoder::new(MAX_REQUEST_BYTES);
        decoder.push(&bytes[..cut]);
        decoder.push(&bytes[cut..]);
        while let Ok(Some(frame)) = decoder.next_frame() {
            if let Ok(request) = Request::check(&frame) {
                let _ = request.body();
            }
        }
    }

    #[test]
    fn no_bytes_make_a_client_panic(mut tail in prop::collection::vec(any::<u8>(), 0..600), edits in prop::collection::vec((0usize..800, any::<u8>()), 0..8), number in 0u32..4) {
        let parent = IkeRecord { cascade: Some(vec![DynIkeRecord::default()]), ..Default::default() };
        let mut header = nmi_proto::header::MessageHeader::new(CodePage::Ascii, MessageType::GET_IKETUNCASCADE);
        let mut body = parent.build(CodePage::Ascii);
        body.append(&mut tail);
        for (at, value) in edits {
            if let Some(byte) = body.get_mut(at) {
                *byte = value;
            }
        }
        header = nmi_proto::answer::with_records(header, body.len() as u64, number, number).unwrap();
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&header.to_bytes());
        decoder.push(&body);
        if let Ok(Some(frame)) = decoder.next_frame()
            && let Ok(message) = Message::read(frame)
        {
            let _ = message.parse::<IkeRecord>();
            let _ = message.parse::<FilterRecord>();
        }
    }
}
