//! Types of the nas-cron contract (`docs/contract.md`): identifiers, validated values, and the bodies of requests and
//! responses.
//!
//! Both sides of the wire use this crate. It does no I/O, and does not depend on how a service or an agent is built.
//! Constructors that take text from outside fail with [`InvalidField`], which names the field and the fix.
//! The bodies are in [`admin_api`], [`agent_api`], [`agent_identity`], [`relay`], [`fire`] and [`error`].

use std::borrow::Cow;

mod words;

pub mod admin_api;
pub mod agent_api;
pub mod agent_identity;
mod auth_choice;
mod auth_profile;
mod auth_scope;
mod backend_name;
mod callback_url;
pub mod date_time;
mod effective_auth;
pub mod error;
mod fields;
pub mod fire;
mod fire_at;
mod fire_outcome;
mod ids;
mod isoformat;
pub mod json;
mod not_after;
mod one_shot_state;
pub mod relay;
#[cfg(feature = "openapi")]
pub mod schema;
mod secret_text;

pub use auth_choice::AuthChoice;
pub use auth_profile::AuthProfile;
pub use auth_scope::{AuthPlace, AuthScope};
pub use backend_name::BackendName;
#[cfg(feature = "openapi")]
pub use callback_url::http_url_schema;
pub use callback_url::{CallbackUrl, MAX_URL, http_url};
pub use effective_auth::{AuthSource, EffectiveAuth, resolve_auth};
pub use fields::{Fields, FieldsError, Given};
pub use fire_at::{FireAt, instant_of};
pub use fire_outcome::FireOutcome;
pub use ids::{
    AgentRuntimeId, DedupKey, IDENTIFIER_PATTERN, InstanceId, JobId, OrgId, ScheduleId, SessionId, TaskId,
    check_identifier,
};
pub use isoformat::isoformat;
pub use not_after::NotAfter;
pub use one_shot_state::{DeadReason, OneShotState, ParkReason};

/// The OAuth client of hosted agents' access tokens (docs/contract.md#who-calls).
pub const HOSTED_CLIENT: &str = "hermes-cli-vps";

/// An invalid field, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field's name on the wire, with the index of a list item: `auth[2]`.
    pub field: Cow<'static, str>,
    /// The problem and the fix, as a phrase that follows the field's name.
    pub problem: String,
}

impl InvalidField {
    /// Creates the error. `field` is the name on the wire; `problem` is a phrase that follows it.
    pub fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}
