//! The IKE core imports nothing of this crate but itself, and neither sockets, files, clocks nor an async runtime.

use std::path::Path;

#[test]
fn the_ike_core_is_pure() {
    let mut files = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ike")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                let code = line.split("//").next().unwrap();
                let foreign =
                    code.match_indices("crate::").any(|(at, _)| !code[at..].starts_with("crate::ike"));
                let impure =
                    ["tokio", "nix::", "std::fs", "std::net::Udp", "std::net::Tcp", "SystemTime", "SysRng"];
                let impure = impure.iter().any(|word| code.contains(word));
                assert!(!foreign && !impure, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(files > 40, "{files} files");
}
