//! Findings about quotas.

use nas_cron_base::terminal::printable;
use nas_cron_protocol::admin_api::{QuotaScope, QuotaUse};

use super::Finding;

/// Maximum number of agents and orgs that are named.
const NAMED: usize = 5;
/// Number of nearly used quotas to read: one more than are named shows that there are more.
pub const READ_QUOTAS: i64 = 6;

/// Reports agents and orgs that have used at least 90 % of their quota of armed jobs.
pub fn quotas(nearly_used: &[QuotaUse]) -> Finding {
    if nearly_used.is_empty() {
        return Finding::ok("none is nearly used");
    }
    let mut named: Vec<_> = nearly_used.iter().take(NAMED).map(use_of).collect();
    if nearly_used.len() > NAMED {
        named.push("others".to_owned());
    }
    Finding::warning(
        format!("nearly used, and new jobs are rejected beyond them: {}", named.join(", ")),
        "find out why there are so many jobs with `nas-cron jobs list`; if they are needed, raise the quota with \
         `nas-cron agents quota ID --set N` or `nas-cron orgs quota ID --set N`",
    )
}

fn use_of(quota: &QuotaUse) -> String {
    let kind = match quota.scope {
        QuotaScope::Instance => "agent",
        QuotaScope::Org => "org",
    };
    format!("{kind} {} ({} of {} armed)", printable(&quota.scope_id), quota.armed, quota.quota)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn nearly_used_quotas_are_named_with_their_use_up_to_a_limit() {
        let used = |n: i64| QuotaUse {
            scope: if n == 0 { QuotaScope::Org } else { QuotaScope::Instance },
            scope_id: format!("id-{n}"),
            quota: 10,
            is_default: true,
            armed: 9,
        };
        assert_eq!(quotas(&[]).status, Status::Ok);
        let found = quotas(&(0..6).map(used).collect::<Vec<_>>()).found;
        assert!(found.contains("org id-0 (9 of 10 armed), agent id-1 (9 of 10 armed)"), "{found}");
        assert!(found.ends_with("others"), "{found}");
    }
}
