//! Every message that an operator can see: `ui/*.conf` with a snapshot each.

use policy::{Feature, Source, load_for};
use std::path::{Path, PathBuf};

#[test]
fn messages() {
    let folder = format!("{}/tests/ui", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let name = name.to_str().unwrap();
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        // What a stack lacks is one message; what it has can be coded wrongly in more ways.
        let supported = if name.starts_with("all_") { Feature::ALL } else { &[] };
        let shown = match load_for(&[Source::common(name, bytes)], supported) {
            Err(report) => report.to_string(),
            Ok((_, warnings)) => warnings.iter().map(|w| format!("{w}\n")).collect(),
        };
        assert!(!shown.contains("geheim"), "a message shows a shared key:\n{shown}");
        insta::assert_snapshot!(name.trim_end_matches(".conf"), shown);
    }
}

/// What only large or broken files bring about.
#[test]
fn messages_of_files_that_are_no_texts() {
    let said = |bytes: Vec<u8>| match load_for(&[Source::common("made.conf", bytes)], &[]) {
        Err(report) => report.to_string(),
        Ok((policy, _)) => panic!("accepted: {policy:?}"),
    };
    insta::assert_snapshot!("made_no_text", said(b"IpFilterPolicy\n{\xff\xfe}".to_vec()));
    insta::assert_snapshot!("made_control", said(b"IpFilterPolicy\n  \0\n".to_vec()));
    let words = said("a ".repeat(1_000_010).into_bytes());
    let one = words.split("\n\n").find(|message| message.contains("words")).unwrap();
    insta::assert_snapshot!("made_words", one);
    let word = format!("IpFilterPolicy\n{{\n  IpFilterRuleRef {}\n}}\n", "x".repeat(100_000));
    insta::assert_snapshot!("made_word", said(word.into_bytes()));
    insta::assert_snapshot!("made_large", said(vec![b'#'; policy::MAX_FILE_BYTES + 1]));
}

#[test]
fn messages_of_rules_that_multiply() {
    let group = |name: &str, members: usize| {
        let members: String = (0..members).map(|n| format!("IpAddr {{ Addr 10.0.0.{n} }}\n")).collect();
        format!("IpAddrGroup {name}\n{{\n{members}}}\n")
    };
    let rule = |name: &str, group: &str| {
        format!(
            "IpFilterRule {name}\n{{\nIpSourceAddrGroupRef {group}\nIpDestAddrGroupRef {group}\nIpGenericFilterActionRef p\n}}\n"
        )
    };
    let mut text = "IpGenericFilterAction p { IpFilterAction Permit }\nIpFilterPolicy\n{\n".to_owned();
    text += &rule("most", "large");
    (0..9).for_each(|n| text += &rule(&format!("r{n}"), "small"));
    text += "}\n";
    text += &(group("large", 100) + &group("small", 90));
    let Err(report) = load_for(&[Source::common("made.conf", text.into_bytes())], &[]) else {
        panic!("accepted")
    };
    insta::assert_snapshot!("made_filters", report.to_string());
}

/// Every message of the sources stands in a snapshot: what is in quotes behind `.error(` and its kin, with anything
/// for what is put in.
#[test]
fn every_message_has_a_snapshot() {
    // It cannot come about: whoever reads no policy has said why.
    const UNREACHABLE: &[&str] = &["the policy could not be read"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shown = String::new();
    for folder in ["tests/snapshots", "src/snapshots"] {
        for file in files(&root.join(folder)) {
            shown += &std::fs::read_to_string(file).unwrap();
        }
    }
    let mut without = Vec::new();
    for file in files(&root.join("src")).into_iter().filter(|f| f.extension().is_some_and(|e| e == "rs")) {
        let source = std::fs::read_to_string(&file).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for call in [".error(", ".warning(", ".label(", ".related(", ".help("] {
            for (at, _) in source.match_indices(call) {
                for message in literals(&source[at + call.len()..]) {
                    let known = shown.lines().any(|line| has_in_order(line, &parts(&message)));
                    if !known && !UNREACHABLE.contains(&message.as_str()) {
                        without.push(format!("{}: {message}", file.display()));
                    }
                }
            }
        }
    }
    assert!(without.is_empty(), "without a snapshot:\n{}", without.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a file of the folder").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// The string literals up to the bracket that closes a call.
fn literals(rest: &str) -> Vec<String> {
    let (mut all, mut depth) = (Vec::new(), 1);
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
                }
                all.push(text);
            }
            _ => {}
        }
    }
    all
}

/// What of a format string is always there.
fn parts(format: &str) -> Vec<&str> {
    let pieces = format.split('{').enumerate();
    let fixed =
        pieces.filter_map(|(n, piece)| if n == 0 { Some(piece) } else { piece.split_once('}').map(|p| p.1) });
    fixed.filter(|piece| !piece.is_empty()).collect()
}

fn has_in_order(line: &str, parts: &[&str]) -> bool {
    let mut rest = line;
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}
