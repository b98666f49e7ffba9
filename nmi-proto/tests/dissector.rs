//! `wireshark/nmsec.lua` knows the tables of the code, and tshark reads a session with it.
//!
//! `UPDATE_DOCS=1 cargo test -p nmi-proto --test dissector` writes its tables anew.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

#[path = "tools/tables.rs"]
mod tables;
mod tools;

use nmi_proto::answer::{input_record, request, with_records};
use nmi_proto::code::{MessageType, ReasonCode, ReturnCode, TakeoverStep};
use nmi_proto::display::{
    DynIkeRecord, IkeRecord, IkeTunnel, IpTunnel, Record as _, Takeover, TakeoverRecord, TakeoverStepTime,
};
use nmi_proto::filter::InFilter;
use nmi_proto::header::MessageHeader;
use nmi_proto::layout::Kind;
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const NOW: Time = Time(0x6600_0000);

/// Structures, message types and codes as Lua tables.
fn made() -> String {
    let mut out = "structures = {\n".to_owned();
    for layout in tables::layouts().iter().filter(|l| l.section.starts_with(['5', '6', '7'])) {
        writeln!(out, "  {} = {{size = {},", layout.name, layout.size).unwrap();
        for row in &layout.rows {
            let form = match row.kind {
                Kind::Zero => continue,
                Kind::Bits => "bit",
                Kind::Uint => "uint",
                Kind::Text => "text",
                Kind::Addr => "addr",
                Kind::Time => "time",
                Kind::Bytes => "bytes",
            };
            writeln!(out, "    {{\"{}\", {}, {}, {}, \"{form}\"}},", row.name, row.offset, row.bit, row.bits)
                .unwrap();
        }
        out.push_str("  },\n");
    }
    out.push_str("}\n");
    for (list, name) in tables::lists().iter().zip(["types", "codes", "reasons"]) {
        writeln!(out, "{name} = {{").unwrap();
        for (_, value, text) in &list.values {
            writeln!(out, "  [{value:#x}] = \"{text}\",").unwrap();
        }
        out.push_str("}\n");
    }
    out
}

#[test]
fn the_dissector_has_the_tables_of_the_code() {
    let path = tools::in_crate("wireshark/nmsec.lua");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("-- made: tables\n").unwrap();
    let (_, after) = rest.split_once("-- end\n").unwrap();
    let made = format!("{before}-- made: tables\n{}-- end\n{after}", made());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    } else {
        assert!(made == text, "wireshark/nmsec.lua is not what the code does: run with UPDATE_DOCS=1");
    }
}

/// An answer to `asked` with these records.
fn answer(asked: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let header = MessageHeader::read_lenient(asked).unwrap();
    let head = header.answer(NOW, ReturnCode::OK, ReasonCode::NONE);
    let number = u32::try_from(records.len()).unwrap();
    let head = with_records(head, records.iter().map(|r| r.len() as u64).sum(), number, number).unwrap();
    [head.to_bytes().as_slice(), &records.concat()].concat()
}

/// A session: each message a packet of a capture of link type USER0.
fn session() -> Vec<Vec<u8>> {
    let page = CodePage::Ascii;
    let filter = [input_record(page, &InFilter::tunnel("K3"))];
    let ike = request(page, MessageType::GET_IKETUNCASCADE, "DIST", 1, &filter);
    let child = DynIkeRecord {
        tunnel: IpTunnel { id: "Y7".into(), in_auth_spi: 0xC0FF_EE01, ..IpTunnel::default() },
        ..DynIkeRecord::default()
    };
    let tunnel = IkeRecord {
        tunnel: IkeTunnel { id: "K3".into(), ..IkeTunnel::default() },
        cascade: Some(vec![child]),
        ..IkeRecord::default()
    };
    // A client written for another machine: in EBCDIC.
    let history = request(CodePage::Ibm1047, MessageType::GET_TAKEOVERS, "DIST", 2, &[]);
    let takeover = TakeoverRecord {
        takeover: Takeover { from: "TGT1".into(), to: "DIST".into(), epoch: 7, ..Takeover::default() },
        steps: vec![TakeoverStepTime { step: TakeoverStep::ACQUIRE, begin_us: 5, duration_us: 4242 }],
    };
    let refused = request(page, MessageType::GET_SUMMARY, "NOSUCH", 3, &[]);
    let refusal =
        MessageHeader::read_lenient(&refused).unwrap().answer(NOW, ReturnCode::ENXIO, ReasonCode::NONE);
    let mut lying = answer(&history, &[takeover.build(CodePage::Ibm1047)]);
    // The record says that it is longer than its message.
    lying[100..104].copy_from_slice(&u32::MAX.to_be_bytes());
    vec![
        MessageHeader::init(page, NOW).to_bytes().to_vec(),
        ike.clone(),
        answer(&ike, &[tunnel.build(page)]),
        history.clone(),
        answer(&history, &[takeover.build(CodePage::Ibm1047)]),
        refused,
        refusal.to_bytes().to_vec(),
        lying,
        b"no message at all, but long enough for one: no message at all, but long enough for one: no message"
            .to_vec(),
    ]
}

fn write_capture(path: &Path) {
    const USER0: u32 = 147;
    let mut file = Vec::new();
    for word in [0xA1B2_C3D4_u32, 0x0002_0004, 0, 0, 0x0004_0000, USER0] {
        file.extend_from_slice(&word.to_be_bytes());
    }
    for (second, packet) in (1_u32..).zip(session()) {
        let length = u32::try_from(packet.len()).unwrap();
        for word in [second, 0, length, length] {
            file.extend_from_slice(&word.to_be_bytes());
        }
        file.extend_from_slice(&packet);
    }
    std::fs::write(path, file).unwrap();
}

#[test]
fn tshark_reads_a_session() {
    if !tools::is_installed("tshark", "tshark_reads_a_session") {
        return;
    }
    let capture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nmsec.pcap");
    write_capture(&capture);
    let tshark = |more: &[&str]| {
        let script = format!("lua_script:{}", tools::in_crate("wireshark/nmsec.lua").display());
        let output =
            Command::new("tshark").args(["-X", &script, "-r"]).arg(&capture).args(more).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !err.contains("Lua"), "{err}");
        out.into_owned()
    };
    let list = tshark(&["-T", "fields", "-e", "_ws.col.Info"]);
    let expected = [
        "NMsec_INIT",
        "NMsec_GET_IKETUNCASCADE DIST",
        "NMsec_GET_IKETUNCASCADE DIST, 1 records",
        "NMsec_GET_TAKEOVERS DIST",
        "NMsec_GET_TAKEOVERS DIST, 1 records",
        "NMsec_GET_SUMMARY NOSUCH",
        "NMsec_GET_SUMMARY NOSUCH, return code 138",
    ];
    let lines: Vec<_> = list.lines().map(str::trim).collect();
    assert_eq!(&lines[..expected.len()], expected, "{list}");
    let details = tshark(&["-V"]);
    for part in [
        "NMsFltTunnelID: K3",
        "NMsIKETunID: K3",
        "NMsIPTunID: Y7",
        "NMsIPTunInAuthSPI: 3237998081",
        "NMsTkoFrom: TGT1",
        "NMsTkoEpoch: 7",
        "NMsTksDuration: 4242",
        "(ENXIO)",
        "record beyond the message",
        "no message header",
    ] {
        assert!(details.contains(part), "{part} in:\n{details}");
    }
    assert!(!details.contains("Lua Error"), "{details}");
}
