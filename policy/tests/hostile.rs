//! T58: configuration that is broken, hostile, huge or only half there. And properties that hold for any text.

use policy::model::{AddressRange, Name, PortRange};
use policy::{Report, Severity, Source, load};
use proptest::prelude::*;

fn refused(bytes: impl Into<Vec<u8>>) -> Report {
    match load(&[Source::common("policy.conf", bytes.into())]) {
        Err(report) => report,
        Ok(_) => panic!("accepted"),
    }
}

fn only_message(report: &Report) -> &str {
    assert_eq!(report.diagnostics.len(), 1, "{report}");
    &report.diagnostics[0].message
}

const SAMPLE: &str = include_str!("accept/everything.conf");

#[test]
fn t58_no_file_an_empty_file_and_comments_only() {
    assert!(load(&[]).is_err());
    for text in ["", "\n\n", "# nothing\n"] {
        assert_eq!(only_message(&refused(text)), "there is no IpFilterPolicy");
    }
}

#[test]
fn t58_binary_files() {
    assert_eq!(
        only_message(&refused(b"\x7fELF\x02\x01\x01\0".to_vec())),
        "the file holds a control character: it is not a policy text"
    );
    assert_eq!(only_message(&refused(b"IpFilterPolicy\n{\xff\xfe}".to_vec())), "the file is not UTF-8 text");
    let report = refused(b"ab\n  \0".to_vec());
    assert_eq!((report.diagnostics[0].place.line, report.diagnostics[0].place.column), (2, 3));
}

#[test]
fn t58_too_large_files_and_words() {
    assert_eq!(only_message(&refused(vec![b'#'; 100 << 20])), "the file has 104857600 bytes");
    let report = refused(format!("IpFilterPolicy\n{{\n  IpFilterRuleRef {}\n}}\n", "x".repeat(100_000)));
    assert_eq!(report.diagnostics[0].message, "a word of 100000 bytes");
    assert!(report.to_string().len() < 2_000);
    let report = refused("a ".repeat(2_000_000));
    assert!(report.to_string().contains("more than 1000000 words"));
}

#[test]
fn t58_blocks_without_end() {
    let report = refused("IpFilterPolicy { ".repeat(200_000));
    assert!(report.errors() > 0 && report.diagnostics.len() <= policy::report::MAX_DIAGNOSTICS);
    let report = refused("}\n".repeat(100_000));
    assert_eq!(report.errors(), 100_000);
}

#[test]
fn t58_half_written_files_are_refused_or_whole() {
    let whole = load(&[Source::common("p", SAMPLE.into())]).unwrap().0;
    for cut in (0..SAMPLE.len()).filter(|i| SAMPLE.is_char_boundary(*i)) {
        let text = &SAMPLE[..cut];
        match load(&[Source::common("p", text.into())]) {
            // Only where everything that is referred to is there; then nothing may be missing.
            Ok((policy, _)) => {
                assert!(text.trim_end().ends_with("\n}"), "accepted at byte {cut}");
                assert_eq!(policy.filter, whole.filter);
            }
            Err(report) => assert!(report.errors() > 0),
        }
    }
}

#[test]
fn t58_rules_that_multiply() {
    let mut text = String::from("IpAddrGroup g\n{\n");
    for i in 0..200 {
        text += &format!("IpAddr {{ Addr 10.0.{i}.1 }}\n");
    }
    text += "}\nIpGenericFilterAction p { IpFilterAction Permit }\nIpFilterPolicy\n{\n";
    for i in 0..4_000 {
        text += &format!(
            "IpFilterRule r{i}\n{{\nIpSourceAddrGroupRef g\nIpDestAddrGroupRef g\nIpGenericFilterActionRef p\n}}\n"
        );
    }
    text += "}\n";
    let report = refused(text);
    assert!(report.diagnostics[0].message.contains("becomes 80000 filters"), "{report}");
}

#[test]
fn many_faults_are_counted_and_the_first_ones_shown() {
    let report = refused("Nonsense\n".repeat(5_000));
    assert_eq!(report.diagnostics.len(), policy::report::MAX_DIAGNOSTICS);
    assert_eq!(report.errors(), 5_001);
}

#[test]
fn carriage_returns_tabs_and_a_byte_order_mark() {
    let text = format!("\u{feff}{}", SAMPLE.replace('\n', "\r\n").replace("  ", "\t"));
    let loaded = load(&[Source::common("p", text.into_bytes())]).unwrap().0;
    assert_eq!(loaded, load(&[Source::common("p", SAMPLE.into())]).unwrap().0);
}

