//! `iked --check`: reads everything that the configuration names, as a start would, and starts nothing.

use crate::config::Config;
use crate::policies::PolicySource;
use crate::servauth::Profiles;

/// Everything that is wrong with the policies and the authorization profiles of `config`.
#[must_use]
pub fn all(config: &Config, source: &mut dyn PolicySource) -> Vec<String> {
    let mut problems = Vec::new();
    for stack in &config.stacks {
        if let Err(report) = source.load(stack)
            && !problems.contains(&report)
        {
            problems.push(report);
        }
    }
    if let Some(path) = &config.servauth
        && let Err(e) = Profiles::load(path)
    {
        problems.push(e.to_string());
    }
    problems
}
