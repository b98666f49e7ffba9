use super::*;
use std::cmp::Ordering;

fn caller(uid: u32, name: &str, groups: &[&str]) -> Caller {
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    Caller { uid, pid: 1, user: User { name: Some(name.to_owned()), groups } }
}

fn profiles(text: &str) -> Result<Profiles, ServauthError> {
    Profiles::parse(text, Path::new("servauth.toml"))
}

const FILE: &str = r#"
[[profile]]
name = "EZB.NETMGMT.SYSA.*.IPSEC.DISPLAY"
permit = [{ user = "monitor" }, { group = "netops" }]
[[profile]]
name = "EZB.NETMGMT.SYSA.TCPCS1.IPSEC.DISPLAY"
permit = [{ group = "netops" }]
[[profile]]
name = "EZB.NETMGMT.SYSA.SYSA.IKED.DISPLAY"
uacc = "read"
[[profile]]
class = "FACILITY"
name = "BPX.SUPERUSER"
permit = [{ group = "wheel" }]
"#;

#[test]
fn the_most_specific_profile_decides_alone() {
    let all = profiles(FILE).unwrap();
    let monitor = caller(1000, "monitor", &["users"]);
    let decide = |resource: &str, who: &Caller| all.decide(resource, who).permitted;
    assert!(decide("EZB.NETMGMT.SYSA.TGT1.IPSEC.DISPLAY", &monitor));
    assert!(
        !decide("EZB.NETMGMT.SYSA.TCPCS1.IPSEC.DISPLAY", &monitor),
        "its own profile does not list monitor"
    );
    assert!(decide("ezb.netmgmt.sysa.tcpcs1.ipsec.display", &caller(1001, "x", &["netops"])));
    assert!(decide("EZB.NETMGMT.SYSA.SYSA.IKED.DISPLAY", &caller(1002, "anybody", &[])));
}

#[test]
fn t55_what_no_profile_covers_is_for_superusers() {
    let all = profiles(FILE).unwrap();
    let control = "EZB.NETMGMT.SYSA.TCPCS1.IPSEC.CONTROL";
    assert!(all.decide(control, &caller(0, "root", &[])).permitted);
    assert!(all.decide(control, &caller(7, "admin", &["wheel"])).permitted);
    assert!(!all.decide(control, &caller(7, "monitor", &["netops"])).permitted, "display is not control");
    assert!(!Profiles::default().decide(control, &caller(7, "admin", &["wheel"])).permitted);
    let nameless = Caller { uid: 4711, pid: 1, user: User::default() };
    assert!(!all.decide(control, &nameless).permitted);
}

#[test]
fn names_cover_as_racf_says() {
    let covered = [
        ("A.B.C", "A.B.C", true),
        ("A.B", "A.B.C", false),
        ("A.*.C", "A.B.C", true),
        ("A.*.C", "A.B.B.C", false),
        ("A.*.C", "A.C", false),
        ("A.B.*", "A.B.C", true),
        ("A.B.*", "A.B.C.D", true),
        ("A.B.*", "A.B", false),
        ("*.B", "A.B", true),
        ("A.DE*.F", "A.DE.F", true),
        ("A.DE*.F", "A.DEXY.F", true),
        ("A.DE*.F", "A.DE.X.F", false),
        ("A.DE*", "A.DE", true),
        ("A.DE*", "A.DEF.G.H", true),
        ("A.DE*", "A.DF", false),
        ("A.**", "A", true),
        ("A.**", "A.B.C", true),
        ("A.**.C", "A.C", true),
        ("A.**.C", "A.X.Y.C", true),
        ("A.**.C", "A.X.Y", false),
        ("**", "A.B", true),
        ("**.B", "B", true),
        ("A.%.C", "A.B.C", true),
        ("A.%.C", "A.BB.C", false),
        ("A.B%", "A.BC", true),
        ("A.B%", "A.B", false),
        ("A.T%P*.X", "A.TCPCS1.X", true),
    ];
    for (pattern, resource, expected) in covered {
        assert_eq!(Pattern::new(pattern).unwrap().covers(resource), expected, "{pattern} {resource}");
    }
}

#[test]
fn more_specific_names_go_first() {
    let order = [
        "COPY.PAPER.TEST",
        "COPY.PAPER.%",
        "COPY.PAPER.*",
        "COPY.PAPER.**",
        "COPY.PAPER*",
        "COPY.PAP*",
        "COPY.*",
        "*.PAPER",
        "**",
    ];
    for (i, a) in order.iter().enumerate() {
        for b in &order[i + 1..] {
            let (a, b) = (Pattern::new(a).unwrap(), Pattern::new(b).unwrap());
            assert_eq!(a.specificity(&b), Ordering::Less, "{a} before {b}");
        }
    }
}

