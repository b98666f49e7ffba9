//! Where a sysplex keeps what: keys of the store, written and read back.

use super::record::RecordId;
use std::net::IpAddr;

/// Keys of one sysplex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: String,
}

/// Key of a record of a DVIPA that its owner writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// IKE SA.
    Phase1(RecordId),
    /// Child SA.
    Phase2(RecordId),
    /// What continues an IKE SA and its children.
    Keys(RecordId),
}

/// What a key is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A stack.
    Member {
        /// System.
        system: String,
        /// Stack.
        stack: String,
    },
    /// A stack's lease.
    Alive {
        /// System.
        system: String,
        /// Stack.
        stack: String,
    },
    /// The owner of a DVIPA.
    Owner(IpAddr),
    /// A backup of a DVIPA.
    Backup(IpAddr, u8),
    /// The ceiling of a DVIPA.
    Ceiling(IpAddr),
    /// A record of a DVIPA.
    Record(IpAddr, RecordKey),
}

impl Paths {
    /// Paths of the sysplex called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { root: format!("/{}", name.to_ascii_uppercase()) }
    }

    /// Prefix of everything of the sysplex.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/", self.root)
    }

    /// Prefix of the stacks.
    #[must_use]
    pub fn members(&self) -> String {
        format!("{}/member/", self.root)
    }

    /// A stack.
    #[must_use]
    pub fn member(&self, system: &str, stack: &str) -> String {
        format!("{}{}", self.members(), stack_path(system, stack))
    }

    /// Prefix of the leases.
    #[must_use]
    pub fn alives(&self) -> String {
        format!("{}/alive/", self.root)
    }

    /// A stack's lease.
    #[must_use]
    pub fn alive(&self, system: &str, stack: &str) -> String {
        format!("{}{}", self.alives(), stack_path(system, stack))
    }

    fn dvipa(&self, dvipa: IpAddr) -> String {
        format!("{}/dvipa/{dvipa}/", self.root)
    }

    /// Prefix of everything about a DVIPA.
    #[must_use]
    pub fn everything_of(&self, dvipa: IpAddr) -> String {
        self.dvipa(dvipa)
    }

    /// The owner record of a DVIPA.
    #[must_use]
    pub fn owner(&self, dvipa: IpAddr) -> String {
        format!("{}owner", self.dvipa(dvipa))
    }

    /// Prefix of the backups of a DVIPA.
    #[must_use]
    pub fn backups(&self, dvipa: IpAddr) -> String {
        format!("{}backup/", self.dvipa(dvipa))
    }

    /// A backup of a DVIPA.
    #[must_use]
    pub fn backup(&self, dvipa: IpAddr, rank: u8) -> String {
        format!("{}{rank}", self.backups(dvipa))
    }

    /// The ceiling of a DVIPA.
    #[must_use]
    pub fn ceiling(&self, dvipa: IpAddr) -> String {
        format!("{}ceiling", self.dvipa(dvipa))
    }

    /// A record that the owner of a DVIPA writes.
    #[must_use]
    pub fn record(&self, dvipa: IpAddr, key: RecordKey) -> String {
        match key {
            RecordKey::Phase1(id) => format!("{}{id}", self.phase1(dvipa)),
            RecordKey::Phase2(id) => format!("{}{id}", self.phase2(dvipa)),
            RecordKey::Keys(id) => format!("{}{id}", self.keys(dvipa)),
        }
    }

    /// Prefix of the IKE SAs of a DVIPA.
    #[must_use]
    pub fn phase1(&self, dvipa: IpAddr) -> String {
        format!("{}phase1/", self.dvipa(dvipa))
    }

    /// Prefix of the child SAs of a DVIPA.
    #[must_use]
    pub fn phase2(&self, dvipa: IpAddr) -> String {
        format!("{}phase2/", self.dvipa(dvipa))
    }

    /// Prefix of what continues the IKE SAs of a DVIPA.
    #[must_use]
    pub fn keys(&self, dvipa: IpAddr) -> String {
        format!("{}keys/", self.dvipa(dvipa))
    }

    /// What `path` is about; `None`: it is none of ours. Only the one way in which we write a path is read.
    #[must_use]
    pub fn place(&self, path: &str) -> Option<Place> {
        let rest = path.strip_prefix(&self.root)?.strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        let place = match parts[..] {
            ["member" | "alive", system, stack] if !(is_name(system) && is_name(stack)) => return None,
            ["member", system, stack] => Place::Member { system: system.into(), stack: stack.into() },
            ["alive", system, stack] => Place::Alive { system: system.into(), stack: stack.into() },
            ["dvipa", a, "owner"] => Place::Owner(a.parse().ok()?),
            ["dvipa", a, "ceiling"] => Place::Ceiling(a.parse().ok()?),
            ["dvipa", a, "backup", rank] => Place::Backup(a.parse().ok()?, rank.parse().ok()?),
            ["dvipa", a, kind, id] => {
                let id = id.parse().ok()?;
                let key = match kind {
                    "phase1" => RecordKey::Phase1(id),
                    "phase2" => RecordKey::Phase2(id),
                    "keys" => RecordKey::Keys(id),
                    _ => return None,
                };
                Place::Record(a.parse().ok()?, key)
            }
            _ => return None,
        };
        (self.path(&place) == path).then_some(place)
    }

    /// The key of `place`.
    #[must_use]
    pub fn path(&self, place: &Place) -> String {
        match place {
            Place::Member { system, stack } => self.member(system, stack),
            Place::Alive { system, stack } => self.alive(system, stack),
            Place::Owner(dvipa) => self.owner(*dvipa),
            Place::Backup(dvipa, rank) => self.backup(*dvipa, *rank),
            Place::Ceiling(dvipa) => self.ceiling(*dvipa),
            Place::Record(dvipa, key) => self.record(*dvipa, *key),
        }
    }
}

