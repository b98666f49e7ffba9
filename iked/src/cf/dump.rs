//! `iked cf dump`: what stands in the coupling facility, as text. Records hold no keys, so neither does the text.

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
        // Writing to a String cannot fail.
        let _ = match plex.owner(dvipa).await? {
            None => writeln!(out, "{dvipa}: no owner"),
            Some(o) => writeln!(out, "{dvipa}: owner {} {} epoch {}", o.system, o.stack, o.epoch),
        };
        let contents = plex.read(dvipa).await?;
        for (id, epoch, r) in contents.phase1 {
            let _ = writeln!(out, "  phase1 {id} epoch {epoch} {r:?}");
        }
        for (id, epoch, r) in contents.phase2 {
            let _ = writeln!(out, "  phase2 {id} epoch {epoch} {r:?}");
        }
        for (path, reason) in contents.refused {
            let _ = writeln!(out, "  refused {}: {reason}", path.escape_debug());
        }
    }
    Ok(out)
}
