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
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct AuthEntry {
    /// The scope: service, org or instance.
    pub scope: AuthScope,
    /// ID of the org or instance; empty for the service.
    #[schema(example = "acme")]
    pub scope_id: String,
    /// The registered profile, or the default.
    pub auth: AuthChoice,
    /// True for the scope's default, false for a registered profile.
    pub default: bool,
}

/// A place in the list of entries.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct EntryPlace {
    /// The entry's scope.
    pub scope: AuthScope,
    /// The entry's org or instance.
    pub scope_id: String,
    /// The profile; empty for a default.
    pub name: String,
    /// True for a default.
    pub default: bool,
}

impl EntryPlace {
    /// The place before all entries.
    pub const START: Self =
        Self { scope: AuthScope::Service, scope_id: String::new(), name: String::new(), default: false };
}

impl From<&AuthEntry> for EntryPlace {
    fn from(entry: &AuthEntry) -> Self {
        let name = entry.auth.profiles().first().filter(|_| !entry.default);
        Self {
            scope: entry.scope,
            scope_id: entry.scope_id.clone(),
            name: name.map(ToString::to_string).unwrap_or_default(),
            default: entry.default,
        }
    }
}

/// A page of entries.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct AuthEntryPage {
    /// The known profiles and defaults, ordered by scope, the widest first, and by ID.
    pub entries: Vec<AuthEntry>,
    /// Value of `after` for the next page; `null` on the last page.
    pub next: Option<String>,
}
