//! Bodies of the agent API, as a service fills and reads them (docs/contract.md#agent-api).
//!
//! Requests carry text: a service checks each field in the order of the contract, so that the first wrong one is named.

mod auth_profiles;
mod one_shots;

pub use self::auth_profiles::{
    AuthDefaults, AuthProfiles, AuthProfilesChange, ChangedJob, JobChange, KnownProfile, ShownAuth,
};
pub use self::one_shots::{
    ArmedOneShot, CancelRequest, CancelResponse, DeadOneShot, ListResponse, ProvisionRequest,
    ProvisionResponse,
};

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Something that is odd, and no error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Warning {
    /// A word to branch on, such as `auth_profile_unknown`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "auth_profile_unknown"))]
    pub code: Cow<'static, str>,
    /// A sentence.
    pub message: String,
}
