//! Auth profiles of jobs, and those that are known.

use serde::{Deserialize, Serialize};

use super::Warning;
use crate::{AuthProfile, AuthScope, EffectiveAuth, Given, JobId};

/// What is shown of a job's profiles: each part only where it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShownAuth {
    /// The job's own profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "claude:work"))]
    pub auth: Option<AuthProfile>,
    /// What its next fire carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_auth: Option<EffectiveAuth>,
    /// What is odd, and no error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// What is to be changed about a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobChange {
    /// Its own auth profile; `null` takes it away.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, required = true, example = "claude:work"))]
    pub auth: Given<AuthProfile>,
}

/// A job's auth profiles as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangedJob {
    /// The agent's name for the job.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "ab12cd34"))]
    pub job_id: JobId,
    /// The job's own.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "claude:work"))]
    pub auth: Option<AuthProfile>,
    /// What its next fire carries.
    pub effective_auth: Option<EffectiveAuth>,
    /// What is odd, and no error: absent when nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The profiles that are to be known at a place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthProfilesChange {
    /// All of them, at most 200: one that is known and not among them is forgotten.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, max_items = 200, example = json!(["claude:work", "claude:budget"])))]
    pub profiles: Vec<AuthProfile>,
    /// What jobs without a profile of their own get. Absent keeps what is set, `null` clears it.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "claude:work"))]
    pub default: Given<AuthProfile>,
}

/// A profile that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KnownProfile {
    /// Provider, colon, name.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "claude:work"))]
    pub auth: AuthProfile,
    /// Where it is registered.
    pub scope: AuthScope,
}

/// What jobs without a profile of their own get: the first that is set, from the nearest to the furthest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthDefaults {
    /// Of the instance.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "claude:work"))]
    pub instance: Option<AuthProfile>,
    /// Of its org.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub org: Option<AuthProfile>,
    /// Of the service.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub service: Option<AuthProfile>,
}

/// What is registered at a place, and at the places around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthProfiles {
    /// Every profile that may be named there without a warning.
    pub profiles: Vec<KnownProfile>,
    /// What is set, by where.
    pub defaults: AuthDefaults,
    /// Defaults that are not among the profiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}
