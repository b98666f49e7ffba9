//! From options to a request that makes sense: keywords completed, selections checked.

use crate::args::{Arguments, Verb};
use crate::exit::Failure;
use crate::traffic::Packet;
use crate::{defensive, vipa};
use nmi_proto::MAX_FILTERS;
use nmi_proto::code::{FilterSet, MessageType};
use nmi_proto::control::Tunnel;
use nmi_proto::filter::InFilter;
use std::net::IpAddr;
use std::path::PathBuf;

/// What is wanted, of whom, and how it is shown.
#[derive(Debug)]
pub(crate) struct Request {
    /// Socket of the daemon.
    pub(crate) socket: PathBuf,
    /// Stack; `None`: the first active one.
    pub(crate) stack: Option<String>,
    /// Layout of the report.
    pub(crate) format: Format,
    /// JSON in place of a layout.
    pub(crate) json: bool,
    /// Nothing is shown.
    pub(crate) quiet: bool,
    /// Messages are shown on standard error.
    pub(crate) trace: bool,
    /// What.
    pub(crate) action: Action,
}

/// Layout of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Several fields a line.
    Short,
    /// One field a line.
    Detail,
    /// One entry a line.
    Wide,
}

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `-f display`
    Filters { scope: FilterScope, resolutions: bool, select: Vec<InFilter> },
    /// `-F`
    Defensive { global: bool, action: defensive::Action },
    /// `-k display`
    IkeTunnels { all: bool, cascade: bool, select: Vec<InFilter> },
    /// `-y display`
    DynamicTunnels { all: bool, view: View, select: Vec<InFilter> },
    /// `-m display`
    ManualTunnels(Vec<InFilter>),
    /// `-o display`
    PortTranslations(Vec<InFilter>),
    /// `-t`
    TrafficTest(Packet),
    /// `-w`
    Services,
    /// `-x`
    ServiceClients,
    /// `--whoami`
    Authority,
    /// `-i`
    Interfaces,
    /// `--drops`
    Drops,
    /// `--vipa`
    Distribution,
    /// `vipa`
    Vipa(vipa::Action),
    /// `-f default`, `-f reload`
    Load(FilterSet),
    /// `-k` and `-y` functions that change something.
    Control { function: Function, objects: Objects },
}

/// Which dynamic tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// Those that the stack holds.
    Stack,
    /// Those that IKE knows.
    Ike,
    /// Shadows of a distributor's tunnels at a target.
    Shadow,
}

/// `-c` of `-f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterScope {
    /// In force.
    Current,
    /// Of the profile.
    Profile,
    /// Of the policy.
    Policy,
}

/// Functions that change tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    ActivateDynamic,
    DeactivateDynamic,
    RefreshDynamic,
    DeactivateIke,
    RefreshIke,
    ActivateManual,
    DeactivateManual,
}

impl Function {
    /// Request of the management interface.
    pub(crate) const fn message(self) -> MessageType {
        match self {
            Self::ActivateDynamic => MessageType::ACTIVATE_IPTUNDYN,
            Self::DeactivateDynamic => MessageType::DEACTIVATE_IPTUNDYN,
            Self::RefreshDynamic => MessageType::REFRESH_IPTUNDYN,
            Self::DeactivateIke => MessageType::DEACTIVATE_IKETUN,
            Self::RefreshIke => MessageType::REFRESH_IKETUN,
            Self::ActivateManual => MessageType::ACTIVATE_IPTUNMANUAL,
            Self::DeactivateManual => MessageType::DEACTIVATE_IPTUNMANUAL,
        }
    }
}

/// What a control function is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Objects {
    /// `-a all`
    All,
    /// These.
    These(Vec<Tunnel>),
}

