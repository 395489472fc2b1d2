//! Sessions of operators at the operators' page, as they are stored.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::admin_token::TokenRights;
use super::audit::AuditOutcome;

/// The admin token that a session acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// True for a token of the configuration, which the database does not know.
    pub of_config: bool,
}

/// A session that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// The token that signed in.
    pub signed_in: SignedIn,
    /// The present rights of the token; `None` for a token of the configuration.
    pub rights: Option<TokenRights>,
    /// Time at which it ends, however much it is used.
    pub closes_at: DateTime<Utc>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// A form that a session has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its ID, chosen when the form was shown.
    pub submission_id: Uuid,
    /// Its outcome; `unknown` while it is being carried out.
    pub outcome: AuditOutcome,
    /// What the operator reads about it.
    pub answer: Option<String>,
    /// Number of jobs that it, and those that it continues, have changed.
    pub changed: Option<i64>,
    /// Cursor of the rest; `None` if nothing is left.
    pub next: Option<String>,
}
