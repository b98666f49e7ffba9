//! `include/nmsec.h` says in C what the code does: it is made from the tables of the code, and what a compiler makes
//! of it is compared with them.
//!
//! `UPDATE_DOCS=1 cargo test -p nmi-proto --test c_header` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

#[path = "tools/tables.rs"]
mod tables;
mod tools;

use nmi_proto::code::{MessageType, ReasonCode, ReturnCode};
use nmi_proto::control::LoadPolicy;
use nmi_proto::header::{InRecords, MessageHeader, OutRecords};
use nmi_proto::layout::{FieldDef, Kind};
use nmi_proto::record::{RECORD_HEADER_BYTES, RecordBuilder, SECTION_DESCRIPTOR_BYTES};
use nmi_proto::text::CodePage;
use nmi_proto::value::Time;
use std::fmt::Write as _;
use tables::{Layout, envelope, layouts, lists};

/// A member of a C structure: one row, or the rows that share bytes bit by bit.
enum Member<'a> {
    Row(&'a FieldDef),
    Flags { offset: usize, bytes: usize, bits: Vec<&'a FieldDef> },
}

fn members(layout: &Layout) -> Vec<Member<'_>> {
    let mut out = Vec::new();
    let mut open: Vec<&FieldDef> = Vec::new();
    for row in &layout.rows {
        if open.is_empty() && row.kind != Kind::Bits && row.bit == 0 && row.bits.is_multiple_of(8) {
            out.push(Member::Row(row));
            continue;
        }
        open.push(row);
        let end = row.offset * 8 + row.bit + row.bits;
        if end.is_multiple_of(8) {
            let offset = open[0].offset;
            out.push(Member::Flags { offset, bytes: end / 8 - offset, bits: std::mem::take(&mut open) });
        }
    }
    assert!(open.is_empty(), "{}: bits that fill no byte", layout.name);
    out
}

fn flags(offset: usize) -> String {
    format!("NMsFlags{offset}")
}

fn meaning(f: &FieldDef) -> &'static str {
    let text = f.meaning.trim().trim_end_matches('.');
    assert!(!text.contains("*/"), "{text}");
    text
}

fn structure(out: &mut String, layout: &Layout) {
    writeln!(out, "\n/* Section {}, {} bytes. */", layout.section, layout.size).unwrap();
    writeln!(out, "typedef struct {} {{", layout.name).unwrap();
    let mut masks = String::new();
    for member in members(layout) {
        let (declaration, offset, text) = match &member {
            Member::Row(f) => {
                let bytes = f.bits / 8;
                let declaration = match (f.name, f.kind) {
                    ("NMsMInRec", _) => "NMsecInRecDesc NMsMInRec".to_owned(),
                    ("NMsMOutRec", _) => "NMsecOutRecDesc NMsMOutRec".to_owned(),
                    (name, Kind::Text) => format!("char {name}[{bytes}]"),
                    (name, Kind::Uint) if bytes == 1 => format!("uint8_t {name}"),
                    (name, _) => format!("uint8_t {name}[{bytes}]"),
                };
                let kind = match f.kind {
                    Kind::Uint if bytes > 1 => format!("u{}: ", f.bits),
                    Kind::Time => "time, u32: ".to_owned(),
                    Kind::Addr => "addr: ".to_owned(),
                    _ => String::new(),
                };
                (declaration, f.offset, format!("{kind}{}", meaning(f)))
            }
            Member::Flags { offset, bytes, bits } => {
                for f in bits.iter().filter(|f| f.kind == Kind::Bits) {
                    assert_eq!(f.bits, 1, "{}: the header has accessors for single bits", f.name);
                    writeln!(masks, "#define {}_BYTE {} /* {} */", f.name, f.offset, meaning(f)).unwrap();
                    writeln!(masks, "#define {}_MASK {:#04x}U", f.name, 0x80 >> f.bit).unwrap();
                }
                (format!("uint8_t {}[{bytes}]", flags(*offset)), *offset, "bits, see below".to_owned())
            }
        };
        writeln!(out, "    {:<36} /* {offset:>3}: {text} */", format!("{declaration};")).unwrap();
    }
    writeln!(out, "}} {};", layout.name).unwrap();
    writeln!(out, "NMSEC_SIZE({}, {});", layout.name, layout.size).unwrap();
    out.push_str(&masks);
}

