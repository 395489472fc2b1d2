//! The auth profile of a job, and the profiles that are set at a place.

use nas_cron_protocol::{AuthProfile, AuthScope, EffectiveAuth};

/// The auth profile that a job is fired with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAuth {
    /// The job's own profile.
    pub auth: Option<AuthProfile>,
    /// The profile that its next fire carries, and where that is set.
    pub effective: Option<EffectiveAuth>,
    /// Whether the job's own profile is registered neither for its instance, nor for its org, nor for the service.
    pub unknown: bool,
}

/// What is set at a place: a profile that is known there, or its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuthEntry {
    /// What kind of place.
    pub scope: AuthScope,
    /// Which org or instance; empty for the service.
    pub scope_id: String,
    /// The profile.
    pub auth: AuthProfile,
    /// Whether it is the default there, rather than one of the known ones.
    pub default: bool,
}