#[test]
fn escape_codes_in_names_are_shown_not_sent() {
    let Err(report) = load(&[Source::common("a\u{1b}[31m.conf", b"Nonsense\n".to_vec())]) else {
        panic!("accepted")
    };
    assert!(!report.to_string().contains('\u{1b}'));
}

#[test]
fn blocks_of_the_stack_replace_those_of_the_common_file() {
    let common = "IpFilterPolicy\n{\nIpFilterRuleRef all\n}\nIpFilterRule all\n{\nIpGenericFilterAction { IpFilterAction Permit }\n}\n";
    let own = "IpFilterPolicy\n{\nFilterLogging Off\nIpFilterRuleRef all\n}\n";
    let files = [Source::common("common.conf", common.into()), Source::stack("own.conf", own.into())];
    let (policy, warnings) = load(&files).unwrap();
    assert!(!policy.filter.logging);
    assert_eq!(policy.filter.rules.len(), 1);
    assert!(warnings.is_empty(), "{warnings:?}");
    let (again, _) = load(&[files[1].clone(), files[0].clone()]).unwrap();
    assert_eq!(again, policy);
}

#[test]
fn a_shared_key_is_never_printed() {
    let (policy, _) = load(&[Source::common("p", SAMPLE.into())]).unwrap();
    let shown = format!("{policy:?}");
    assert!(shown.contains("Secret(13 bytes)"));
    assert!(!shown.contains("not#a-comment"));
}

/// Pieces of the language, so that random text gets beyond the first word.
fn piece() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = SAMPLE.split_whitespace().collect();
    prop_oneof![
        6 => proptest::sample::select(words).prop_map(str::to_owned),
        2 => proptest::sample::select(vec!["\n", "\n{\n", "\n}\n", "{", "}", "#"]).prop_map(str::to_owned),
        1 => "[ -~\\t]{0,12}",
        1 => any::<char>().prop_map(|c| c.to_string()),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(pieces in proptest::collection::vec(piece(), 0..200)) {
        let text = pieces.join(" ");
        if let Err(report) = load(&[Source::common("p", text.into_bytes())]) {
            prop_assert!(report.errors() > 0);
            prop_assert!(report.diagnostics.iter().any(|d| d.severity == Severity::Error));
            let _ = report.to_string();
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = load(&[Source::common("p", bytes)]).map_err(|r| r.to_string());
    }

    #[test]
    fn one_changed_byte_is_accepted_or_reported(at in 0..SAMPLE.len(), byte in any::<u8>()) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = load(&[Source::common("p", bytes)]).map_err(|r| r.to_string());
    }

    #[test]
    fn what_an_address_parameter_says_is_what_the_filter_matches(a in any::<u32>(), b in any::<u32>(), low in any::<u16>(), high in any::<u16>()) {
        let (from, to) = (std::net::Ipv4Addr::from(a.min(b)), std::net::Ipv4Addr::from(a.max(b)));
        let (low, high) = (low.min(high), low.max(high));
        let text = format!("IpFilterPolicy\n{{\nIpFilterRule r\n{{\nIpSourceAddr {from}-{to}\nIpService\n{{\nProtocol tcp\nSourcePortRange {low} {high}\n}}\nIpGenericFilterAction {{ IpFilterAction Deny }}\n}}\n}}\n");
        let (policy, _) = load(&[Source::common("p", text.into_bytes())]).unwrap();
        let filters: Vec<_> = policy::compile::filters(&policy).collect();
        prop_assert_eq!(filters.len(), 2);
        let range = AddressRange::new(from.into(), to.into()).unwrap();
        let ports = if high == 0 { PortRange::ANY } else { PortRange::new(low, high).unwrap() };
        prop_assert_eq!((filters[0].source, filters[0].source_ports), (range, ports));
        prop_assert_eq!((filters[1].destination, filters[1].destination_ports), (range, ports));
        prop_assert_eq!(filters[0].destination, AddressRange::ALL_V4);
    }

    #[test]
    fn a_name_is_kept_or_refused(text in "\\PC{0,40}") {
        if let Ok(name) = Name::new(&text) {
            prop_assert_eq!(name.as_str(), text.as_str());
            prop_assert!(text.len() <= Name::MAX);
        }
    }
}
