//! Holds, and one-shots that are parked by a hold or by an outage of their instance.

pub use nas_cron_protocol::admin_api::{Coverage, Hold, HoldScope, StandingHold};
use nas_cron_protocol::{InstanceId, InvalidField, JobId, OrgId};

/// Maximum length of a reason, in bytes.
const MAX_REASON: usize = 500;

/// Checks the reason of a hold.
pub fn check_reason(reason: Option<&str>) -> Result<(), InvalidField> {
    if reason.is_none_or(|reason| (1..=MAX_REASON).contains(&reason.len())) {
        return Ok(());
    }
    Err(InvalidField::new("reason", format!("must have 1 to {MAX_REASON} bytes")))
}

/// Number of parked one-shots that a maintenance round changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// One-shots released because no hold applies any more.
    pub released: i64,
    /// One-shots chosen as the new probe of an unreachable instance that had none.
    pub probes: i64,
    /// One-shots whose retry budget ended while they waited for a probe.
    pub given_up: i64,
}

/// Everything that stops fires at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Number of holds, by scope.
    pub holds: Vec<(HoldScope, i64)>,
    /// Number of unreachable instances.
    pub unreachable: i64,
    /// Number of instances that the operator has disabled.
    pub disabled: i64,
    /// Number of instances that the portal denies.
    pub denied: i64,
}

/// The subject of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldTarget {
    /// The whole service.
    All,
    /// Every instance of one org.
    Org(OrgId),
    /// One instance.
    Instance(InstanceId),
    /// One job of an instance.
    Job(InstanceId, JobId),
}

impl HoldTarget {
    /// The scope of the hold.
    pub const fn scope(&self) -> HoldScope {
        match self {
            Self::All => HoldScope::All,
            Self::Org(_) => HoldScope::Org,
            Self::Instance(_) => HoldScope::Instance,
            Self::Job(..) => HoldScope::Job,
        }
    }

    /// ID of the org or instance, also of a job's instance; empty for the whole service.
    pub fn scope_id(&self) -> &str {
        match self {
            Self::All => "",
            Self::Org(org_id) => org_id.as_str(),
            Self::Instance(instance_id) | Self::Job(instance_id, _) => instance_id.as_str(),
        }
    }

    /// ID of the job, in the scope of a job.
    pub const fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::Job(_, job_id) => Some(job_id),
            Self::All | Self::Org(_) | Self::Instance(_) => None,
        }
    }
}

/// Names the subject of a hold.
pub fn named(scope: HoldScope, scope_id: &str, job_id: Option<&str>) -> String {
    match scope {
        HoldScope::All => "the whole service".to_owned(),
        HoldScope::Org => format!("org {scope_id}"),
        HoldScope::Instance => format!("agent {scope_id}"),
        HoldScope::Job => format!("job {} of agent {scope_id}", job_id.unwrap_or_default()),
    }
}