const HEAD: &str = r#"/*
 * The structures and values of the management interface of iked: see docs/nmi.md.
 *
 * Made from the tables of the crate nmi-proto by `UPDATE_DOCS=1 cargo test -p nmi-proto --test c_header`; do not edit.
 *
 * All members are bytes or arrays of bytes, so every structure has alignment 1 and no padding, and may be laid over
 * received bytes at any place. (An 8-byte counter need not lie on a multiple of 8.) Integers are big-endian: read
 * them with nmsec_u16, nmsec_u32 and nmsec_u64, write them with nmsec_put_u16 and nmsec_put_u32. Text is padded
 * with blanks and has no NUL. A flag is read with NMSEC_BIT(pointer to the structure, name of the flag).
 *
 * The numbers in the comments are offsets. Sections may be longer than these structures: go by the descriptors
 * (docs/nmi.md, section 2.3, rule 4), not by sizeof. C11 or C++11.
 */
#ifndef NMSEC_H
#define NMSEC_H

#include <stdint.h>

#ifdef __cplusplus
#define NMSEC_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type " has padding")
#else
#define NMSEC_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has padding")
#endif

static inline uint16_t nmsec_u16(const uint8_t *at)
{
    return (uint16_t)((uint16_t)(at[0] << 8) | at[1]);
}

static inline uint32_t nmsec_u32(const uint8_t *at)
{
    return ((uint32_t)at[0] << 24) | ((uint32_t)at[1] << 16) | ((uint32_t)at[2] << 8) | at[3];
}

static inline uint64_t nmsec_u64(const uint8_t *at)
{
    return ((uint64_t)nmsec_u32(at) << 32) | nmsec_u32(at + 4);
}

static inline void nmsec_put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void nmsec_put_u32(uint8_t *at, uint32_t value)
{
    nmsec_put_u16(at, (uint16_t)(value >> 16));
    nmsec_put_u16(at + 2, (uint16_t)value);
}

#define NMSEC_BIT(structure, flag) ((((const uint8_t *)(structure))[flag##_BYTE] & flag##_MASK) != 0)
#define NMSEC_SET_BIT(structure, flag) ((void)(((uint8_t *)(structure))[flag##_BYTE] |= flag##_MASK))
"#;

fn header() -> String {
    let mut out = HEAD.to_owned();
    out.push('\n');
    writeln!(out, "#define NMSEC_SOCKET_PATH \"{}\"", nmi_proto::SOCKET_PATH).unwrap();
    for (page, name) in [(CodePage::Ascii, "ASCII"), (CodePage::Ibm1047, "EBCDIC")] {
        for (ident, of) in [(page.message_ident(), "MESSAGE"), (page.record_ident(), "RECORD")] {
            let text: String = ident.iter().map(|b| format!("\\x{b:02x}")).collect();
            writeln!(out, "#define NMSEC_{of}_IDENT_{name} \"{text}\"").unwrap();
        }
    }
    writeln!(out, "#define NMsec_VERSION1 {}U", nmi_proto::VERSION).unwrap();
    writeln!(out, "#define NMSEC_MAX_REQUEST_BYTES {}U", nmi_proto::MAX_REQUEST_BYTES).unwrap();
    writeln!(out, "#define NMSEC_MAX_FILTERS {}U", nmi_proto::MAX_FILTERS).unwrap();
    writeln!(out, "#define NMSEC_MAX_TUNNELS {}U", nmi_proto::MAX_TUNNELS).unwrap();
    for list in lists() {
        writeln!(out, "\n/* {}. */", list.of).unwrap();
        for (name, value, text) in list.values {
            let value = if name.starts_with("NMsec_") && list.of.starts_with("Message") {
                format!("{value:#06x}U")
            } else {
                format!("{value}U")
            };
            let comment = if name.ends_with(text) { String::new() } else { format!(" /* {text} */") };
            writeln!(out, "#define {name} {value}{comment}").unwrap();
        }
    }
    for layout in layouts() {
        structure(&mut out, &layout);
    }
    out.push_str("\n#endif\n");
    out
}

