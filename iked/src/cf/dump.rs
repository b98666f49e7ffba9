//! `iked cf dump`: what stands in the coupling facility, as text. Records hold no keys, so neither does the text.

use super::RecordKey;
use super::fence::{FenceError, Sysplex};
use super::seal::SysplexKey;
use super::sled::Embedded;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

/// The records of `dvipas` in the embedded store of `folder`.
///
/// # Errors
/// The store cannot be opened (the daemon has it open while it runs), or an owner record is refused.
pub async fn dump(
    folder: &Path,
    name: &str,
    key: SysplexKey,
    dvipas: &[IpAddr],
) -> Result<String, FenceError> {
    let plex = Sysplex::new(Embedded::open(folder)?, name, key);
    let mut out = String::new();
    for &dvipa in dvipas {
        let paths = plex.paths();
        // Writing to a String cannot fail.
        let _ = match plex.owner(dvipa).await? {
            None => writeln!(out, "{} none", paths.owner(dvipa)),
            Some((o, _)) => {
                writeln!(
                    out,
                    "{} system {} stack {} epoch {}",
                    paths.owner(dvipa),
                    o.system,
                    o.stack,
                    o.epoch
                )
            }
        };
        let contents = plex.read(dvipa).await?;
        for (id, epoch, r) in contents.phase1 {
            let _ = writeln!(out, "{} epoch {epoch} {r:?}", paths.record(dvipa, RecordKey::Phase1(id)));
        }
        for (id, epoch, r) in contents.phase2 {
            let _ = writeln!(out, "{} epoch {epoch} {r:?}", paths.record(dvipa, RecordKey::Phase2(id)));
        }
        for (path, reason) in contents.refused {
            let _ = writeln!(out, "{} refused: {reason}", path.escape_debug());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::fence::Record;
    use super::super::record::{RecordId, tests};
    use super::*;

    #[tokio::test]
    async fn every_record_is_shown_with_its_path_and_a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (key, vip) = (SysplexKey::new([7; 32]), "203.0.113.10".parse().unwrap());
        let plex = Sysplex::new(Embedded::open(dir.path()).unwrap(), "P", key.clone());
        let (fence, _) = plex.claim(vip, "SYSA", "OWN", None).await.unwrap();
        let id = RecordId([1; 16]);
        let records = [
            (RecordKey::Phase1(id), Some(Record::Phase1(Box::new(tests::phase1())))),
            (RecordKey::Phase2(id), Some(Record::Phase2(Box::new(tests::phase2(id, 5))))),
        ];
        let changes = records.iter().map(|(k, r)| plex.change(&fence, *k, r.as_ref()).unwrap()).collect();
        plex.write(&fence, changes).await.unwrap();
        let e = dump(dir.path(), "P", key.clone(), &[vip]).await.unwrap_err().to_string();
        assert!(e.ends_with("is in use by another process: is iked running already?"), "{e}");
        drop(plex);
        let text = dump(dir.path(), "P", key, &[vip]).await.unwrap();
        let starts: Vec<_> = text.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "/P/dvipa/203.0.113.10/owner",
                "/P/dvipa/203.0.113.10/phase1/01010101010101010101010101010101",
                "/P/dvipa/203.0.113.10/phase2/01010101010101010101010101010101",
            ]
        );
    }
}
