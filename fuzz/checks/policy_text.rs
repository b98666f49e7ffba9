//! A policy file: either a policy, all of whose filters can be listed, or a report that names at least one error.

use policy::{Source, compile, load, select};

pub(crate) fn check(data: &[u8]) {
    match load(&[Source::stack("policy.conf", data.to_vec())]) {
        Ok((policy, warnings)) => {
            for rule in &policy.filter.rules {
                let _ = (compile::count(rule), select::on_demand(&policy, rule));
            }
            for filter in compile::filters(&policy).take(1000) {
                let _ = format!("{filter:?}");
            }
            for warning in warnings {
                let _ = warning.to_string();
            }
        }
        Err(report) => {
            assert!(report.errors() > 0, "refused without a reason");
            let _ = report.to_string();
        }
    }
}
