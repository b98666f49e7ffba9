//! `docs/nmi.md` says what the code does: its tables are made from the code, its hex is the golden bytes.
//!
//! `UPDATE_DOCS=1 cargo test -p nmi-proto --test document` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use nmi_proto::answer::{input_record, request, with_records};
use nmi_proto::code::{self, Access, InputRule, MessageType, ReasonCode, ReturnCode, TargetRule};
use nmi_proto::control::{LoadPolicy, Subscription, TestPacket, Tunnel, VipaControl};
use nmi_proto::display::{
    Authority, Backup, Caller, Defensive, DefensiveControl, Dist, Distribution, DropCount, Dvipa, Event,
    ExcludedAddress, IkeTunnel, IkeTunnelStats, Interface, IpDynTunnel, IpDynamicIke, IpDynamicStack,
    IpFilter, IpManualTunnel, IpTunnel, Nss, PortTranslation, Record as _, Stack, Statistics, Takeover,
    TakeoverStepTime, Verdict, VipaTarget,
};
use nmi_proto::filter::{Criterion, InFilter};
use nmi_proto::header::MessageHeader;
use nmi_proto::layout::{FieldDef, Kind, Source, Structure};
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::PathBuf;

fn structure<S: Structure>(blocks: &mut BTreeMap<String, String>) {
    let mut rows: Vec<&FieldDef> = S::FIELDS.iter().collect();
    rows.sort_by_key(|f| (f.offset, f.bit));
    let mut out = format!("**`{}`**, {} bytes\n\n", S::NAME, S::SIZE);
    out.push_str("| Field | Offset | Length | Type | Src | Meaning |\n|---|---|---|---|---|---|\n");
    for f in rows {
        let bits = f.kind == Kind::Bits || !f.bits.is_multiple_of(8) || f.bit != 0;
        let offset = if bits { format!("{}.{}", f.offset, f.bit) } else { f.offset.to_string() };
        let length = match f.bits {
            1 => "1 bit".to_owned(),
            n if bits => format!("{n} bits"),
            n => (n / 8).to_string(),
        };
        let kind = match f.kind {
            Kind::Bits => "bits",
            Kind::Uint => "uint",
            Kind::Text => "text",
            Kind::Addr => "addr",
            Kind::Time => "time",
            Kind::Bytes => "bytes",
            Kind::Zero => "zero",
        };
        let source = match f.source {
            Source::D => 'D',
            Source::I => 'I',
            Source::C => 'C',
        };
        let meaning = f.meaning.trim().trim_end_matches('.');
        writeln!(out, "| `{}` | {offset} | {length} | {kind} | {source} | {meaning} |", f.name).unwrap();
    }
    blocks.insert(S::NAME.to_owned(), out);
}

fn values<T: Display + Copy>(known: &[T], number: impl Fn(T) -> u64) -> String {
    let mut out = "| Value | Meaning |\n|---|---|\n".to_owned();
    for v in known {
        writeln!(out, "| {} | {v} |", number(*v)).unwrap();
    }
    out
}

fn message_types() -> String {
    let mut out = "| Name | Code | Target | Input records | Authority |\n|---|---|---|---|---|\n".to_owned();
    for t in MessageType::KNOWN {
        let (target, input, access) = match t.request_rule() {
            None => ("-", "-", "-"),
            Some(rule) => (
                match rule.target {
                    TargetRule::Blank => "blank",
                    TargetRule::Stack => "stack",
                    TargetRule::Optional => "blank or stack",
                },
                match rule.input {
                    InputRule::Nothing => "0",
                    InputRule::Filters => "0 to 100 `NMsecInFilter`",
                    InputRule::Tunnels => "0 to 1000 `NMsecTunnel`",
                    InputRule::LoadPolicy => "1 `NMsecLoadPolicy`",
                    InputRule::Subscription => "0 or 1 `NMsecSubscription`",
                    InputRule::Packet => "1 `NMsecTestPacket`",
                    InputRule::Vipa => "1 to 1000 `NMsecVipaControl`",
                    InputRule::Defensive => "1 to 1000 `NMsecDefensiveControl`",
                    InputRule::DefensiveOrAll => "0 to 1000 `NMsecDefensiveControl`",
                },
                match rule.access {
                    Access::Display => "DISPLAY",
                    Access::Control => "CONTROL",
                    Access::Anyone => "none",
                },
            ),
        };
        writeln!(out, "| `{t}` | {:#06x} | {target} | {input} | {access} |", t.0).unwrap();
    }
    out
}

