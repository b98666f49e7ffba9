//! Project extension: what the distributor and the coupling facility know of a tunnel of a DVIPA (section 6.14).

use crate::code::CfRecord;
use crate::text::Text;

structure! {
    /// Distribution state of a tunnel whose local endpoint is a DVIPA.
    Dist = "NMsecDist", 64, "6.14" {
        /// The local endpoint is a DVIPA.
        [0:0 C "NMsDistDVIPA"] dvipa: bool,
        /// This SA replaces one that was lost in a takeover.
        [0:1 C "NMsDistTakenOver"] taken_over: bool,
        /// Record in the coupling facility: 0 not applicable, 1 stored, 2 failed.
        [4 C "NMsDistCFRecord"] cf_record: CfRecord,
        /// Owner epoch under which the SA was made.
        [8 C "NMsDistEpoch"] epoch: u64,
        /// Stack that is the distributor (owner) of the DVIPA.
        [16 C "NMsDistOwner"] owner: Text<24>,
        /// Stack it was taken over from, blank if none.
        [40 C "NMsDistFrom"] from: Text<24>,
    } reserved {
        [0:2 C "NMsDistRsvd1"] 30,
        [5 C "NMsDistRsvd2"] 24,
    }
}
