//! Lines of the audit log.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId, words};

words!(
    /// The outcome of an audited call.
    #[derive(utoipa::ToSchema)]
    pub enum AuditOutcome {
        /// Not recorded: the call is in progress, or its process ended or its caller left before the outcome.
        Unknown = "unknown",
        /// The call succeeded.
        Done = "done",
        /// The call was rejected: its role, its org or its input.
        Refused = "refused",
        /// The call failed in the service. It may have taken effect in part.
        Failed = "failed",
    }
);

/// An audited action and its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Operation ID of the admin API.
    pub action: &'static str,
    /// Names and values of its subject: `("instance_id", "agent-1")`.
    pub subject: Vec<(String, String)>,
}

impl Act {
    /// An action without a subject.
    pub const fn new(action: &'static str) -> Self {
        Self { action, subject: Vec::new() }
    }

    /// Adds a name and a value to the subject.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes names, ids and words alike")]
    pub fn about(mut self, name: &str, value: impl ToString) -> Self {
        self.subject.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Identifies a line, from its begin to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditId(pub i64);

/// A line of the audit log: one state-changing call.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct AuditLine {
    /// Number of the line. Later lines have higher numbers.
    pub id: i64,
    /// Time of the call, before its change.
    pub at: DateTime<Utc>,
    /// Name of the admin token, `config` for one of the configuration, or `cli:<user>@<host>` for a command.
    pub actor: String,
    /// Address from which the call came. Absent for a token that is limited to an org, unless the caller's was limited to
    /// the same org.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Operation ID.
    pub action: String,
    /// Subject of the call, by name.
    pub subject: BTreeMap<String, String>,
    /// Outcome of the call.
    pub outcome: AuditOutcome,
    /// Time of the outcome; `null` while it is unknown.
    pub ended_at: Option<DateTime<Utc>>,
    /// Reason of a rejection or failure.
    pub detail: Option<String>,
}

/// Selects lines.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only lines of this caller.
    pub actor: Option<String>,
    /// Only lines with this action.
    pub action: Option<String>,
    /// Only lines about this entry, `name=value`.
    pub subject: Option<String>,
    /// Only lines about this agent, or about a job of it.
    pub instance_id: Option<InstanceId>,
    /// Only lines at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only lines before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only lines that a reader of this org may see.
    pub within: Option<OrgId>,
}
