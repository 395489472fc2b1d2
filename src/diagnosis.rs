//! Findings about a deployment, with their fixes: pure functions from what was read to words, for `nas-cron doctor` and for
//! the overview of operators.

mod agents;
mod backends;
mod encryption;
mod jobs;
mod keys;
mod quotas;
mod replicas;
mod webhooks;

use serde::Serialize;

pub use self::agents::{READ, homes, logins, unreachable};
pub use self::backends::{switch, wake_ups};
pub use self::encryption::encryption;
pub use self::jobs::{READ_HOLDS, dead_letters, dormant, holds, overdue};
pub use self::keys::active_key;
pub use self::quotas::{READ_QUOTAS, quotas};
pub use self::replicas::{is_running, replicas};
pub use self::webhooks::{READ_WEBHOOKS, webhooks};

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Healthy.
    Ok,
    /// It works, but deserves attention.
    Warning,
    /// It does not work, or will soon stop working.
    Wrong,
    /// Not checked: it does not apply, or something that the check needs is missing.
    Skipped,
}

impl Status {
    /// Returns the mark shown on a terminal.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Warning => "!",
            Self::Wrong => "✗",
            Self::Skipped => "-",
        }
    }

    /// Returns the word shown elsewhere.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Skipped => "-",
        }
    }
}

/// The finding of one check, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Result of the check.
    pub status: Status,
    /// Text for people, of one or more lines, without secrets.
    pub found: String,
    /// The fix, if one is needed.
    pub fix: Option<String>,
}

impl Finding {
    /// A healthy result.
    pub fn ok(found: impl Into<String>) -> Self {
        Self { status: Status::Ok, found: found.into(), fix: None }
    }

    /// A result that works but deserves attention.
    pub fn warning(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    /// A result that does not work, or will soon stop working.
    pub fn wrong(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Wrong, found: found.into(), fix: Some(fix.into()) }
    }

    /// A check that was skipped, with the reason.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self { status: Status::Skipped, found: reason.into(), fix: None }
    }
}

/// The finding of a check whose database statement failed.
pub fn failed(error: impl std::fmt::Display) -> Finding {
    Finding::wrong(
        format!("reading the database failed: {error}"),
        "see the log of the database, then run `nas-cron doctor` again",
    )
}

/// True if a request failed without a response. The same request may succeed from another machine.
pub fn never_answered(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<reqwest::Error>();
    error.is_some_and(|error| error.is_connect() || error.is_timeout() || error.is_request())
}
