//! The IkeConfig statement: how the IKE daemon itself runs. One file beside the policies, in the same language.
//!
//! The last IkeConfig counts, and of a repeated parameter the last value. What concerns a world that is not ours (key
//! rings, the network security server, SMF) is checked, kept out of the way and said to have no effect.

use crate::lex;
use crate::parse;
use crate::report::{Diagnostic, Findings, Report, escaped};
use crate::resolve::Context;
use crate::source::{Source, Span};
use crate::statement::params::Params;
use crate::statement::value::{Args, Choice};
use std::time::Duration;

/// The statement of this file.
const KEYWORD: &str = "IkeConfig";
/// Parameters that are words of other programs.
const FOREIGN: [&str; 9] = [
    "SMF119",
    "KeyRing",
    "NoKeyRing",
    "NetworkSecurityServer",
    "NetworkSecurityServerBackup",
    "NssWaitLimit",
    "NssWaitRetries",
    "SupportedCertAuth",
    "PagentSyslogLevel",
];
/// Retransmissions at most; the wait doubles each time.
const MAX_RETRIES: u32 = 20;
/// Seconds before the first retransmission at most.
const MAX_WAIT: u32 = 60;

/// IkeConfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeConfig {
    /// IkeSyslogLevel: 1 what happens, 2 SAs, 4 protocol, 8 messages, 16 details, 128 internals; their sum.
    pub syslog_level: u8,
    /// IkeRetries: retransmissions before a peer is given up.
    pub retries: u32,
    /// IkeInitWait: wait before the first of them; doubles each time.
    pub init_wait: Duration,
    /// Echo: the log goes to the daemon's output too.
    pub echo: bool,
}

impl Default for IkeConfig {
    fn default() -> Self {
        Self { syslog_level: 1, retries: 6, init_wait: Duration::from_secs(2), echo: false }
    }
}

/// Reads an IkeConfig file. `Ok` carries warnings, `Err` everything that was found.
pub fn load(file: &Source) -> Result<(IkeConfig, Vec<Diagnostic>), Report> {
    let files = std::slice::from_ref(file);
    let mut findings = Findings::new(files);
    let statements = parse::parse(&lex::lex(file, 0, &mut findings), &mut findings);
    let mut cx = Context::new(findings, &[]);
    let mut last = None;
    for statement in &statements {
        if statement.is(KEYWORD) {
            if let Some(before) = last.replace(statement) {
                let before: &crate::ast::Statement<'_> = before;
                cx.findings
                    .warning(before.keyword.span, "this IkeConfig is not used")
                    .label("the last one counts")
                    .related(statement.keyword.span, "last one");
            }
        } else if statement.is("NssStackConfig") {
            no_effect(statement.head(), "NssStackConfig", &mut cx);
        } else {
            let word = statement.keyword;
            cx.findings
                .error(word.span, format!("unknown statement `{}`", escaped(word.text)))
                .label("expected IkeConfig")
                .did_you_mean(word.text, [KEYWORD, "NssStackConfig"]);
        }
    }
    let mut config = IkeConfig::default();
    match last.and_then(|statement| Params::enter(KEYWORD, statement, &mut cx)) {
        Some(params) => read(params, &mut config, &mut cx),
        None if last.is_none() && !cx.findings.has_errors() => {
            cx.findings
                .error(Span { file: 0, start: 0, end: 0 }, "there is no IkeConfig")
                .label("expected an IkeConfig block");
        }
        None => {}
    }
    Ok((config, cx.findings.finish()?))
}

fn read<'a>(mut params: Params<'a>, config: &mut IkeConfig, cx: &mut Context<'a, '_>) {
    let mut number = |keyword, low, high, cx: &mut Context<'a, '_>| {
        params.values(keyword, cx, |args: &mut Args<'a>, cx| args.number(low, high, cx)).pop()
    };
    if let Some((at, level)) = number("IkeSyslogLevel", 0, 255, cx) {
        config.syslog_level = u8::try_from(level).unwrap_or(u8::MAX);
        if config.syslog_level & 64 != 0 {
            cx.findings
                .warning(at, "level 64 of IkeSyslogLevel has no effect")
                .label("keys are never logged");
        }
    }
    if let Some((_, retries)) = number("IkeRetries", 1, MAX_RETRIES, cx) {
        config.retries = retries;
    }
    if let Some((_, seconds)) = number("IkeInitWait", 1, MAX_WAIT, cx) {
        config.init_wait = Duration::from_secs(seconds.into());
    }
    // A policy that is not there is an error at once: files are not waited for.
    if let Some((at, 1..)) = number("PagentWait", 0, 9_999, cx) {
        no_effect(at, "PagentWait", cx);
    }
    if let Some((_, echo)) = params.values("Echo", cx, Args::yes_no).pop() {
        config.echo = echo;
    }
    let fips = [("No", Choice::Is(())), ("Yes", Choice::Refused("there is no validated module"))];
    params.values("FIPS140", cx, |args, cx| args.choice(&fips, cx));
    for keyword in FOREIGN {
        for statement in params.each(&[keyword]) {
            let nothing =
                statement.args.first().is_some_and(|w| w.text.eq_ignore_ascii_case("none") || w.text == "0");
            if !nothing {
                no_effect(statement.head(), keyword, cx);
            }
        }
    }
    params.finish(cx);
}

fn no_effect(at: Span, keyword: &str, cx: &mut Context<'_, '_>) {
    cx.findings.warning(at, format!("{keyword} has no effect")).label("there is nothing of the kind here");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Source {
        Source::common("iked.conf", text.into())
    }

    #[test]
    fn the_last_value_of_the_last_statement_counts() {
        let text = "IkeConfig\n{\n  IkeRetries 1\n}\nIkeConfig\n{\n  IkeSyslogLevel 15\n  IkeRetries 3\n  IkeRetries 4\n  IkeInitWait 5\n  SMF119 None\n  Echo yes\n  PagentWait 0\n  FIPS140 no\n}\n";
        let (config, warnings) = load(&file(text)).unwrap();
        let expected =
            IkeConfig { syslog_level: 15, retries: 4, init_wait: Duration::from_secs(5), echo: true };
        assert_eq!(config, expected);
        let said: Vec<_> = warnings.iter().map(|w| w.message.as_str()).collect();
        assert_eq!(said, ["this IkeConfig is not used"]);
    }

    #[test]
    fn every_fault_is_said_and_what_has_no_effect_too() {
        let text = "IkeConfg\n{\n}\nIkeConfig\n{\n  IkeRetries 0\n  IkeInitWiat 2\n  Echo perhaps\n  FIPS140 yes\n  KeyRing a/b\n  IkeSyslogLevel 64\n}\n";
        let report = load(&file(text)).unwrap_err();
        insta::assert_snapshot!("ike_config_messages", report.to_string());
        insta::assert_snapshot!("ike_config_nothing", load(&file("# nothing\n")).unwrap_err().to_string());
        assert!(load(&file("IkeConfig\n")).is_err());
        let text = "IkeConfig\n{\n}\nIkeConfig\n{\n  IkeSyslogLevel 64\n  PagentWait 3\n}\n";
        let (_, warnings) = load(&file(text)).unwrap();
        let said: String = warnings.iter().map(|w| format!("{w}\n")).collect();
        insta::assert_snapshot!("ike_config_warnings", said);
    }
}
