//! Every message that an operator can see: `ui/*.conf` with a snapshot each.

use policy::{Feature, Source, load_for};

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