#[test]
fn the_header_has_the_tables_of_the_code() {
    let path = tools::in_crate("include/nmsec.h");
    let made = header();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    } else {
        let header = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            made == header,
            "include/nmsec.h is not what the code does: run with UPDATE_DOCS=1 and look at the difference"
        );
    }
}

/// What the compiler says of each member, one line each, is what the tables say.
#[test]
fn a_compiler_puts_every_field_where_the_code_does() {
    if !tools::is_installed(&tools::c_compiler(), "a_compiler_puts_every_field_where_the_code_does") {
        return;
    }
    let mut source =
        "#include \"nmsec.h\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void)\n{\n".to_owned();
    source.push_str("const uint8_t odd[9] = {0xff, 1, 2, 3, 4, 5, 6, 7, 8};\nuint8_t out[6] = {0};\n");
    let mut expected = String::new();
    for layout in layouts() {
        let s = layout.name;
        writeln!(source, "printf(\"{s} %zu %zu\\n\", sizeof({s}), _Alignof({s}));").unwrap();
        writeln!(expected, "{s} {} 1", layout.size).unwrap();
        for member in members(&layout) {
            let (name, offset, bytes) = match &member {
                Member::Row(f) => (f.name.to_owned(), f.offset, f.bits / 8),
                Member::Flags { offset, bytes, bits } => {
                    for f in bits.iter().filter(|f| f.kind == Kind::Bits) {
                        let n = f.name;
                        // Where the flag is, asked of the accessor: a structure with only this bit set has it.
                        writeln!(source, "{{ {s} v; uint8_t *b = (uint8_t *)&v; for (size_t i = 0; i < sizeof v; i++) b[i] = 0;").unwrap();
                        writeln!(source, "int before = NMSEC_BIT(&v, {n}); b[{}] = {}; printf(\"{s}.{n} %d %d\\n\", before, NMSEC_BIT(&v, {n})); }}", f.offset, 0x80 >> f.bit).unwrap();
                        writeln!(expected, "{s}.{n} 0 1").unwrap();
                    }
                    (flags(*offset), *offset, *bytes)
                }
            };
            writeln!(
                source,
                "printf(\"{s}.{name} %zu %zu\\n\", offsetof({s}, {name}), sizeof((({s} *)0)->{name}));"
            )
            .unwrap();
            writeln!(expected, "{s}.{name} {offset} {bytes}").unwrap();
        }
    }
    for (name, value, _) in lists().into_iter().flat_map(|l| l.values) {
        writeln!(source, "printf(\"{name} %lu\\n\", (unsigned long){name});").unwrap();
        writeln!(expected, "{name} {value}").unwrap();
    }
    source.push_str(
        "nmsec_put_u16(out, nmsec_u16(odd + 1));\nnmsec_put_u32(out + 2, nmsec_u32(odd + 3));\n\
         printf(\"%llx %02x%02x%02x%02x%02x%02x\\n\", (unsigned long long)nmsec_u64(odd + 1), out[0], out[1], out[2], \
         out[3], out[4], out[5]);\nreturn 0;\n}\n",
    );
    expected.push_str("102030405060708 010203040506\n");

    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("layout.c");
    std::fs::write(&path, source).unwrap();
    let output = std::process::Command::new(tools::compile(&path, "layout")).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    for (is, should) in printed.lines().zip(expected.lines()) {
        assert_eq!(is, should);
    }
    assert_eq!(printed.lines().count(), expected.lines().count());
}

