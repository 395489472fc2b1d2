//! The words of the nas-cron contract as types: what may be sent and stored, and how bad input is told apart.
//!
//! Nothing here does I/O, and nothing depends on how a service or an agent is built: both sides of the wire use it.
//! Every constructor that takes text from outside returns [`InvalidField`], which names the field and the fix.
//! The contract itself is `docs/contract.md`. The bodies of its requests and responses are in [`agent_api`],
//! [`agent_identity`], [`relay`],
//! [`fire`] and [`error`].

mod words;

pub mod agent_api;
pub mod agent_identity;
mod auth_profile;
mod auth_scope;
mod backend_name;
mod callback_url;
pub mod error;
mod fields;
pub mod fire;
mod fire_at;
mod ids;
mod isoformat;
mod one_shot_state;
pub mod relay;

pub use auth_profile::{AuthPlace, AuthProfile, AuthSource, EffectiveAuth, resolve_auth};
pub use auth_scope::AuthScope;
pub use backend_name::BackendName;
pub use callback_url::CallbackUrl;
pub use fields::{Fields, FieldsError, Given};
pub use fire_at::FireAt;
pub use ids::{AgentRuntimeId, DedupKey, InstanceId, JobId, OrgId, ScheduleId, SessionId, TaskId};
pub use isoformat::isoformat;
pub use one_shot_state::{OneShotState, ParkReason};

/// The client that hosted agents' access tokens are issued to (docs/contract.md#who-calls).
pub const HOSTED_CLIENT: &str = "hermes-cli-vps";

/// A field that cannot be accepted, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What is wrong and what would be right, as a phrase.
    pub problem: String,
}

impl InvalidField {
    /// `field` is its name on the wire; `problem` says what is wrong and what would be right.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}
