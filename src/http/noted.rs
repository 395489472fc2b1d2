//! Notes of handlers for the line of their call in the audit log, beyond its path.

use std::sync::Arc;

use parking_lot::Mutex;

/// The notes of a state-changing call. Never a secret.
///
/// A handler notes what the body names before it acts, so that the line has it whatever the outcome. Errors add their reason by
/// themselves ([`Reason`]).
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Noted>>);

/// The notes so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    /// Names and values that are added to the subject.
    pub(super) about: Vec<(String, String)>,
    /// The extent of the change.
    pub(super) detail: Option<String>,
}

impl Notes {
    /// Notes an entry of the subject.
    #[expect(clippy::needless_pass_by_value, reason = "takes names, ids and words alike")]
    pub(super) fn about(&self, name: &str, value: impl ToString) {
        self.0.lock().about.push((name.to_owned(), value.to_string()));
    }

    /// Notes the extent of the change.
    pub(super) fn detail(&self, detail: impl Into<String>) {
        self.0.lock().detail = Some(detail.into());
    }

    /// Returns the notes so far.
    pub(super) fn noted(&self) -> Noted {
        self.0.lock().clone()
    }
}

/// The reason of a rejection or failure, in the extensions of its response.
#[derive(Clone, Debug)]
pub(super) struct Reason(pub(super) String);
