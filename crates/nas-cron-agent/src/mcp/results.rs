//! Results of the tools. Their types and doc comments become the output schemas.

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::api::{EffectiveAuth, ListedAuth, ListedJob, Warning};

/// Result of `cron_provision`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Armed {
    /// ID of the job.
    pub(super) job_id: String,
    /// Time of the fire.
    pub(super) fire_at: String,
    /// Base URL of the agent that the fire is sent to.
    pub(super) agent_callback_url: String,
    /// ID of the armed one-shot; another time gets another ID.
    pub(super) schedule_id: String,
    /// Warnings about the call, which succeeded. Report them to the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// Result of `cron_update`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Updated {
    /// ID of the job.
    pub(super) job_id: String,
    /// Time of the fire. Absent if the time and the callback URL did not change.
    pub(super) fire_at: Option<String>,
    /// Base URL of the agent that the fire is sent to.
    pub(super) agent_callback_url: Option<String>,
    /// ID of the armed one-shot.
    pub(super) schedule_id: Option<String>,
    /// The job's own auth, if the job was not armed again. Absent if it has none.
    pub(super) auth: Option<ListedAuth>,
    /// Auth of the next fire, if the job was not armed again.
    pub(super) effective_auth: Option<EffectiveAuth>,
    /// Warnings about the call, which succeeded. Report them to the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// Result of `cron_list`: this agent's jobs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Jobs {
    /// Jobs that will fire, soonest first.
    pub(super) armed: Vec<ListedJob>,
    /// Jobs that failed permanently.
    pub(super) dead: Vec<ListedJob>,
    /// Number of jobs that are not shown. Ask for one by its `job_id`.
    pub(super) not_shown: Option<usize>,
}

/// Result of `cron_cancel`, also for an unknown job.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Cancelled {
    /// ID of the job.
    pub(super) job_id: String,
    /// Always true: no attempt of the job starts any more.
    pub(super) cancelled: bool,
}