fn criteria() -> String {
    use Criterion::{
        CurrentOnly, Group, LocalAddress, Name, Protocol, RemoteAddress, Shadow, State, TunnelId, VpnAction,
    };
    let all =
        [TunnelId, Name, VpnAction, Group, LocalAddress, RemoteAddress, Protocol, State, CurrentOnly, Shadow];
    let mut out = "| Request |".to_owned();
    all.iter().for_each(|c| write!(out, " {c:?} |").unwrap());
    out.push_str("\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for t in MessageType::KNOWN.iter().filter(|t| !Criterion::allowed(**t).is_empty()) {
        write!(out, "| {} |", t.to_string().trim_start_matches("NMsec_GET_")).unwrap();
        for c in &all {
            out.push_str(if Criterion::allowed(*t).contains(c) { " yes |" } else { " - |" });
        }
        out.push('\n');
    }
    out
}

fn code_page() -> String {
    let mut out = "| |".to_owned();
    (0..16).for_each(|low| write!(out, " _{low:X} |").unwrap());
    out.push_str("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for high in 2..8u8 {
        write!(out, "| **{high:X}_** |").unwrap();
        for low in 0..16u8 {
            match char::from(high << 4 | low) {
                '\x7F' => out.push_str(" - |"),
                c => write!(out, " {:02X} |", CodePage::Ibm1047.encode(c)).unwrap(),
            }
        }
        out.push('\n');
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = "```text\n".to_owned();
    for (i, line) in bytes.chunks(16).enumerate() {
        write!(out, "{:04x} ", i * 16).unwrap();
        for word in line.chunks(4) {
            out.push(' ');
            word.iter().for_each(|b| write!(out, "{b:02x}").unwrap());
        }
        out.push('\n');
    }
    out.push_str("```\n");
    out
}

/// The answer to a request without records for stack `DIST`, in ASCII, with one record.
fn answer(message_type: MessageType, correlator: u64, record: &[u8]) -> String {
    let mut asked = MessageHeader::new(CodePage::Ascii, message_type);
    asked.set_target("DIST");
    asked.correlator = correlator.to_be_bytes();
    let head = asked.answer(Time(0x6600_0000), ReturnCode::OK, ReasonCode::NONE);
    let head = with_records(head, record.len() as u64, 1, 1).unwrap();
    hex(&[head.to_bytes().as_slice(), record].concat())
}

fn blocks() -> BTreeMap<String, String> {
    let mut b = BTreeMap::new();
    structure::<InFilter>(&mut b);
    structure::<Stack>(&mut b);
    structure::<ExcludedAddress>(&mut b);
    structure::<Statistics>(&mut b);
    structure::<IpFilter>(&mut b);
    structure::<PortTranslation>(&mut b);
    structure::<IpTunnel>(&mut b);
    structure::<IpManualTunnel>(&mut b);
    structure::<IpDynTunnel>(&mut b);
    structure::<IpDynamicStack>(&mut b);
    structure::<IpDynamicIke>(&mut b);
    structure::<IkeTunnel>(&mut b);
    structure::<IkeTunnelStats>(&mut b);
    structure::<Interface>(&mut b);
    structure::<Nss>(&mut b);
    structure::<Dist>(&mut b);
    structure::<DropCount>(&mut b);
    structure::<Distribution>(&mut b);
    structure::<Dvipa>(&mut b);
    structure::<Backup>(&mut b);
    structure::<VipaTarget>(&mut b);
    structure::<Takeover>(&mut b);
    structure::<TakeoverStepTime>(&mut b);
    structure::<Authority>(&mut b);
    structure::<Caller>(&mut b);
    structure::<Event>(&mut b);
    structure::<Tunnel>(&mut b);
    structure::<LoadPolicy>(&mut b);
    structure::<VipaControl>(&mut b);
    structure::<Subscription>(&mut b);
    structure::<Defensive>(&mut b);
    structure::<DefensiveControl>(&mut b);
    structure::<TestPacket>(&mut b);
    structure::<Verdict>(&mut b);
    let mut add = |name: &str, text: String| b.insert(name.to_owned(), text);
    add("types", message_types());
    add("criteria", criteria());
    add("ibm-1047", code_page());
    add("sa-state", values(code::SaState::KNOWN, |v| v.0.into()));
    add("activation", values(code::ActivationMethod::KNOWN, |v| v.0.into()));
    add("integrity", values(code::AuthAlgorithm::KNOWN, |v| v.0.into()));
    add("encryption", values(code::EncryptionAlgorithm::KNOWN, |v| v.0.into()));
    add("ike-progress", values(code::IkeExtState::KNOWN, |v| v.0.into()));
    add("dynamic-progress", values(code::DynExtState::KNOWN, |v| v.0.into()));
    add("id-type", values(code::IdType::KNOWN, |v| v.0.into()));
    add("filter-type", values(code::FilterType::KNOWN, |v| v.0.into()));
    add("tunnel-status", values(code::TunnelStatus::KNOWN, |v| v.0.into()));
    add("dvipa-state", values(code::DvipaState::KNOWN, |v| v.0.into()));
    add("cf-state", values(code::CfProtection::KNOWN, |v| v.0.into()));
    add("takeover-cause", values(code::TakeoverCause::KNOWN, |v| v.0.into()));
    add("takeover-step", values(code::TakeoverStep::KNOWN, |v| v.0.into()));
    add("event-kind", values(code::EventKind::KNOWN, |v| v.0.into()));
    add("vipa-status", values(code::VipaStatus::KNOWN, |v| v.0.into()));
    add("defensive-status", values(code::DefensiveStatus::KNOWN, |v| v.0.into()));
    add("return-codes", values(ReturnCode::KNOWN, |v| v.0.into()));
    add("reason-codes", values(ReasonCode::KNOWN, |v| v.0.into()));
    for name in [
        "init_ebcdic",
        "get_stackinfo_request_ebcdic",
        "get_stackinfo_response_ebcdic",
        "get_iketun_request_ascii",
        "get_summary_refused_ascii",
        "term_ebcdic",
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/message-{name}.txt"));
        add(name, format!("```text\n{}```\n", std::fs::read_to_string(path).unwrap()));
    }
    let drops = DropCount { reason: "gre_untrusted_link".into(), packets: 3 };
    add("get_drops_response", answer(MessageType::GET_DROPS, 4, &drops.build(CodePage::Ascii)));
    let target = Distribution {
        ipv6: false,
        dvipa: std::net::IpAddr::from([203, 0, 113, 10]).into(),
        target: "TGT1".into(),
        port: 443,
        active: 2,
        total: 31,
    };
    add(
        "get_distribution_response",
        answer(MessageType::GET_DISTRIBUTION, 5, &target.build(CodePage::Ascii)),
    );
    let packet = TestPacket {
        source: std::net::IpAddr::from([203, 0, 113, 20]).into(),
        destination: std::net::IpAddr::from([192, 0, 2, 10]).into(),
        protocol: 6,
        direction: code::Direction::INBOUND,
        destination_port: 443,
        ..TestPacket::default()
    };
    let input = [input_record(CodePage::Ascii, &packet)];
    add("test_packet_request", hex(&request(CodePage::Ascii, MessageType::TEST_PACKET, "DIST", 6, &input)));
    let verdict = Verdict {
        certain: true,
        treatment: code::Treatment::PROTECTED,
        tunnel_id: "Y7".into(),
        spi_in: 0xC0FF_EE01,
        spi_out: 0x0BAD_CAFE,
    };
    add("verdict_section", hex(&verdict.to_bytes(CodePage::Ascii)));
    add("treatment", values(code::Treatment::KNOWN, |v| v.0.into()));
    let dist = Dist {
        dvipa: true,
        taken_over: false,
        cf_record: code::CfRecord::STORED,
        epoch: 7,
        owner: "DIST".into(),
        from: "".into(),
    };
    let defensive = DefensiveControl {
        both_families: false,
        source: std::net::IpAddr::from([203, 0, 113, 66]).into(),
        source_prefix: 32,
        protocol_any: false,
        protocol: 6,
        destination_port_low: 443,
        destination_port_high: 443,
        by_action: true,
        action: code::FilterAction::DEFENSIVE_BLOCK,
        by_lifetime: true,
        lifetime_min: 30,
        ..DefensiveControl::all("scanner")
    };
    let asked =
        request(CodePage::Ascii, MessageType::ADD_DEFENSIVE, "DIST", 6, &[defensive.build(CodePage::Ascii)]);
    add("add_defensive_request", hex(&asked));
    add("dist_section", hex(&dist.to_bytes(CodePage::Ascii)));
    b
}

#[test]
fn the_document_has_the_tables_and_bytes_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/nmi.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let mut blocks = blocks();
    let mut made = String::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        writeln!(made, "{line}").unwrap();
        let Some(name) = line.strip_prefix("<!-- made: ").and_then(|l| l.strip_suffix(" -->")) else {
            continue;
        };
        let block = blocks.remove(name).unwrap_or_else(|| panic!("no such block, or twice: {name}"));
        writeln!(made, "\n{block}\n<!-- end -->").unwrap();
        assert!(lines.by_ref().any(|l| l == "<!-- end -->"), "{name} has no end");
    }
    assert!(blocks.is_empty(), "not in the document: {:?}", blocks.keys());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    } else {
        assert!(
            made == document,
            "docs/nmi.md is not what the code does: run with UPDATE_DOCS=1 and look at the difference"
        );
    }
}
