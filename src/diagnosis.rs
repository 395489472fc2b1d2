//! Findings of the checks of `nas-cron doctor`.

use serde::Serialize;

/// The status of what a check looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work, or not for long.
    Wrong,
    /// Nothing to look at, or nothing that could be seen.
    Skipped,
}

impl Status {
    /// For a terminal.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Warning => "!",
            Self::Wrong => "✗",
            Self::Skipped => "-",
        }
    }

    /// For everything else.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Skipped => "-",
        }
    }
}

/// What a check found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub status: Status,
    /// For people, in one line or several. Holds no secret.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(rename = "mend")]
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(found: impl Into<String>) -> Self {
        Self { status: Status::Ok, found: found.into(), fix: None }
    }

    /// It works, and somebody should know.
    pub fn warning(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    /// It does not work, or not for long.
    pub fn wrong(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Wrong, found: found.into(), fix: Some(fix.into()) }
    }

    /// Not looked at, and why.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { status: Status::Skipped, found: why.into(), fix: None }
    }
}

/// The finding where a statement failed.
pub fn failed(error: impl std::fmt::Display) -> Finding {
    Finding::wrong(format!("cannot be read: {error}"), "see the database's log, and look again")
}

/// Whether a request failed without a response: then it may work from elsewhere.
pub fn never_answered(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<reqwest::Error>();
    error.is_some_and(|error| error.is_connect() || error.is_timeout() || error.is_request())
}