/// What comes out of the store is logged and shown.
fn is_name(text: &str) -> bool {
    crate::config::Name::parse(text).is_ok()
}

/// Names are compared without regard to case, keys are not.
fn stack_path(system: &str, stack: &str) -> String {
    format!("{}/{}", system.to_ascii_uppercase(), stack.to_ascii_uppercase())
}

impl std::str::FromStr for RecordId {
    type Err = hex::FromHexError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        hex::decode_to_slice(digits, &mut id)?;
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places() -> impl Strategy<Value = Place> {
        let names = || ("[A-Z0-9@#$_][A-Z0-9@#$_-]{0,7}", "[A-Z0-9@#$_][A-Z0-9@#$_-]{0,7}");
        prop_oneof![
            names().prop_map(|(system, stack)| Place::Member { system, stack }),
            names().prop_map(|(system, stack)| Place::Alive { system, stack }),
            any::<IpAddr>().prop_map(Place::Owner),
            any::<IpAddr>().prop_map(Place::Ceiling),
            any::<(IpAddr, u8)>().prop_map(|(a, r)| Place::Backup(a, r)),
            (any::<IpAddr>(), any::<[u8; 16]>(), 0..3u8).prop_map(|(a, id, kind)| {
                let id = RecordId(id);
                let keys = [RecordKey::Phase1(id), RecordKey::Phase2(id), RecordKey::Keys(id)];
                Place::Record(a, keys[usize::from(kind)])
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_place_has_one_path(place in places()) {
            let paths = Paths::new("plex1");
            prop_assert_eq!(paths.place(&paths.path(&place)), Some(place));
        }

        #[test]
        fn t49_a_path_that_we_would_not_write_is_none_of_ours(tail in "[a-z0-9A-F/.:]{0,60}") {
            let paths = Paths::new("plex1");
            let path = format!("/PLEX1/{tail}");
            if let Some(place) = paths.place(&path) {
                prop_assert_eq!(paths.path(&place), path);
            }
        }
    }

    #[test]
    fn t49_other_spellings_and_other_clusters_are_refused() {
        let paths = Paths::new("PLEX1");
        let id = RecordId([0xab; 16]);
        for bad in [
            format!("/PLEX1/dvipa/203.0.113.10/phase1/{}", id.to_string().to_uppercase()),
            format!("/PLEX1/dvipa/203.0.113.010/phase1/{id}"),
            "/PLEX1/dvipa/203.0.113.10/backup/007".into(),
            "/PLEX1/dvipa/2001:DB8::1/owner".into(),
            "/PLEX2/dvipa/203.0.113.10/owner".into(),
            "/PLEX11/member/A/B".into(),
            "/PLEX1/member/sysa/tcpcs1".into(),
            "/PLEX1/member/SYSA/\u{1b}[2J".into(),
            "/PLEX1/alive/SYSA/".into(),
            "/PLEX1/alive/SYSA/NINECHARS".into(),
            "/PLEX1/dvipa/203.0.113.10/owner/".into(),
        ] {
            assert_eq!(paths.place(&bad), None, "{bad}");
        }
    }
}
