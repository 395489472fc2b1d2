//! What a check says.

use serde::Serialize;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
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
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Warning => "!",
            Self::Wrong => "✗",
            Self::Skipped => "-",
        }
    }

    /// For everything else.
    pub(super) const fn word(self) -> &'static str {
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
pub(super) struct Finding {
    pub(super) status: Status,
    /// For people, in one line or several. Holds no secret.
    pub(super) found: String,
    /// What to do, where something is to be done.
    pub(super) mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self { status: Status::Ok, found: found.into(), mend: None }
    }

    pub(super) fn warning(found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status: Status::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    pub(super) fn wrong(found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status: Status::Wrong, found: found.into(), mend: Some(mend.into()) }
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self { status: Status::Skipped, found: why.into(), mend: None }
    }
}
