//! Profile text to [`Profile`]. Every fault is reported; reading goes on at the next statement.

use super::{
    DEFAULT_WEIGHT, DefaultRule, Distribution, DynamicXcf, Ipsec, MAX_AFFINITY_SECS, Method, Moveable,
    Profile, Target, Vipa, VipaRole,
};
use crate::ast::Word;
use crate::lex::MAX_WORDS;
use crate::model::{AddressRange, ByteRange, Connect, Direction, PortRange, Routing};
use crate::report::{Diagnostic, Findings, Report, escaped};
use crate::source::{Source, Span};
use crate::statement::value::number;
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// DVIPAs of a profile (VIPADYNAMIC statement).
const MAX_VIPAS: usize = 1_024;
/// SECCLASS of a link where it is not coded.
const LINK_CLASS: u8 = 255;
/// Statements of VIPADYNAMIC; in capitals what cannot be left out.
const VIPA_STATEMENTS: [&str; 7] =
    ["VIPADEFine", "VIPABackup", "VIPADELete", "VIPADISTribute", "VIPARange", "VIPARoute", "VIPASMparms"];

/// Reads the profile of one stack. `Ok` carries warnings, `Err` everything that was found.
pub fn load(file: &Source) -> Result<(Profile, Vec<Diagnostic>), Report> {
    let files = std::slice::from_ref(file);
    let mut findings = Findings::new(files);
    let words = words(file, &mut findings);
    let mut reader = Reader { words: &words, next: 0, findings, profile: Profile::default() };
    reader.profile();
    let Reader { findings, profile, .. } = reader;
    Ok((profile, findings.finish()?))
}

/// The words of a profile without its comments.
fn words<'a>(source: &'a Source, findings: &mut Findings<'_>) -> Vec<Word<'a>> {
    let at = |start: usize, end: usize| Span { file: 0, start, end };
    let Some(text) = source.text(0, findings) else { return Vec::new() };
    if text.contains('\0') {
        findings.error(at(0, 0), "the file holds NUL bytes: it is not a profile");
        return Vec::new();
    }
    let mut words = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.find(';').map_or(line, |comment| line.get(..comment).unwrap_or_default());
        let mut offset = 0;
        for piece in code.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            if !word.is_empty() {
                let start = line_start + offset;
                if words.len() == MAX_WORDS {
                    findings
                        .error(
                            at(start, start + word.len()),
                            format!("the file has more than {MAX_WORDS} words"),
                        )
                        .label("the rest was not read");
                    return words;
                }
                words.push(Word { text: word, span: at(start, start + word.len()) });
            }
            offset += piece.len();
        }
        line_start += line.len();
    }
    words
}

/// Whether `text` is the keyword, as far as it may be shortened: what is in capitals has to be there.
fn is(text: &str, keyword: &str) -> bool {
    let needed = keyword.chars().take_while(|c| !c.is_lowercase()).count();
    text.len() >= needed && keyword.get(..text.len()).is_some_and(|k| k.eq_ignore_ascii_case(text))
}

struct Reader<'w, 'a, 's> {
    words: &'w [Word<'a>],
    next: usize,
    findings: Findings<'s>,
    profile: Profile,
}