/// Each field of the envelope is where its row says: distinct values are written by the crate and read by the rows.
#[test]
fn the_envelope_is_what_the_code_writes() {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let layouts = envelope();
    let read = |structure: &str, bytes: &[u8], field: &str| {
        let layout = layouts.iter().find(|l| l.name == structure).unwrap();
        assert_eq!(layout.rows.iter().map(|f| f.bits / 8).sum::<usize>(), layout.size);
        let row = layout.rows.iter().find(|f| f.name == field).unwrap();
        bytes[row.offset..row.offset + row.bits / 8].to_vec()
    };

    let mut m = MessageHeader::new(CodePage::Ascii, MessageType(0x0102));
    m.header_length = 0x0304_0506;
    m.version = 0x0708;
    m.length = 0x090A_0B0C;
    m.correlator = *b"correlat";
    m.timestamp = Time(0x0D0E_0F10);
    m.return_code = ReturnCode(0x1112_1314);
    m.reason_code = ReasonCode(0x1516_1718);
    m.reserved = 0x191A_1B1C;
    m.set_target("TCPCS1");
    m.input = InRecords { offset: 0x2101, length: 0x2202, number: 0x2303, reserved: 0x2404 };
    m.output = OutRecords { offset: 0x3101, length: 0x3202, number: 0x3303, total: 0x3404 };
    let bytes = m.to_bytes();
    let field = |name: &str| read("NMsecMessageHdr", &bytes, name);
    assert_eq!(field("NMsMIdent"), b"NMsM");
    assert_eq!(field("NMsMCorrelator"), b"correlat");
    assert_eq!(field("NMsMTarget"), b"TCPCS1                  ");
    for (name, value) in [
        ("NMsMHdrLength", 0x0304_0506),
        ("NMsMVersion", 0x0708),
        ("NMsMType", 0x0102),
        ("NMsMLength", 0x090A_0B0C),
        ("NMsMTimestamp", 0x0D0E_0F10),
        ("NMsMRc", 0x1112_1314),
        ("NMsMRsn", 0x1516_1718),
        ("NMsMRsvd1", 0x191A_1B1C),
    ] {
        assert_eq!(number(&field(name)), value, "{name}");
    }
    for (structure, at, fields) in [
        ("NMsecInRecDesc", "NMsMInRec", ["NMsMInOff", "NMsMInLen", "NMsMInNum", "NMsMInRsvd"]),
        ("NMsecOutRecDesc", "NMsMOutRec", ["NMsMOutOff", "NMsMOutLen", "NMsMOutNum", "NMsMOutTot"]),
    ] {
        let base = if at == "NMsMInRec" { 0x2101 } else { 0x3101 };
        for (i, name) in (0..).zip(fields) {
            assert_eq!(number(&read(structure, &field(at), name)), base + i * 0x101, "{name}");
        }
    }

    let cascaded = RecordBuilder::new(CodePage::Ascii).finish();
    let record = RecordBuilder::new(CodePage::Ascii)
        .all(&[LoadPolicy::default(), LoadPolicy::default(), LoadPolicy::default()])
        .cascade([cascaded.clone(), cascaded])
        .finish();
    let (head, section) = record.split_at(RECORD_HEADER_BYTES);
    assert_eq!(read("NMsecRecordHdr", head, "NMsRIdent"), b"NMsR");
    let field = |structure, bytes, name| number(&read(structure, bytes, name));
    for (name, value) in
        [("NMsRLength", 80), ("NMsRHdrLength", 36), ("NMsRNumSec", 1), ("NMsRNumCasc", 1), ("NMsRRsvd1", 0)]
    {
        assert_eq!(field("NMsecRecordHdr", head, name), value, "{name}");
    }
    for (name, value) in [("NMsSOff", 36), ("NMsSLen", 4), ("NMsSNum", 3)] {
        assert_eq!(field("NMsecSecDesc", section, name), value, "{name}");
    }
    let cascade = &section[SECTION_DESCRIPTOR_BYTES..];
    for (name, value) in [("NMsCOff", 48), ("NMsCLen", 32), ("NMsCNum", 2)] {
        assert_eq!(field("NMsecCascDesc", cascade, name), value, "{name}");
    }

    // And the document has the same rows.
    let document = std::fs::read_to_string(tools::in_crate("../docs/nmi.md")).unwrap();
    for f in layouts.iter().flat_map(|l| &l.rows) {
        let row = format!("| `{}` | {} | {} |", f.name, f.offset, f.bits / 8);
        assert!(document.contains(&row), "docs/nmi.md lacks {row}");
    }
}
