//! Notes of handlers for the audit log, beyond the path of the call.

/// Notes for the line of a state-changing call, in the extensions of its response.
///
/// A handler adds what only the body or the result tells: `Extension(Noted::about("token", name))`. Errors add their
/// detail by themselves. Never a secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    /// Names and values that are added to the subject.
    pub(super) about: Vec<(String, String)>,
    /// Reason of a rejection or failure, or the extent of the change.
    pub(super) detail: Option<String>,
}

impl Noted {
    /// Notes an entry of the subject.
    pub(super) fn about(name: &str, value: impl ToString) -> Self {
        Self::default().and_about(name, value)
    }

    /// Notes another entry of the subject.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "takes names, ids and words alike")]
    pub(super) fn and_about(mut self, name: &str, value: impl ToString) -> Self {
        self.about.push((name.to_owned(), value.to_string()));
        self
    }

    /// Notes a detail beside the subject.
    #[must_use]
    pub(super) fn and_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Notes a detail.
    #[must_use]
    pub(super) fn detail(detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::default() }
    }
}
