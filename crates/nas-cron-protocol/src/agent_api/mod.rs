//! Bodies of the agent API, from the service's side (docs/contract.md#agent-api).
//!
//! Fields of requests are plain strings: the service validates them in the order of the contract, so that the error names
//! the first invalid one.

mod auth_profiles;
mod jobs;
mod one_shots;

pub use self::auth_profiles::{
    AuthDefaults, AuthProfiles, AuthProfilesChange, ChangedJob, JobChange, KnownProfile, ShownAuth,
};
pub use self::jobs::{CurrentOneShot, JobAttempt, JobState, JobStatus, MAX_SHOWN_ATTEMPTS};
pub use self::one_shots::{
    ArmedOneShot, CancelRequest, CancelResponse, DeadOneShot, ListResponse, ProvisionRequest,
    ProvisionResponse,
};

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A warning about a request that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Warning {
    /// Code to branch on, such as `auth_profile_unknown`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "auth_profile_unknown"))]
    pub code: Cow<'static, str>,
    /// Description for people.
    pub message: String,
}
