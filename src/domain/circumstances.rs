//! The conditions around a job that decide if it fires.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::PortalDenial;
use super::hold::Hold;

/// What stops or delays the fires of one instance.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Holds that apply to it, the widest first.
    pub holds: Vec<Hold>,
    /// True if an operator has disabled it.
    pub disabled: bool,
    /// The portal's denial.
    pub denied_by_portal: Option<PortalDenial>,
    /// Start of its outage, and the probe.
    pub outage: Option<Outage>,
    /// End of the agent's `Retry-After`.
    pub busy_until: Option<DateTime<Utc>>,
    /// Delay of its fires because its clock is slow; zero for most.
    pub skew_guard: Duration,
}

/// An outage: until the callback responds, only one job is attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Its start.
    pub since: DateTime<Utc>,
    /// The job that is attempted.
    pub probe_job_id: String,
    /// Earliest start of its next attempt; `None` while it is not waiting for one.
    pub probe_at: Option<DateTime<Utc>>,
}