#[test]
fn t58_what_is_wrong_is_said_with_file_and_line() {
    let cases = [
        ("[[profile]]\nname = \"A..B\"", "servauth.toml:2: "),
        ("[[profile]]\nname = \"A.B*C\"", "servauth.toml:2: "),
        ("[[profile]]\nname = \"**.A.**\"", "servauth.toml:2: "),
        (
            "[[profile]]\nname = \"A.B\"\n[[profile]]\nname = \"a.b\"",
            "servauth.toml:4: profile A.B stands on line 2",
        ),
        ("[[profile]]\nname = \"A\"\npermits = []", "line 3"),
        ("[[profile]]\nname = \"A\"\npermit = [{ usr = \"x\" }]", "line 3"),
        ("[[profile]]\nname = \"A\"\nuacc = \"update\"", "line 3"),
        ("[[profile]]\nclass = \"DATASET\"\nname = \"A\"", "line 2"),
        ("[[profile]]\npermit = []", "name"),
        ("[profile", "line 1"),
    ];
    for (text, expected) in cases {
        let message = profiles(text).unwrap_err().to_string();
        assert!(message.contains("servauth.toml") && message.contains(expected), "{text:?} gave {message:?}");
    }
    // The same name in another class is another profile.
    assert!(profiles("[[profile]]\nname = \"A\"\n[[profile]]\nname = \"A\"\nclass = \"FACILITY\"").is_ok());
    assert_eq!(profiles("").unwrap(), Profiles::default());
}

#[test]
fn t58_a_file_that_others_can_write_or_that_is_huge_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("servauth.toml");
    std::fs::write(&path, FILE).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
    assert!(matches!(Profiles::load(&path), Err(ServauthError::Writable { mode: 0o664, .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Profiles::load(&path).is_ok());
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(matches!(Profiles::load(&path), Err(ServauthError::TooLarge { .. })));
    assert!(matches!(Profiles::load(dir.path().join("none").as_path()), Err(ServauthError::Read { .. })));
}

#[test]
fn the_example_is_valid() {
    let text = include_str!("../../../examples/servauth.toml");
    let all = profiles(text).unwrap();
    assert!(!all.decide("EZB.NETMGMT.SYSA.DIST.IPSEC.CONTROL", &caller(1, "daemon", &[])).permitted);
}

#[test]
fn the_systems_own_root_is_root() {
    let root = SystemUsers.user(0, 0).unwrap();
    assert_eq!(root.name.as_deref(), Some("root"));
    assert!(root.groups.contains("root"));
}

/// The system's user database with a user of 60 groups: in a mount namespace of its own, with `/etc/passwd` and
/// `/etc/group` of this test.
#[test]
fn t55_a_user_of_more_than_32_groups_has_them_all() {
    const INSIDE: &str = "IKED_TEST_MANY_GROUPS";
    if std::env::var_os(INSIDE).is_some() {
        let user = SystemUsers.user(4711, 4711).unwrap();
        let missing: Vec<_> =
            (0..60).map(|n| format!("many{n}")).filter(|g| !user.groups.contains(g)).collect();
        assert!(missing.is_empty() && user.name.as_deref() == Some("joiner"), "missing {missing:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let passwd = "root:x:0:0::/:/bin/sh\njoiner:x:4711:4711::/:/bin/false\n";
    let groups: String = (0..60).map(|n| format!("many{n}:x:{}:joiner\n", 5000 + n)).collect();
    std::fs::write(folder.path().join("passwd"), passwd).unwrap();
    std::fs::write(folder.path().join("group"), format!("root:x:0:\njoiner:x:4711:\n{groups}")).unwrap();
    let script =
        "mount --bind $0/passwd /etc/passwd && mount --bind $0/group /etc/group && exec $1 --exact $2";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg("servauth::tests::t55_a_user_of_more_than_32_groups_has_them_all")
        .env(INSIDE, "1")
        .output();
    match output {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        }
        // Without the right to mount there is nothing to look at, and that is said.
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare") => {
            eprintln!("SKIPPED: no mount namespace here: {}", String::from_utf8_lossy(&output.stderr));
        }
        other => panic!("{other:?}"),
    }
}
