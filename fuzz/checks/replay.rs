//! Gives a check every file of its corpus, in an ordinary test.

/// Runs `check` on each file of `fuzz/corpus/<target>`.
#[allow(clippy::print_stdout, reason = "shown with a failure: which file it was")]
pub(crate) fn replay(target: &str, check: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    assert!(!files.is_empty(), "no corpus in {}", folder.display());
    files.sort();
    for file in files {
        println!("{}", file.display());
        check(&std::fs::read(file).expect("a readable file"));
    }
}
