//! Quotas of armed jobs, and the pace of agents' calls.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use nas_cron_protocol::admin_api::QuotaScope;

const REFUSALS: &str = "nas_cron_quota_refusals_total";
const NEARLY_USED: &str = "nas_cron_nearly_used_quotas";
const PACED: &str = "nas_cron_paced_calls_total";

pub(super) fn describe() {
    describe_counter!(
        REFUSALS,
        "Provisions of new jobs that were rejected because a quota is used up, by scope: instance, org"
    );
    describe_gauge!(
        NEARLY_USED,
        "Instances and orgs that have used at least 90 % of their quota of armed jobs, by scope"
    );
    describe_counter!(
        PACED,
        "Calls of the agent API that came faster than one instance may call, by result: delayed, refused (too many waited)"
    );
    for scope in QuotaScope::ALL {
        counter!(REFUSALS, "scope" => scope.as_str()).increment(0);
    }
    for result in ["delayed", "refused"] {
        counter!(PACED, "result" => result).increment(0);
    }
}

/// Counts a provision beyond a quota.
pub fn quota_refused(scope: QuotaScope) {
    counter!(REFUSALS, "scope" => scope.as_str()).increment(1);
}

/// Sets the gauge of nearly used quotas.
pub fn set_nearly_used_quotas(counts: &[(QuotaScope, i64)]) {
    for (scope, count) in counts {
        #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
        gauge!(NEARLY_USED, "scope" => scope.as_str()).set(*count as f64);
    }
}

/// Counts a call that waited for its turn.
pub fn call_delayed() {
    counter!(PACED, "result" => "delayed").increment(1);
}

/// Counts a call that would have waited too long.
pub fn call_refused() {
    counter!(PACED, "result" => "refused").increment(1);
}
