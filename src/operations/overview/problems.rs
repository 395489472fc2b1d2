//! The problems of an overview: the findings of `nas-cron doctor` about what an overview reads.

use std::time::Duration;

use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::{Count, OutboxBacklog, Problem, QuotaUse, Severity, SwitchBacklog};

use crate::db::overview::Attention;
use crate::diagnosis::{self, Finding, Status};
use crate::domain::StoredKey;
use crate::domain::active_backend::Untold;
use crate::domain::replica::Registered;
use crate::domain::webhook::Webhook;

/// Name of the check for a switch of backends that is unfinished.
pub const UNFINISHED_SWITCH: &str = "move";

/// The input of the findings.
pub(super) struct Found<'a> {
    pub(super) attention: &'a Attention,
    /// Grace period of the active backend.
    pub(super) grace: Duration,
    /// The number of webhooks, and those that fail.
    pub(super) webhooks: &'a (Count, Vec<Webhook>),
    pub(super) nearly_used: &'a [QuotaUse],
    pub(super) has_key_encryption_key: bool,
    /// The state of the whole service, for a caller that sees the whole service.
    pub(super) service: Option<OfService<'a>>,
}

/// The state of the whole service.
pub(super) struct OfService<'a> {
    pub(super) replicas: &'a [Registered],
    pub(super) keys: &'a [StoredKey],
    pub(super) backlog: &'a [OutboxBacklog],
    pub(super) alternating: &'a [String],
    pub(super) lost_logins: &'a [String],
    /// The active backend, and what is left of the switch to it.
    pub(super) switch: (BackendName, SwitchBacklog),
}

impl Found<'_> {
    /// Returns the problems, the worst first, by the names of the checks of `nas-cron doctor`.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let Attention { at, counts, oldest_overdue, dormant, holds, .. } = self.attention;
        let all_holds = usize::try_from(counts.holds.count).unwrap_or(usize::MAX);
        let mut findings = Vec::new();
        if let Some(service) = &self.service {
            findings.extend(service.findings());
        }
        findings.extend([
            ("overdue", diagnosis::overdue(*oldest_overdue, self.grace)),
            ("dead letters", diagnosis::dead_letters(counts.dead, counts.stuck)),
            ("dormant jobs", diagnosis::dormant(dormant)),
            ("unreachable agents", diagnosis::unreachable(counts.unreachable)),
            ("holds", diagnosis::holds(holds, all_holds, *at)),
            ("webhooks", diagnosis::webhooks(self.webhooks.0, &self.webhooks.1, self.has_key_encryption_key)),
            ("quotas", diagnosis::quotas(self.nearly_used)),
        ]);
        let mut problems: Vec<_> =
            findings.into_iter().filter_map(|(check, finding)| problem(check, finding)).collect();
        problems.sort_by_key(|one| one.status == Severity::Warning);
        problems
    }
}

impl OfService<'_> {
    fn findings(&self) -> [(&'static str, Finding); 6] {
        let late: Vec<_> = self.backlog.iter().filter(|one| one.late.count > 0).map(untold).collect();
        let has_run = !self.keys.is_empty();
        let (to, left) = self.switch;
        [
            ("replicas", diagnosis::replicas(self.replicas, has_run)),
            ("signing key", diagnosis::active_key(self.keys.iter().map(|key| &key.record))),
            ("wake-ups", diagnosis::wake_ups(&late)),
            (UNFINISHED_SWITCH, diagnosis::switch(left, to)),
            ("homes", diagnosis::homes(self.alternating)),
            ("logins", diagnosis::logins(self.lost_logins)),
        ]
    }
}

fn untold(backlog: &OutboxBacklog) -> Untold {
    Untold { backend: backlog.backend, count: backlog.late.count, last_error: backlog.last_error.clone() }
}

/// Returns a finding that needs attention.
fn problem(check: &str, finding: Finding) -> Option<Problem> {
    let status = match finding.status {
        Status::Warning => Severity::Warning,
        Status::Wrong => Severity::Wrong,
        Status::Ok | Status::Skipped => return None,
    };
    let fix = finding.fix.unwrap_or_default();
    Some(Problem { check: check.to_owned(), status, found: finding.found, fix })
}
