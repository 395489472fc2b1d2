//! Bodies about auth profiles: of a job, and of the registry.

use serde::{Deserialize, Serialize};

use super::Warning;
use crate::{AuthChoice, AuthProfile, AuthScope, EffectiveAuth, Given, JobId};

/// Auth of a job in a listing. Empty parts are omitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShownAuth {
    /// The job's own auth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthChoice>,
    /// Auth of the next fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_auth: Option<EffectiveAuth>,
    /// Warnings about the auth profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Request to change a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobChange {
    /// The job's own auth; `null` removes it.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<AuthChoice>, required = true))]
    pub auth: Given<AuthChoice>,
}

/// Response to a change of a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedJob {
    /// ID of the job, chosen by the agent.
    pub job_id: JobId,
    /// The job's own auth.
    pub auth: Option<AuthChoice>,
    /// Auth of the next fire.
    pub effective_auth: Option<EffectiveAuth>,
    /// Warnings about the request, which succeeded; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Request to replace the registered profiles of an instance, an org or the service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthProfilesChange {
    /// All profiles, at most 200. A registered profile that is not listed is removed.
    #[cfg_attr(feature = "openapi", schema(max_items = 200, example = json!(["claude:work", "claude:budget"])))]
    pub profiles: Vec<AuthProfile>,
    /// Default for jobs without an auth of their own. Absent keeps the current default, `null` clears it.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<AuthChoice>))]
    pub default: Given<AuthChoice>,
}

/// A registered auth profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KnownProfile {
    /// The profile as `provider:name`.
    pub auth: AuthProfile,
    /// Scope of the registration.
    pub scope: AuthScope,
}

/// Defaults for jobs without an auth of their own. The nearest one that is set applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthDefaults {
    /// Default of the instance.
    pub instance: Option<AuthChoice>,
    /// Default of its org.
    pub org: Option<AuthChoice>,
    /// Default of the service.
    pub service: Option<AuthChoice>,
}

/// Auth profiles that apply to an instance, an org or the service, including those of the wider scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthProfiles {
    /// Registered profiles. A job that names another one gets a warning.
    pub profiles: Vec<KnownProfile>,
    /// Defaults by scope.
    pub defaults: AuthDefaults,
    /// Warnings about defaults that are not registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}
