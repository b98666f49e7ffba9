//! What tests need of other languages: their compilers and interpreters, which need not be installed everywhere.
#![allow(dead_code, reason = "each test that is made of this uses a part of it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether `program` runs here. If not, says so past the capture of the test's output: a test that looked at
/// nothing must not look like one that passed.
pub(crate) fn is_installed(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no {program} on this machine");
    }
    found
}

/// The C compiler: `$CC`, or `cc`.
pub(crate) fn c_compiler() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".to_owned())
}

/// A file of this crate.
pub(crate) fn in_crate(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compiles one C file against `nmsec.h`, every warning an error. Call [`is_installed`] first.
pub(crate) fn compile(source: &Path, name: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = Command::new(c_compiler())
        .args([
            "-std=c11",
            "-D_POSIX_C_SOURCE=200809L",
            "-Wall",
            "-Wextra",
            "-Wconversion",
            "-pedantic",
            "-Werror",
        ])
        .arg("-I")
        .arg(in_crate("include"))
        .arg(source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    program
}
