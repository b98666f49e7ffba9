//! The Policy Agent language: text to a typed, checked policy, without I/O.
//!
//! ```text
//!  bytes ──► lex ──► parse ──► statement::* ──► check ──► model::Policy ──► compile (filters of a stack)
//!  Source    tokens  ast       values,          rules                  └──► select  (tunnels to start)
//!                              resolve: …Ref    together             └──► explain (what happens to a packet)
//! ```
//!
//! [`load`] says all that is wrong at once, each with file, line, column and what was expected; a policy with one
//! error is refused as a whole. No input makes it panic, and sizes, depth and numbers of everything are bounded.
//!
//! The language is that of z/OS Communications Server. What differs: `HowToInitiate` is IKEv2 where it is not coded,
//! `HowToAuthMe` is PresharedKey, offers are AES_CBC 256 with HMAC_SHA2_256_128 and HMAC_SHA2_256; there are
//! `Group31` (Curve25519), `AES_GCM_16` in KeyExchangeOffer and `HowToRespondIKEv2`. DES, 3DES, MD5 and the groups 1,
//! 2, 5 and 24 are refused unless the block says `AllowWeak Yes`. What a stack cannot do yet is refused by
//! [`load_for`], which is told what it can.

mod ast;
mod check;
pub mod compile;
mod dn;
pub mod explain;
mod feature;
pub mod ike_config;
mod lex;
pub mod model;
mod parse;
pub mod profile;
pub mod report;
mod resolve;
pub mod select;
mod source;
mod statement;

pub use feature::Feature;
pub use model::Policy;
pub use report::{Diagnostic, Report, Severity};
pub use source::{Layer, MAX_FILE_BYTES, Source};

use ast::Statement;
use report::{Findings, escaped};
use resolve::Context;
use source::Span;

/// The three blocks that are no objects.
const BLOCKS: [&str; 3] = ["IpFilterPolicy", "KeyExchangePolicy", "LocalDynVpnPolicy"];
/// Reads the policy of one stack: the common files first, then those of the stack, if there are any.
///
/// `Ok` carries warnings. `Err` carries everything that was found, errors and warnings.
///
/// Every [`Feature`] of the language is accepted; [`load_for`] is for who serves some of them only.
pub fn load(files: &[Source]) -> Result<(Policy, Vec<Diagnostic>), Report> {
    load_for(files, Feature::ALL)
}

/// [`load`] for stacks that have these features; a policy that asks for another one is refused, with its place.
pub fn load_for(files: &[Source], supported: &[Feature]) -> Result<(Policy, Vec<Diagnostic>), Report> {
    let mut findings = Findings::new(files);
    let parsed: Vec<Vec<Statement<'_>>> = files
        .iter()
        .enumerate()
        .map(|(index, source)| parse::parse(&lex::lex(source, index, &mut findings), &mut findings))
        .collect();
    let mut cx = Context::new(findings, supported);
    let mut blocks: [Option<&Statement<'_>>; 3] = [None; 3];
    for statement in parsed.iter().flatten() {
        if let Some(index) = BLOCKS.iter().position(|name| statement.is(name)) {
            take_block(&mut blocks[index], statement, files, &mut cx);
        } else if !cx.declare(statement) {
            unknown(statement, &mut cx);
        }
    }
    let [filter, exchange, local] = blocks;
    // A file that is no text at all was refused already; what it lacks is not worth a second error.
    if filter.is_none() && (!cx.findings.has_errors() || parsed.iter().any(|f| !f.is_empty())) {
        let at = Span { file: files.len().saturating_sub(1), start: 0, end: 0 };
        cx.findings
            .error(at, "there is no IpFilterPolicy")
            .label("expected an IpFilterPolicy block in one of the files")
            .help("without one the stack would keep its default filters, which deny everything");
    }
    let filter_at = filter.map_or(Span { file: 0, start: 0, end: 0 }, Statement::head);
    let filter = filter.and_then(|s| statement::filter::policy(s, &mut cx));
    let exchange = exchange.map(|s| statement::key_exchange::policy(s, &mut cx));
    let starts = local.and_then(|s| statement::local_dyn_vpn::policy(s, &mut cx)).unwrap_or_default();
    // Statements of a common file are a library for the stack's own file.
    let has_stack_file = files.iter().any(|f| f.layer() == Layer::Stack);
    cx.finish_objects(|file| has_stack_file && files.get(file).is_some_and(|f| f.layer() == Layer::Common));
    let policy = filter.map(|filter| Policy {
        filter,
        key_exchange: exchange.flatten(),
        local_dyn_vpn: starts.iter().map(|(_, rule)| rule.clone()).collect(),
    });
    if let (Some(true), Some(weak)) = (policy.as_ref().map(|p| p.filter.fips140), cx.weak) {
        cx.findings
            .error(weak.span, format!("{} does not go with FIPS140 Yes", escaped(weak.text)))
            .label("it is no approved algorithm");
    }
    if let Some(policy) = &policy {
        check::policy(policy, &starts, filter_at, &mut cx);
    } else if !cx.findings.has_errors() {
        cx.findings.error(filter_at, "the policy could not be read");
    }
    let warnings = cx.findings.finish()?;
    match policy {
        Some(policy) => Ok((policy, warnings)),
        // Said above: without a policy there is an error.
        None => Err(Report { diagnostics: warnings, suppressed: 0 }),
    }
}

/// A block of the stack's file replaces one of a common file; a second one in a file replaces the first.
fn take_block<'a>(
    slot: &mut Option<&'a Statement<'a>>,
    statement: &'a Statement<'a>,
    files: &[Source],
    cx: &mut Context<'a, '_>,
) {
    let layer = |s: &Statement<'_>| files.get(s.keyword.span.file).map(Source::layer);
    if let Some(extra) = statement.args.first() {
        cx.findings
            .warning(extra.span, format!("{} has no name", escaped(statement.keyword.text)))
            .label("the word is ignored");
    }
    if let Some(before) = *slot {
        if layer(before) == Some(Layer::Stack) && layer(statement) == Some(Layer::Common) {
            return;
        }
        if layer(before) != layer(statement) {
            *slot = Some(statement);
            return;
        }
        cx.findings
            .warning(before.keyword.span, format!("this {} is not used", escaped(before.keyword.text)))
            .label("the last one counts")
            .related(statement.keyword.span, "last one");
    }
    *slot = Some(statement);
}

/// A statement that is of no kind that may stand here.
fn unknown<'a>(statement: &'a Statement<'a>, cx: &mut Context<'a, '_>) {
    let word = statement.keyword;
    cx.findings
        .error(word.span, format!("unknown statement `{}`", escaped(word.text)))
        .label("expected a statement of the policy language")
        .did_you_mean(word.text, BLOCKS.iter().chain(Context::KINDS).copied());
}
