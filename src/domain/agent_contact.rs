//! The contact between an agent and the service.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The contact between an agent and the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentContact {
    /// Time at which the agent armed the latest of its present one-shots.
    pub last_armed_at: Option<DateTime<Utc>>,
    /// Start of the latest attempt.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// Delay of its fires because its clock is slow; zero for most.
    pub skew_guard: Duration,
    /// Time at which the slow clock was noticed last.
    pub skew_learned_at: Option<DateTime<Utc>>,
    /// The job that is attempted while the agent is unreachable.
    pub probe_job_id: Option<String>,
}