impl Request {
    /// Checks the options against each other.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let format = match &arguments.format {
            None => Format::Detail,
            Some(word) => keyword(
                "-r",
                word,
                &[("short", Format::Short), ("detail", Format::Detail), ("wide", Format::Wide)],
            )?,
        };
        let mut given = Given::of(arguments);
        let action = if let Some(Verb::Vipa { function }) = &arguments.verb {
            if let Some(option) = primary(arguments) {
                return Err(Failure::Usage(format!("{option} does not go with vipa")));
            }
            Action::Vipa(vipa::Action::new(function.as_ref())?)
        } else if let Some(word) = &arguments.filter {
            filter(word, arguments, &mut given)?
        } else if let Some(words) = &arguments.defensive {
            let action = defensive::Action::new(words, &given.take('N'), &given.take('a'))?;
            let global = given.flag('G');
            if global && arguments.stack.is_some() {
                return Err(Failure::Usage("-G is of all stacks: it goes not with -p".into()));
            }
            Action::Defensive { global, action }
        } else if let Some(word) = &arguments.ike {
            ike(word, arguments, &mut given)?
        } else if let Some(word) = &arguments.dynamic {
            dynamic(word, arguments, &mut given)?
        } else if let Some(word) = &arguments.interface {
            keyword("-i", word, &[("display", ())]).map(|()| Action::Interfaces)?
        } else if let Some(word) = &arguments.manual {
            manual(word, &mut given)?
        } else if let Some(word) = &arguments.ports {
            keyword("-o", word, &[("display", ())])?;
            let address = |a: &String| {
                a.parse().map_err(|_| Failure::Usage(format!("`{}` is no address for -n", a.escape_debug())))
            };
            let all =
                given.take('n').iter().map(|a| address(a).map(with_remote)).collect::<Result<_, _>>()?;
            Action::PortTranslations(select(&[all])?)
        } else if !arguments.test.is_empty() {
            Action::TrafficTest(Packet::parse(&arguments.test)?)
        } else if let Some(word) = &arguments.services {
            keyword("-w", word, &[("display", ())]).map(|()| Action::Services)?
        } else if let Some(word) = &arguments.clients {
            keyword("-x", word, &[("display", ())]).map(|()| Action::ServiceClients)?
        } else if arguments.whoami {
            Action::Authority
        } else if arguments.drops {
            Action::Drops
        } else {
            Action::Distribution
        };
        given.nothing_left()?;
        Ok(Self {
            socket: arguments.socket.clone(),
            stack: arguments.stack.clone(),
            format,
            json: arguments.json,
            quiet: arguments.quiet,
            trace: arguments.trace,
            action,
        })
    }
}

/// The primary option that was given.
fn primary(arguments: &Arguments) -> Option<&'static str> {
    let given = [
        ("-f", arguments.filter.is_some()),
        ("-F", arguments.defensive.is_some()),
        ("-k", arguments.ike.is_some()),
        ("-y", arguments.dynamic.is_some()),
        ("-i", arguments.interface.is_some()),
        ("-m", arguments.manual.is_some()),
        ("-o", arguments.ports.is_some()),
        ("-t", !arguments.test.is_empty()),
        ("-w", arguments.services.is_some()),
        ("-x", arguments.clients.is_some()),
        ("--whoami", arguments.whoami),
        ("--drops", arguments.drops),
        ("--vipa", arguments.vipa),
        ("--check", arguments.check.is_some()),
    ];
    given.into_iter().find_map(|(option, set)| set.then_some(option))
}

fn filter(word: &str, arguments: &Arguments, given: &mut Given) -> Result<Action, Failure> {
    #[derive(Clone, Copy)]
    enum What {
        Display,
        Load(FilterSet),
    }
    let functions = [
        ("display", What::Display),
        ("default", What::Load(FilterSet::DEFAULT)),
        ("reload", What::Load(FilterSet::POLICY)),
    ];
    let what = match keyword("-f", word, &functions)? {
        What::Load(set) => return Ok(Action::Load(set)),
        What::Display => scope(
            arguments,
            given,
            &[
                ("current", FilterScope::Current),
                ("profile", FilterScope::Profile),
                ("policy", FilterScope::Policy),
            ],
        )?,
    };
    let select = select(&[
        given.take('n').iter().map(|n| with_name(n)).collect(),
        given.take('g').iter().map(|n| with_group(n)).collect(),
        given.take('a').iter().map(|id| InFilter::tunnel(id)).collect(),
    ])?;
    let resolutions = given.flag('h');
    Ok(Action::Filters { scope: what.unwrap_or(FilterScope::Current), resolutions, select })
}

fn ike(word: &str, arguments: &Arguments, given: &mut Given) -> Result<Action, Failure> {
    let functions = [
        ("display", None),
        ("deactivate", Some(Function::DeactivateIke)),
        ("refresh", Some(Function::RefreshIke)),
    ];
    if let Some(function) = keyword("-k", word, &functions)? {
        let named = given.take('n').into_iter().map(|n| Tunnel::named(&n)).collect();
        return control(function, given, named);
    }
    let all = scope(arguments, given, &[("current", false), ("all", true)])?.unwrap_or(false);
    let cascade = given.flag('e');
    let select = select(&[
        given.take('n').iter().map(|n| with_name(n)).collect(),
        given.take('a').iter().map(|id| InFilter::tunnel(id)).collect(),
    ])?;
    Ok(Action::IkeTunnels { all, cascade, select: newest(select, all) })
}

