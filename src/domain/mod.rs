//! The words of the contract as types: what may be stored, and how bad input is told apart.
//!
//! Nothing here does I/O. Every constructor that takes text from outside returns [`InvalidField`],
//! which names the field and the mend.

pub mod auth_profile;
mod callback_url;
mod fields;
mod fire_at;
mod ids;
mod signing_key;
mod state;

pub use auth_profile::{AuthPlace, AuthProfile, AuthSource, EffectiveAuth};
pub use callback_url::CallbackUrl;
pub use fields::{Fields, FieldsError, Given};
pub use fire_at::FireAt;
pub use ids::{AgentRuntimeId, DedupKey, InstanceId, JobId, OrgId, ScheduleId, SessionId, TaskId};
pub use signing_key::{KeyRecord, KeyState, SigningAlg};
pub use state::{
    AuthScope, BackendName, FireOutcome, HoldScope, LoginEnd, OneShotState, ParkReason, PortalDenial,
};

/// The client that hosted agents' access tokens are issued to (contract, "Hop 1").
pub const HOSTED_CLIENT: &str = "hermes-cli-vps";

/// A field that cannot be accepted, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What is wrong and what would be right, as a phrase.
    pub problem: String,
}

impl InvalidField {
    /// `field` as it is called on the wire; `problem` says what is wrong and what would be right.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}
