//! Results of the tools. Their types also give the schemas.

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::api::{EffectiveAuth, ListedJob, Warning};

/// A job is armed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Armed {
    /// Which job.
    pub(super) job_id: String,
    /// When it fires.
    pub(super) fire_at: String,
    /// Where the fire goes to.
    pub(super) agent_callback_url: String,
    /// Names this arm; another time gives another one.
    pub(super) schedule_id: String,
    /// What is odd, and no error. Tell the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// A job is changed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Updated {
    /// Which job.
    pub(super) job_id: String,
    /// When it fires. Not there: its time and callback are untouched.
    pub(super) fire_at: Option<String>,
    /// Where the fire goes to.
    pub(super) agent_callback_url: Option<String>,
    /// Names the arm.
    pub(super) schedule_id: Option<String>,
    /// The job's own auth profile, where it was not armed anew. Not there: none.
    pub(super) auth: Option<String>,
    /// What its next fire carries, where it was not armed anew.
    pub(super) effective_auth: Option<EffectiveAuth>,
    /// What is odd, and no error. Tell the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// This agent's jobs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Jobs {
    /// What will fire, soonest first.
    pub(super) armed: Vec<ListedJob>,
    /// What has failed for good.
    pub(super) dead: Vec<ListedJob>,
    /// How many more there are than are shown. Ask for one by its `job_id`.
    pub(super) not_shown: Option<usize>,
}

/// A job is disarmed, or was not there.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Cancelled {
    /// Which job.
    pub(super) job_id: String,
    /// Nothing of it starts any more.
    pub(super) cancelled: bool,
}