impl<'a> Reader<'_, 'a, '_> {
    fn peek(&self) -> Option<Word<'a>> {
        self.words.get(self.next).copied()
    }
    fn take(&mut self) -> Option<Word<'a>> {
        let word = self.peek();
        self.next += usize::from(word.is_some());
        word
    }
    fn take_if(&mut self, keyword: &str) -> bool {
        let taken = self.peek().is_some_and(|w| is(w.text, keyword));
        self.next += usize::from(taken);
        taken
    }
    /// A value, read by `read`; a fault says what was expected, and the word stays.
    fn value<T>(&mut self, of: Word<'_>, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let Some(word) = self.peek() else {
            self.findings
                .error(of.span, format!("{} without a value", escaped(of.text)))
                .label(format!("expected {expected}"));
            return None;
        };
        let value = read(word.text);
        if value.is_some() {
            self.next += 1;
        } else {
            self.findings
                .error(word.span, format!("`{}` is no value for {}", escaped(word.text), escaped(of.text)))
                .label(format!("expected {expected}"));
        }
        value
    }
    fn byte(&mut self, of: Word<'_>, low: u8, high: u8) -> Option<u8> {
        self.value(of, &format!("a number from {low} to {high}"), |text| {
            number(text).and_then(|n| u8::try_from(n).ok()).filter(|n| (low..=high).contains(n))
        })
    }

    fn profile(&mut self) {
        let mut seen = false;
        while let Some(word) = self.take() {
            if word.text.eq_ignore_ascii_case("IPCONFIG") || word.text.eq_ignore_ascii_case("IPCONFIG6") {
                self.ipconfig(word.text.len() > "IPCONFIG".len());
            } else if word.text.eq_ignore_ascii_case("IPSEC") {
                let block = self.ipsec(word);
                if seen {
                    self.findings
                        .warning(word.span, "a second IPSEC block is ignored")
                        .label("the first one counts");
                } else {
                    self.profile.ipsec = Some(block);
                }
                seen = true;
            } else if word.text.eq_ignore_ascii_case("VIPADYNAMIC") {
                self.vipadynamic(word);
            }
        }
        let without = self.profile.ipsec.is_some() && !self.profile.ipsecurity && !self.profile.ipsecurity6;
        if without && let Some(word) = self.words.iter().find(|w| w.text.eq_ignore_ascii_case("IPSEC")) {
            self.findings
                .warning(word.span, "the IPSEC block has no effect")
                .label("expected IPCONFIG IPSECURITY before it");
        }
    }

    /// Options up to the first word that is none of ours: those of others are skipped by the caller.
    fn ipconfig(&mut self, v6: bool) {
        loop {
            if self.take_if("IPSECURITY") {
                *(if v6 { &mut self.profile.ipsecurity6 } else { &mut self.profile.ipsecurity }) = true;
            } else if self.take_if("SYSPLEXROUTing") {
                self.profile.sysplex_routing = true;
            } else if self.peek().is_some_and(|w| is(w.text, "DYNAMICXCF")) {
                let xcf = self.dynamic_xcf(v6);
                *(if v6 { &mut self.profile.xcf6 } else { &mut self.profile.xcf4 }) = xcf;
            } else {
                return;
            }
        }
    }

    fn dynamic_xcf(&mut self, v6: bool) -> Option<DynamicXcf> {
        let word = self.take()?;
        let (address, prefix) = if v6 {
            let net = self.value(word, "an IPv6 address, or address/length", |text| {
                let single = || text.parse::<Ipv6Addr>().ok().map(|a| (IpAddr::V6(a), 128));
                single().or_else(|| {
                    text.parse::<IpNet>()
                        .ok()
                        .filter(|n| n.addr().is_ipv6())
                        .map(|n| (n.addr(), n.prefix_len()))
                })
            })?;
            if self.take_if("INTFID") {
                self.take();
            }
            net
        } else {
            let address = self.value(word, "an IPv4 address", |text| text.parse::<Ipv4Addr>().ok())?;
            let prefix = self.value(word, "a network mask", mask)?;
            self.value(word, "a metric from 0 to 15", |text| number(text).filter(|n| *n <= 15))?;
            (IpAddr::V4(address), prefix)
        };
        let security_class = match self.peek().filter(|w| is(w.text, "SECClass")) {
            Some(word) => {
                self.next += 1;
                self.byte(word, 1, 255)?
            }
            None => LINK_CLASS,
        };
        Some(DynamicXcf { address, prefix, security_class })
    }

    fn ipsec(&mut self, start: Word<'_>) -> Ipsec {
        let mut block = Ipsec::default();
        while let Some(word) = self.take() {
            let option = |name: &str| is(word.text, name);
            if option("ENDIPSEC") {
                return block;
            }
            let is_rule = option("IPSECRule") || option("IPSEC6Rule");
            if !is_rule && !block.rules.is_empty() && is_option(word.text) {
                self.findings
                    .error(word.span, "an option behind the rules")
                    .label("options stand before the rules");
            }
            match () {
                () if is_rule => match self.rule(word, option("IPSEC6Rule")) {
                    Some(rule) => block.rules.push(rule),
                    None => self.skip_to(ends_rule),
                },
                () if option("DVIPSEC") => block.dvipsec = true,
                () if option("NODVLOCALFLTR") => block.dv_local_filter = false,
                () if option("DVLOCALFLTR") => block.dv_local_filter = true,
                () if option("LOGENable") => block.log = true,
                () if option("LOGDISable") => block.log = false,
                () if option("LOGIMPlicit") => block.log_implicit = true,
                () if option("NOLOGIMPlicit") => block.log_implicit = false,
                () => {
                    self.findings
                        .error(word.span, format!("`{}` is no part of IPSEC", escaped(word.text)))
                        .label("expected an option, IPSECRULE, IPSEC6RULE or ENDIPSEC")
                        .did_you_mean(word.text, IPSEC_WORDS);
                    self.skip_to(ends_rule);
                }
            }
        }
        self.findings.error(start.span, "the IPSEC block is not closed").label("expected ENDIPSEC");
        block
    }

    fn skip_to(&mut self, stop: impl Fn(&str) -> bool) {
        while self.peek().is_some_and(|w| !stop(w.text)) {
            self.next += 1;
        }
    }

    fn rule(&mut self, at: Word<'_>, v6: bool) -> Option<DefaultRule> {
        let source = self.rule_address(at, v6)?;
        let destination = self.rule_address(at, v6)?;
        let mut rule = DefaultRule::new(source, destination);
        while let Some(word) = self.peek() {
            let option = |name: &str| is(word.text, name);
            if ends_rule(word.text) || is_option(word.text) {
                break;
            }
            self.next += 1;
            match () {
                () if option("LOG") => rule.log = true,
                () if option("NOLOG") => rule.log = false,
                () if option("PROTOcol") => {
                    rule.protocol =
                        self.value(word, "*, TCP, UDP, ICMP, ICMPV6, OSPF or a number", protocol)?;
                }
                () if option("SRCPort") => rule.source_ports = self.ports(word)?,
                () if option("DESTport") => rule.destination_ports = self.ports(word)?,
                () if option("TYPE") => rule.kind = self.bytes(word)?,
                () if option("CODE") => rule.code = self.bytes(word)?,
                () if option("SECClass") => rule.security_class = self.byte(word, 0, 255)?,
                () if option("FRAGmentsonly") => rule.fragments_only = true,
                () if option("ROUTING") => {
                    rule.routing = self.value(word, "LOCAL, ROUTED or EITHER", |text| match () {
                        () if is(text, "LOCAL") => Some(Routing::Local),
                        () if is(text, "ROUTED") => Some(Routing::Routed),
                        () if is(text, "EITHER") => Some(Routing::Either),
                        () => None,
                    })?;
                }
                () if option("DIRECTion") => rule.direction = self.direction(word)?,
                () => {
                    self.findings
                        .error(word.span, format!("IPSECRULE has no option `{}`", escaped(word.text)))
                        .label("expected an option of IPSECRULE, or ENDIPSEC")
                        .did_you_mean(word.text, RULE_WORDS);
                    return None;
                }
            }
        }
        let mut misfit = |asks: bool, fits: bool, what: &str| {
            if asks && !fits {
                self.findings
                    .error(at.span, format!("{what} does not go with the PROTOCOL of this rule"))
                    .label("the protocol has none");
            }
        };
        let any_port = rule.source_ports.is_any() && rule.destination_ports.is_any();
        misfit(!any_port, matches!(rule.protocol, Some(6 | 17 | 132)), "SRCPORT or DESTPORT");
        misfit(
            rule.kind.is_some() || rule.code.is_some(),
            matches!(rule.protocol, Some(1 | 58 | 89 | 135)),
            "TYPE or CODE",
        );
        Some(rule)
    }

    /// `*`, address, address/length, `a-b` or `a - b`.
    fn rule_address(&mut self, of: Word<'_>, v6: bool) -> Option<AddressRange> {
        let expected = if v6 {
            "*, or an IPv6 address, prefix or range"
        } else {
            "*, or an IPv4 address, prefix or range"
        };
        let low = self.value(of, expected, |text| {
            let any = if v6 { AddressRange::ALL_V6 } else { AddressRange::ALL_V4 };
            let one = || text.parse::<IpAddr>().ok().map(AddressRange::single);
            let net = || text.parse::<IpNet>().ok().map(AddressRange::prefix);
            let range = || {
                let (a, b) = text.split_once('-')?;
                AddressRange::new(a.parse().ok()?, b.parse().ok()?)
            };
            let found = if text == "*" { Some(any) } else { one().or_else(net).or_else(range) };
            found.filter(|r| r.is_ipv4() != v6)
        })?;
        if low.as_single().is_some() && self.peek().is_some_and(|w| w.text == "-") {
            self.next += 1;
            return self.value(of, "the upper end of the range", |text| {
                AddressRange::new(low.low(), text.parse().ok()?)
            });
        }
        Some(low)
    }

    /// `*`, `n`, `n m` or `n-m`.
    fn pair(&mut self, of: Word<'_>, limit: u32) -> Option<Option<(u32, u32)>> {
        if self.take_if("*") {
            return Some(None);
        }
        let in_limit = |n: &u32| *n <= limit;
        let (low, high) =
            self.value(of, &format!("*, a number or a range up to {limit}"), |text| {
                match text.split_once('-') {
                    Some((a, b)) => number(a).zip(number(b)).filter(|(a, b)| a <= b && in_limit(b)),
                    None => number(text).filter(in_limit).map(|n| (n, n)),
                }
            })?;
        let second =
            self.peek().and_then(|w| number(w.text)).filter(|n| low == high && low < *n && in_limit(n));
        self.next += usize::from(second.is_some());
        Some(Some((low, second.unwrap_or(high))))
    }

    fn ports(&mut self, of: Word<'_>) -> Option<PortRange> {
        Some(match self.pair(of, u32::from(u16::MAX))? {
            None | Some((0, 0)) => PortRange::ANY,
            Some((low, high)) => PortRange::new(u16::try_from(low).ok()?, u16::try_from(high).ok()?)?,
        })
    }

    fn bytes(&mut self, of: Word<'_>) -> Option<Option<ByteRange>> {
        Some(match self.pair(of, u32::from(u8::MAX))? {
            None => None,
            Some((low, high)) => Some(ByteRange::new(u8::try_from(low).ok()?, u8::try_from(high).ok()?)?),
        })
    }

    fn direction(&mut self, of: Word<'_>) -> Option<Direction> {
        let direction = self.value(of, "BIDIRECTIONAL, INBOUND or OUTBOUND", |text| match () {
            () if is(text, "BIDIRECTional") => Some(Direction::Bidirectional(Connect::Either)),
            () if is(text, "INBound") => Some(Direction::Inbound),
            () if is(text, "OUTBound") => Some(Direction::Outbound),
            () => None,
        })?;
        Some(match direction {
            Direction::Bidirectional(_) if self.take_if("INBConnect") => {
                Direction::Bidirectional(Connect::Inbound)
            }
            Direction::Bidirectional(_) if self.take_if("OUTBConnect") => {
                Direction::Bidirectional(Connect::Outbound)
            }
            other @ (Direction::Bidirectional(_) | Direction::Inbound | Direction::Outbound) => other,
        })
    }

    fn vipadynamic(&mut self, start: Word<'_>) {
        let ends = |text: &str| is(text, "ENDVIPADYNAMIC") || VIPA_STATEMENTS.iter().any(|s| is(text, s));
        while let Some(word) = self.take() {
            let statement = |name: &str| is(word.text, name);
            let done = match () {
                () if statement("ENDVIPADYNAMIC") => return,
                () if statement("VIPADEFine") => self.vipa(word, VipaRole::Owner),
                () if statement("VIPABackup") => {
                    let rank = self.peek().and_then(|w| number(w.text));
                    let rank = if rank.is_some() { self.byte(word, 1, 254) } else { Some(1) };
                    rank.and_then(|rank| self.vipa(word, VipaRole::Backup { rank }))
                }
                () if statement("VIPADELete") => self.delete(word),
                () if statement("VIPADISTribute") => self.distribute(word),
                () => {
                    let known = VIPA_STATEMENTS.iter().any(|s| statement(s));
                    let text = escaped(word.text);
                    let message = if known {
                        format!("{text} is not supported")
                    } else {
                        format!("`{text}` is no statement of VIPADYNAMIC")
                    };
                    self.findings
                        .error(word.span, message)
                        .label(
                            "expected VIPADEFINE, VIPABACKUP, VIPADISTRIBUTE, VIPADELETE or ENDVIPADYNAMIC",
                        )
                        .did_you_mean(
                            word.text,
                            if known { &[][..] } else { &VIPA_STATEMENTS[..4] }.iter().copied(),
                        );
                    None
                }
            };
            if done.is_none() {
                self.skip_to(ends);
            } else if let Some(extra) = self.peek().filter(|w| !ends(w.text)) {
                self.findings
                    .error(extra.span, format!("`{}` is not expected here", escaped(extra.text)))
                    .label(format!("{} is complete", escaped(word.text)));
                self.skip_to(ends);
            }
        }
        self.findings
            .error(start.span, "the VIPADYNAMIC block is not closed")
            .label("expected ENDVIPADYNAMIC");
    }

    /// VIPADEFINE and VIPABACKUP behind keyword and rank.
    fn vipa(&mut self, of: Word<'_>, role: VipaRole) -> Option<()> {
        let mut moveable = None;
        while let Some(word) = self.peek() {
            if is(word.text, "MOVEable") {
                self.next += 1;
                moveable = Some(self.value(of, "IMMEDIATE or WHENIDLE", |text| match () {
                    () if is(text, "IMMEDiate") => Some(Moveable::Immediate),
                    () if is(text, "WHENIDLE") => Some(Moveable::WhenIdle),
                    () => None,
                })?);
            } else if ["TIER1", "TIER2", "CPCSCOPE", "SERVICEMGR"].iter().any(|k| is(word.text, k)) {
                self.findings
                    .error(word.span, format!("{} is not supported", escaped(word.text)))
                    .label("DVIPAs have one tier here");
                return None;
            } else {
                break;
            }
        }
        // A backup has a mask only where it may activate the address itself.
        let has_mask = role == VipaRole::Owner || moveable.is_some();
        let first = self.peek()?;
        if first.text.parse::<Ipv4Addr>().is_err() {
            return self.vipa6(of, role, moveable);
        }
        let prefix = if has_mask { Some(self.value(of, "a network mask", mask)?) } else { None };
        let mut any = false;
        while let Some(address) = self.peek().and_then(|w| w.text.parse::<Ipv4Addr>().ok()) {
            let word = self.take()?;
            self.add(word, Vipa { address: address.into(), prefix, role, moveable })?;
            any = true;
        }
        if !any {
            self.findings
                .error(of.span, format!("{} without an address", escaped(of.text)))
                .label("expected an IPv4 address behind the mask");
        }
        any.then_some(())
    }

    /// `intfname ipv6addr[/len]`; the name is ours to choose and not kept.
    fn vipa6(&mut self, of: Word<'_>, role: VipaRole, moveable: Option<Moveable>) -> Option<()> {
        let named = self
            .peek()
            .is_some_and(|w| w.text.parse::<IpNet>().is_err() && w.text.parse::<IpAddr>().is_err());
        self.next += usize::from(named);
        let word = self.peek().unwrap_or(Word { text: of.text, span: of.span });
        let (address, prefix) =
            self.value(of, "a mask and IPv4 addresses, or an interface name and an IPv6 address", |text| {
                let single = || text.parse::<Ipv6Addr>().ok().map(|a| (IpAddr::V6(a), None));
                single().or_else(|| {
                    text.parse::<IpNet>()
                        .ok()
                        .filter(|n| n.addr().is_ipv6())
                        .map(|n| (n.addr(), Some(n.prefix_len())))
                })
            })?;
        if moveable == Some(Moveable::WhenIdle) {
            self.findings
                .error(word.span, "MOVEABLE WHENIDLE is for IPv4")
                .label("an IPv6 DVIPA moves at once");
            return None;
        }
        self.add(word, Vipa { address, prefix, role, moveable })
    }

    fn add(&mut self, at: Word<'_>, vipa: Vipa) -> Option<()> {
        if self.profile.vipas.iter().any(|v| v.address == vipa.address) {
            self.findings
                .error(at.span, format!("a second VIPADEFINE or VIPABACKUP of {}", vipa.address))
                .label("expected VIPADELETE before it");
            return None;
        }
        if self.profile.vipas.len() >= MAX_VIPAS {
            self.findings
                .error(at.span, format!("more than {MAX_VIPAS} DVIPAs"))
                .label("this one was not read");
            return None;
        }
        self.profile.vipas.push(vipa);
        Some(())
    }

    fn delete(&mut self, of: Word<'_>) -> Option<()> {
        let address = self.value(of, "the address of a DVIPA", |text| text.parse::<IpAddr>().ok())?;
        let before = self.profile.vipas.len();
        self.profile.vipas.retain(|v| v.address != address);
        self.profile.distributions.retain(|d| d.address != address);
        if self.profile.vipas.len() == before {
            self.findings
                .warning(of.span, format!("{address} is not defined here"))
                .label("VIPADELETE has no effect");
        }
        Some(())
    }

    fn distribute(&mut self, of: Word<'_>) -> Option<()> {
        let is_delete = self.take_if("DELete");
        if !is_delete {
            self.take_if("DEFINE");
        }
        let mut method = Method::BaseWlm;
        let (mut affinity_secs, mut optlocal, mut sysplex_ports) = (0, None, false);
        while let Some(word) = self.peek() {
            let option = |name: &str| is(word.text, name);
            if option("DISTMethod") {
                self.next += 1;
                method = self.method(word)?;
            } else if option("OPTLOCAL") {
                self.next += 1;
                let value = self.peek().and_then(|w| number(w.text));
                optlocal = Some(if value.is_some() { self.byte(word, 0, 16)? } else { 1 });
            } else if option("NOOPTLOCAL") {
                self.next += 1;
                optlocal = None;
            } else if option("SYSPLEXPorts") {
                self.next += 1;
                sysplex_ports = true;
            } else if option("TIMEDAFFinity") {
                self.next += 1;
                affinity_secs = self.value(word, "seconds from 0 to 9999", |text| {
                    number(text).filter(|n| *n <= MAX_AFFINITY_SECS)
                })?;
            } else {
                break;
            }
        }
        let address =
            self.value(of, "an option, or the address of a DVIPA", |text| text.parse::<IpAddr>().ok())?;
        let mut ports = Vec::new();
        if let Some(word) = self.peek().filter(|w| is(w.text, "PORT")) {
            self.next += 1;
            while ports.is_empty()
                || self.peek().is_some_and(|w| w.text.starts_with(|c: char| c.is_ascii_digit()))
            {
                let port = self.value(word, "a port or a range of ports", |text| {
                    let (a, b) = text.split_once('-').unwrap_or((text, text));
                    PortRange::new(u16::try_from(number(a)?).ok()?, u16::try_from(number(b)?).ok()?)
                        .filter(|p| p.low() > 0)
                })?;
                ports.push(port);
            }
        }
        let targets = if self.take_if("DESTIP") { self.targets(of)? } else { None };
        if is_delete {
            self.profile
                .distributions
                .retain(|d| d.address != address || (!ports.is_empty() && d.ports != ports));
            return Some(());
        }
        let Some(targets) = targets else {
            self.findings
                .error(of.span, "VIPADISTRIBUTE without DESTIP")
                .label("expected DESTIP ALL or XCF addresses");
            return None;
        };
        let coded = Distribution { address, method, affinity_secs, optlocal, sysplex_ports, ports, targets };
        self.profile.distributions.push(coded);
        Some(())
    }

    /// Behind DESTIP: ALL (an empty list), or addresses with what each of them is.
    fn targets(&mut self, of: Word<'_>) -> Option<Option<Vec<Target>>> {
        if self.take_if("ALL") {
            return Some(Some(Vec::new()));
        }
        let mut targets = Vec::new();
        while targets.is_empty() || self.peek().is_some_and(|w| w.text.parse::<IpAddr>().is_ok()) {
            let xcf =
                self.value(of, "ALL, or the XCF address of a target", |text| text.parse::<IpAddr>().ok())?;
            let mut target = Target { xcf, weight: DEFAULT_WEIGHT, backup_rank: None };
            if let Some(word) = self.peek().filter(|w| is(w.text, "WEIGHT")) {
                self.next += 1;
                target.weight = self.byte(word, 1, 99)?;
            }
            if let Some(word) = self.peek().filter(|w| is(w.text, "BACKUP")) {
                self.next += 1;
                let rank = self.peek().and_then(|w| number(w.text));
                target.backup_rank = Some(if rank.is_some() { self.byte(word, 1, 254)? } else { 1 });
            } else {
                self.take_if("PREFERRED");
            }
            targets.push(target);
        }
        Some(Some(targets))
    }

    fn method(&mut self, of: Word<'_>) -> Option<Method> {
        let expected = "BASEWLM, SERVERWLM, ROUNDROBIN, WEIGHTEDACTIVE or HOTSTANDBY";
        let mut method = self.value(of, expected, |text| match () {
            () if is(text, "BASEWLM") => Some(Method::BaseWlm),
            () if is(text, "SERVERWLM") => Some(Method::ServerWlm),
            () if is(text, "ROUNDROBIN") => Some(Method::RoundRobin),
            () if is(text, "WEIGHTEDActive") => Some(Method::WeightedActive),
            () if is(text, "HOTSTANDBY") => {
                Some(Method::HotStandby { autoswitchback: true, healthswitch: true })
            }
            () => None,
        })?;
        if let Method::HotStandby { autoswitchback, healthswitch } = &mut method {
            loop {
                match () {
                    () if self.take_if("AUTOSWITCHBACK") => *autoswitchback = true,
                    () if self.take_if("NOAUTOSWITCHBACK") => *autoswitchback = false,
                    () if self.take_if("HEALTHSWITCH") => *healthswitch = true,
                    () if self.take_if("NOHEALTHSWITCH") => *healthswitch = false,
                    () => break,
                }
            }
        }
        Some(method)
    }
}

