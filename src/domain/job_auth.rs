//! The auth of a job, and the auth profiles of the service, an org or an instance.

use nas_cron_protocol::{AuthChoice, AuthProfile, AuthScope, EffectiveAuth};

/// The auth that a job is fired with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobAuth {
    /// The job's own auth.
    pub auth: Option<AuthChoice>,
    /// The auth that its next fire carries, and the scope that sets it.
    pub effective: Option<EffectiveAuth>,
    /// The job's own profiles that are registered neither for its instance, nor for its org, nor for the service.
    pub unknown: Vec<AuthProfile>,
}

/// A registered auth profile, or the default, of one scope.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuthEntry {
    /// The scope: service, org or instance.
    pub scope: AuthScope,
    /// Id of the org or instance; empty for the service.
    pub scope_id: String,
    /// The registered profile, or the default.
    pub auth: AuthChoice,
    /// True for the scope's default, false for a registered profile.
    pub default: bool,
}
