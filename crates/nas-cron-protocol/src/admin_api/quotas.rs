//! Quotas of armed jobs.

use serde::{Deserialize, Serialize};

use crate::words;

words!(
    /// The scope of a quota.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum QuotaScope {
        /// One agent instance.
        Instance = "instance",
        /// All instances of an org together.
        Org = "org",
    }
);

/// A quota of armed jobs, and its use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({ "scope": "instance", "scope_id": "agent-1", "quota": 10000, "is_default": true, "armed": 12 })))]
pub struct QuotaUse {
    /// Scope of the quota.
    pub scope: QuotaScope,
    /// ID of the instance or org.
    pub scope_id: String,
    /// Maximum number of armed jobs. A new job beyond it is rejected.
    pub quota: i64,
    /// True if the service's default applies; false if the instance or org has a quota of its own.
    pub is_default: bool,
    /// Number of jobs whose one-shot is armed, leased, firing or waiting, counted up to the quota.
    pub armed: i64,
}