/// Words of IPSEC that a misspelt one may have been meant to be.
const IPSEC_WORDS: [&str; 10] = [
    "ENDIPSEC",
    "IPSECRULE",
    "IPSEC6RULE",
    "DVIPSEC",
    "DVLOCALFLTR",
    "NODVLOCALFLTR",
    "LOGENABLE",
    "LOGDISABLE",
    "LOGIMPLICIT",
    "NOLOGIMPLICIT",
];
/// Words of IPSECRULE.
const RULE_WORDS: [&str; 13] = [
    "LOG",
    "NOLOG",
    "PROTOCOL",
    "SRCPORT",
    "DESTPORT",
    "TYPE",
    "CODE",
    "ROUTING",
    "FRAGMENTSONLY",
    "SECCLASS",
    "DIRECTION",
    "ENDIPSEC",
    "IPSECRULE",
];

/// Where reading goes on behind a rule that is wrong.
fn ends_rule(text: &str) -> bool {
    is(text, "ENDIPSEC") || is(text, "IPSECRule") || is(text, "IPSEC6Rule")
}

fn is_option(text: &str) -> bool {
    ["DVIPSEC", "DVLOCALFLTR", "NODVLOCALFLTR", "LOGENable", "LOGDISable", "LOGIMPlicit", "NOLOGIMPlicit"]
        .iter()
        .any(|o| is(text, o))
}

/// A contiguous IPv4 mask, as its length.
fn mask(text: &str) -> Option<u8> {
    let mask = text.parse::<Ipv4Addr>().ok()?;
    Ipv4Net::with_netmask(Ipv4Addr::UNSPECIFIED, mask).ok().map(|n| n.prefix_len())
}

/// `Some(None)` is any.
fn protocol(text: &str) -> Option<Option<u8>> {
    Some(match () {
        () if text == "*" => None,
        () if is(text, "TCP") => Some(6),
        () if is(text, "UDP") => Some(17),
        () if is(text, "ICMP") => Some(1),
        () if is(text, "ICMPV6") => Some(58),
        () if is(text, "OSPF") => Some(89),
        () => Some(u8::try_from(number(text)?).ok()?),
    })
}