fn dynamic(word: &str, arguments: &Arguments, given: &mut Given) -> Result<Action, Failure> {
    let functions = [
        ("display", None),
        ("activate", Some(Function::ActivateDynamic)),
        ("deactivate", Some(Function::DeactivateDynamic)),
        ("refresh", Some(Function::RefreshDynamic)),
    ];
    if let Some(function) = keyword("-y", word, &functions)? {
        let named: Vec<_> = given.take('l').into_iter().map(|n| Tunnel::named(&n)).collect();
        return control(function, given, named);
    }
    let all = scope(arguments, given, &[("current", false), ("all", true)])?.unwrap_or(false);
    let view = match (given.flag('b'), given.flag('s')) {
        (true, true) => return Err(Failure::Usage("-b goes not with -s".into())),
        (true, false) => View::Ike,
        (false, true) => View::Shadow,
        (false, false) => View::Stack,
    };
    let select = select(&[
        given.take('l').iter().map(|n| with_name(n)).collect(),
        given.take('n').iter().map(|n| with_action(n)).collect(),
        given.take('a').iter().map(|id| InFilter::tunnel(id)).collect(),
    ])?;
    let mut select = newest(select, all);
    if view == View::Shadow {
        if select.is_empty() {
            select.push(InFilter::default());
        }
        select.iter_mut().for_each(|f| f.shadow = true);
    }
    Ok(Action::DynamicTunnels { all, view, select })
}

fn manual(word: &str, given: &mut Given) -> Result<Action, Failure> {
    let functions = [
        ("display", None),
        ("activate", Some(Function::ActivateManual)),
        ("deactivate", Some(Function::DeactivateManual)),
    ];
    if let Some(function) = keyword("-m", word, &functions)? {
        let named = given.take('n').into_iter().map(|n| Tunnel::named(&n)).collect();
        return control(function, given, named);
    }
    let select = select(&[
        given.take('n').iter().map(|n| with_action(n)).collect(),
        given.take('a').iter().map(|id| InFilter::tunnel(id)).collect(),
    ])?;
    Ok(Action::ManualTunnels(select))
}

/// Objects of a control function: names, ids, or all; never nothing.
fn control(function: Function, given: &mut Given, mut named: Vec<Tunnel>) -> Result<Action, Failure> {
    let ids = given.take('a');
    let activates = function == Function::ActivateDynamic;
    let objects = if matches!(&ids[..], [one] if one.eq_ignore_ascii_case("all")) {
        if !named.is_empty() {
            return Err(Failure::Usage("-a all goes with no other selection".into()));
        }
        Objects::All
    } else {
        if activates && !ids.is_empty() {
            return Err(Failure::Usage("-y activate takes rules with -l, or -a all".into()));
        }
        named.extend(ids.iter().map(|id| Tunnel::with_id(id)));
        if named.is_empty() {
            let what = match function {
                Function::ActivateDynamic => "-l RULE or -a all",
                Function::DeactivateDynamic | Function::RefreshDynamic => "-a ID, -l RULE or -a all",
                Function::DeactivateIke | Function::RefreshIke => "-a ID, -n RULE or -a all",
                Function::ActivateManual | Function::DeactivateManual => "-a ID, -n ACTION or -a all",
            };
            return Err(Failure::Usage(format!("nothing is selected: expected {what}")));
        }
        if named.len() > nmi_proto::MAX_TUNNELS {
            let limit = nmi_proto::MAX_TUNNELS;
            return Err(Failure::Usage(format!("{} tunnels, at most {limit} at a time", named.len())));
        }
        Objects::These(named)
    };
    Ok(Action::Control { function, objects })
}

fn with_name(name: &str) -> InFilter {
    InFilter::rule(name)
}
fn with_remote(address: IpAddr) -> InFilter {
    InFilter {
        by_remote_address: true,
        ipv6: address.is_ipv6(),
        remote_address: address.into(),
        remote_prefix: if address.is_ipv6() { 128 } else { 32 },
        ..InFilter::default()
    }
}
fn with_group(group: &str) -> InFilter {
    InFilter { by_group: true, group: group.into(), ..InFilter::default() }
}
fn with_action(action: &str) -> InFilter {
    InFilter { by_vpn_action: true, vpn_action: action.into(), ..InFilter::default() }
}

