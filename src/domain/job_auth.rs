//! The auth profile of a job, and the auth profiles of the service, an org or an instance.

use nas_cron_protocol::{AuthProfile, AuthScope, EffectiveAuth};

/// The auth profile that a job is fired with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAuth {
    /// The job's own profile.
    pub auth: Option<AuthProfile>,
    /// The profile that its next fire carries, and the scope that sets it.
    pub effective: Option<EffectiveAuth>,
    /// True if the job's own profile is registered neither for its instance, nor for its org, nor for the service.
    pub unknown: bool,
}

/// A registered auth profile, or the default, of one scope.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuthEntry {
    /// The scope: service, org or instance.
    pub scope: AuthScope,
    /// Id of the org or instance; empty for the service.
    pub scope_id: String,
    /// The profile.
    pub auth: AuthProfile,
    /// True for the scope's default, false for a registered profile.
    pub default: bool,
}
