//! How much more this host can do, for the `wlm` method: 100 is an idle host.
//!
//! By itself the stack takes the load average of the last minute: with as many running tasks as CPUs the capacity is 50,
//! with three times as many 25. A program of the operator that knows better writes a number from 0 to 100 into a file
//! beside the control socket (`NAME.capacity`); it counts as long as the file is there.

use std::path::{Path, PathBuf};

const LOAD: &str = "/proc/loadavg";
/// A file that says more than this says nothing.
const MAX_FILE: usize = 64;

/// Where the capacity comes from.
#[derive(Debug)]
pub struct Capacity {
    file: PathBuf,
    cpus: usize,
    complained: bool,
}

impl Capacity {
    /// With the file of the operator, which need not be there.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { file, cpus, complained: false }
    }

    /// The capacity now, 0 to 100.
    pub fn look(&mut self) -> u8 {
        if let Some(text) = read(&self.file) {
            match text.trim().parse() {
                Ok(capacity @ 0..=100) => {
                    self.complained = false;
                    return capacity;
                }
                _ if !self.complained => {
                    tracing::warn!(file = %self.file.display(), "{text:?} is no capacity from 0 to 100");
                    self.complained = true;
                }
                _ => {}
            }
        }
        read(Path::new(LOAD)).and_then(|text| of_load(&text, self.cpus)).unwrap_or(100)
    }
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let file = std::fs::File::open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_FILE as u64).read_to_string(&mut text).ok()?;
    Some(text)
}

/// 100 / (1 + load / CPUs).
fn of_load(text: &str, cpus: usize) -> Option<u8> {
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    let cpus = f64::from(u32::try_from(cpus).ok()?);
    let capacity = 100.0 / (1.0 + load.max(0.0) / cpus);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
    let rounded = capacity.round() as u8;
    Some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_makes_the_capacity() {
        for (text, cpus, capacity) in [
            ("0.00 0.01 0.05 1/80 1", 2, 100),
            ("2.00 0 0 1/1 1", 2, 50),
            ("6.00 0 0 1/1 1", 2, 25),
            ("4000 0 0", 1, 0),
            ("-1 0 0", 1, 100),
        ] {
            assert_eq!(of_load(text, cpus), Some(capacity), "{text}");
        }
        assert_eq!(of_load("", 1), None);
    }

    #[test]
    fn the_file_of_the_operator_counts_while_it_makes_sense() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("T1.capacity");
        let mut c = Capacity::new(file.clone());
        let own = c.look();
        assert!(own <= 100);
        std::fs::write(&file, "0\n").unwrap();
        assert_eq!(c.look(), 0);
        std::fs::write(&file, "100").unwrap();
        assert_eq!(c.look(), 100);
        for nonsense in ["101", "-1", "many", ""] {
            std::fs::write(&file, nonsense).unwrap();
            assert!(c.look() <= 100);
        }
    }
}