/// "Or" within an option, "and" between options: one filter for each combination.
fn select(options: &[Vec<InFilter>]) -> Result<Vec<InFilter>, Failure> {
    let mut all = Vec::new();
    for option in options.iter().filter(|o| !o.is_empty()) {
        if all.is_empty() {
            all = option.clone();
        } else {
            all = all.iter().flat_map(|one| option.iter().map(|other| merged(one, other))).collect();
        }
        if all.len() > MAX_FILTERS {
            return Err(Failure::Usage(format!(
                "{} combinations of selections, at most {MAX_FILTERS} at a time",
                all.len()
            )));
        }
    }
    Ok(all)
}

/// Both selections; they are of different options, so no field is set in both.
fn merged(one: &InFilter, other: &InFilter) -> InFilter {
    let mut both = one.clone();
    if other.by_tunnel_id {
        (both.by_tunnel_id, both.tunnel_id) = (true, other.tunnel_id.clone());
    }
    if other.by_name {
        (both.by_name, both.name) = (true, other.name.clone());
    }
    if other.by_vpn_action {
        (both.by_vpn_action, both.vpn_action) = (true, other.vpn_action.clone());
    }
    if other.by_group {
        (both.by_group, both.group) = (true, other.group.clone());
    }
    both
}

/// Only the newest SA of each tunnel, unless all are wanted.
fn newest(mut select: Vec<InFilter>, all: bool) -> Vec<InFilter> {
    if all {
        return select;
    }
    if select.is_empty() {
        select.push(InFilter::default());
    }
    for filter in &mut select {
        filter.current_only = true;
    }
    select
}

fn scope<T: Clone>(
    arguments: &Arguments,
    given: &mut Given,
    scopes: &[(&str, T)],
) -> Result<Option<T>, Failure> {
    given.flag('c');
    arguments.scope.as_ref().map(|word| keyword("-c", word, scopes)).transpose()
}

/// A keyword: any case, cut to three characters at least.
fn keyword<T: Clone>(option: &str, word: &str, keywords: &[(&str, T)]) -> Result<T, Failure> {
    let lower = word.to_ascii_lowercase();
    let found = keywords.iter().find(|(k, _)| *k == lower || (lower.len() >= 3 && k.starts_with(&lower)));
    match found {
        Some((_, value)) => Ok(value.clone()),
        None => {
            let all: Vec<_> = keywords.iter().map(|(k, _)| *k).collect();
            Err(Failure::Usage(format!(
                "`{}` is no value for {option}: expected {}",
                word.escape_debug(),
                all.join(", ")
            )))
        }
    }
}

/// The selection options that were given; each function takes what it understands.
struct Given {
    values: Vec<(char, Vec<String>)>,
    flags: Vec<char>,
}

