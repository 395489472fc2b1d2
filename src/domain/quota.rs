//! Quotas of armed jobs: how many jobs an instance or an org may have armed at the same time.

use nas_cron_protocol::admin_api::QuotaScope;
use nas_cron_protocol::{InstanceId, OrgId};

/// Parts of a hundred of a quota from which on it is nearly used up.
const NEARLY: i64 = 90;

/// The quotas of instances and orgs that have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultQuotas {
    /// Maximum armed jobs of an instance.
    pub instance: u32,
    /// Maximum armed jobs of all instances of an org together.
    pub org: u32,
}

impl DefaultQuotas {
    /// Returns the default of a scope.
    pub fn of(&self, scope: QuotaScope) -> i64 {
        i64::from(match scope {
            QuotaScope::Instance => self.instance,
            QuotaScope::Org => self.org,
        })
    }
}

/// The subject of a quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuotaTarget {
    /// One instance.
    Instance(InstanceId),
    /// All instances of an org together.
    Org(OrgId),
}

impl QuotaTarget {
    /// Its scope.
    pub const fn scope(&self) -> QuotaScope {
        match self {
            Self::Instance(_) => QuotaScope::Instance,
            Self::Org(_) => QuotaScope::Org,
        }
    }

    /// ID of the instance or org.
    pub fn id(&self) -> &str {
        match self {
            Self::Instance(instance_id) => instance_id.as_str(),
            Self::Org(org_id) => org_id.as_str(),
        }
    }
}

/// Armed jobs, as counted once, and the quota at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaCount {
    /// Its own quota; `None` if the default applies.
    pub own: Option<i64>,
    /// Number of armed jobs, counted up to the quota.
    pub armed: i64,
}

/// A new job is beyond a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{armed} jobs of this {} are armed, and its quota is {quota}: cancel a job that is not needed, or ask the operator for a \
     higher quota",
    words(*.scope)
)]
pub struct QuotaExceeded {
    /// Scope of the quota.
    pub scope: QuotaScope,
    /// The quota.
    pub quota: i64,
    /// Number of armed jobs: at least the quota.
    pub armed: i64,
}

const fn words(scope: QuotaScope) -> &'static str {
    match scope {
        QuotaScope::Instance => "agent",
        QuotaScope::Org => "org",
    }
}

/// Returns true if at least 90 % of a quota is used.
pub fn is_nearly_used(armed: i64, quota: i64) -> bool {
    armed.saturating_mul(100) >= quota.saturating_mul(NEARLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_numbers_and_the_next_step() {
        let error = QuotaExceeded { scope: QuotaScope::Instance, quota: 10, armed: 12 };
        assert_eq!(
            error.to_string(),
            "12 jobs of this agent are armed, and its quota is 10: cancel a job that is not needed, or ask the operator for a \
             higher quota"
        );
    }

    #[test]
    fn quota_is_nearly_used_from_ninety_percent_on() {
        assert!(!is_nearly_used(8_999, 10_000) && is_nearly_used(9_000, 10_000));
        assert!(is_nearly_used(1, 1) && !is_nearly_used(0, 1));
    }
}
