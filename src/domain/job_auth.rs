//! The auth profile of a job.

use nas_cron_protocol::{AuthProfile, EffectiveAuth};

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