impl Given {
    fn of(arguments: &Arguments) -> Self {
        let values = [
            ('n', &arguments.names),
            ('g', &arguments.groups),
            ('a', &arguments.ids),
            ('l', &arguments.rules),
            ('N', &arguments.defensive_names),
        ];
        let flags = [
            ('s', arguments.shadow),
            ('b', arguments.ike_view),
            ('e', arguments.cascade),
            ('h', arguments.resolutions),
            ('c', arguments.scope.is_some()),
            ('G', arguments.global),
        ];
        Self {
            values: values.into_iter().filter(|(_, v)| !v.is_empty()).map(|(o, v)| (o, v.clone())).collect(),
            flags: flags.into_iter().filter_map(|(o, set)| set.then_some(o)).collect(),
        }
    }
    fn take(&mut self, option: char) -> Vec<String> {
        match self.values.iter().position(|(o, _)| *o == option) {
            Some(at) => self.values.swap_remove(at).1,
            None => Vec::new(),
        }
    }
    fn flag(&mut self, option: char) -> bool {
        let set = self.flags.contains(&option);
        self.flags.retain(|o| *o != option);
        set
    }
    /// An option that nobody took does not belong here; ignoring it would select too much.
    fn nothing_left(&self) -> Result<(), Failure> {
        let left = self.values.iter().map(|(o, _)| o).chain(&self.flags).next();
        match left {
            Some(option) => Err(Failure::Usage(format!("-{option} does not go with this function"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::Parser;

    pub(crate) fn request(line: &str) -> Result<Request, String> {
        let words = std::iter::once("ipsec").chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(words).map_err(|e| e.to_string())?;
        Request::new(&arguments).map_err(|e| e.to_string())
    }
    fn action(line: &str) -> Action {
        request(line).unwrap().action
    }
    fn refused(line: &str) -> String {
        request(line).unwrap_err()
    }

    #[test]
    fn the_default_function_is_display() {
        for line in ["-f", "-f display", "-f DIS", "-f -p TCPCS1"] {
            assert_eq!(
                action(line),
                Action::Filters { scope: FilterScope::Current, resolutions: false, select: vec![] },
                "{line}"
            );
        }
        assert_eq!(action("-i"), Action::Interfaces);
        assert_eq!(action("-m"), Action::ManualTunnels(vec![]));
        assert_eq!(action("-o"), Action::PortTranslations(vec![]));
        assert_eq!((action("-w"), action("-x dis")), (Action::Services, Action::ServiceClients));
        assert_eq!(action("--whoami"), Action::Authority);
        assert_eq!(action("--drops"), Action::Drops);
        assert_eq!(action("--vipa"), Action::Distribution);
    }

    #[test]
    fn keywords_are_cut_to_three_characters_and_no_further() {
        assert_eq!(action("-f DEF"), Action::Load(FilterSet::DEFAULT));
        assert_eq!(action("-f rel"), Action::Load(FilterSet::POLICY));
        assert_eq!(request("-f -r wid").unwrap().format, Format::Wide);
        for line in ["-f de", "-f displayed", "-r sh -f", "-f current"] {
            assert!(refused(line).contains("is no value for"), "{line}");
        }
    }

    #[test]
    fn tunnels_show_their_newest_sa_unless_all_are_wanted() {
        let Action::DynamicTunnels { select, .. } = action("-y") else { panic!() };
        assert_eq!(select, [InFilter { current_only: true, ..InFilter::default() }]);
        let Action::IkeTunnels { select, all, cascade } = action("-k -c all -e") else { panic!() };
        assert!(all && cascade && select.is_empty());
    }

    #[test]
    fn shadows_and_translations_are_selected() {
        let Action::DynamicTunnels { select, view, .. } = action("-y -s") else { panic!() };
        assert!(view == View::Shadow && select[0].shadow && select[0].current_only);
        let Action::DynamicTunnels { select, .. } = action("-y -s -c all") else { panic!() };
        assert!(select[0].shadow && !select[0].current_only);
        assert!(refused("-y -s -b").contains("goes not with"));
        let Action::PortTranslations(select) = action("-o -n 203.0.113.5") else { panic!() };
        assert!(select[0].by_remote_address && select[0].remote_prefix == 32);
        assert!(refused("-o -n somewhere").contains("is no address"));
        let Action::ManualTunnels(select) = action("-m display -n staticLab -a M1") else { panic!() };
        assert!(select[0].by_vpn_action && select[0].by_tunnel_id);
        let Action::Control { function, .. } = action("-m activate -n staticLab") else { panic!() };
        assert_eq!(function, Function::ActivateManual);
    }

    #[test]
    fn or_within_an_option_and_between_options() {
        let Action::DynamicTunnels { select, .. } = action("-y display -a Y1 Y2 -l a b c") else { panic!() };
        assert_eq!(select.len(), 6);
        assert!(select.iter().all(|f| f.by_tunnel_id && f.by_name && f.current_only && !f.by_vpn_action));
        let many: Vec<_> = (0..11).map(|n| n.to_string()).collect();
        let line = format!("-f -n {} -g {}", many.join(" "), many.join(" "));
        assert!(refused(&line).contains("121 combinations"));
    }

    #[test]
    fn control_functions_need_a_selection() {
        for line in ["-y activate", "-y deactivate", "-y refresh", "-k deactivate", "-k refresh"] {
            assert!(refused(line).starts_with("nothing is selected"), "{line}");
        }
        let Action::Control { function, objects } = action("-y deactivate -a ALL") else { panic!() };
        assert_eq!((function, objects), (Function::DeactivateDynamic, Objects::All));
        let Action::Control { objects, .. } = action("-y act -l one two") else { panic!() };
        assert_eq!(objects, Objects::These(vec![Tunnel::named("one"), Tunnel::named("two")]));
        let Action::Control { objects, .. } = action("-k ref -a K1 K2") else { panic!() };
        assert_eq!(objects, Objects::These(vec![Tunnel::with_id("K1"), Tunnel::with_id("K2")]));
        assert!(refused("-y activate -a Y1").contains("-l"));
        assert!(refused("-y deactivate -a all -l x").contains("no other selection"));
    }

    #[test]
    fn t59_options_that_do_not_belong_together_are_refused() {
        for line in ["-f -l x", "-k -b", "-y -e", "-i -a x", "--drops -n x", "-f default -n x", "-i -c all"] {
            assert!(refused(line).contains("does not go with this function"), "{line}");
        }
        for line in ["", "-f -k", "-X", "-y --vipa", "-f --json -r short"] {
            assert!(request(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
