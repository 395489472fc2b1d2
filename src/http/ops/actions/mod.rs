//! Carries out the forms of pages. Whatever the form, the order is the same: a form takes effect once, the audit log has its
//! line before the change, the role and the org are checked, and then the operation runs, the same as in the admin API.

mod jobs;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use tracing::info;

use super::OpsState;
use super::form::Form;
use super::session::{Proof, SENT, Session};
use super::view::Html;
use crate::audit::{Act, AuditOutcome};
use crate::http::ApiError;
use crate::http::admin::access::{self, permitted};
use crate::http::admin::gate::outcome;
use crate::http::error::{ErrorPage, Failure};
use crate::operator_sessions::Submission;

/// Fields of a form that the audit log has: they name what it is about.
const SUBJECTS: [&str; 4] = ["org_id", "instance_id", "job_id", "schedule_id"];

/// What an action has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Description for the operator.
    pub(super) text: String,
}

impl Done {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

/// Carries out the form of an operation, and leads back to its page, which shows the result. A form that arrives again shows
/// the result of the first time.
pub(super) async fn carry_out(
    State(ops): State<OpsState>,
    session: Session,
    Path(operation): Path<String>,
    form: Form,
) -> Result<Response, ErrorPage> {
    let unknown =
        || ApiError::NotFound("there is no such action; reload the page that the form is on".into());
    let operation = access::operation(&operation).filter(|row| is_offered(row.id)).ok_or_else(unknown)?;
    let submission_id = form.submission_id()?;
    let back = back(&form, submission_id);
    if !ops.sessions.submit(&session.id, submission_id).await? {
        return Ok(Redirect::to(&back).into_response());
    }
    let subject: Vec<_> = SUBJECTS
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), form.text(name)?.to_owned())))
        .collect();
    let allowed = permitted(&session.actor, operation, &subject);
    let line = ops.admin.audit.begin(&session.actor, &Act { action: operation.id, subject }).await?;
    let result = match allowed {
        Ok(()) => perform(&ops, &session, operation.id, &form).await,
        Err(error) => Err(error),
    };
    let answered = Answered::of(result);
    ops.admin.audit.end(line, answered.outcome, &[], answered.detail.as_deref()).await;
    let stored = Submission {
        submission_id,
        outcome: answered.outcome,
        answer: Some(answered.text),
        changed: None,
        next: None,
    };
    ops.sessions.answer(&session.id, &stored).await?;
    if stored.outcome == AuditOutcome::Done {
        info!(action = operation.id, "action of the operators' page carried out");
    }
    Ok(answered.failed.unwrap_or_else(|| Redirect::to(&back).into_response()))
}

/// The result of an action.
struct Answered {
    outcome: AuditOutcome,
    text: String,
    /// Reason of a rejection or failure, for the audit log.
    detail: Option<String>,
    /// The response instead of the page that the form was on.
    failed: Option<Response>,
}

impl Answered {
    fn of(result: Result<Done, ApiError>) -> Self {
        let error = match result {
            Ok(Done { text }) => {
                return Self { outcome: AuditOutcome::Done, text, detail: None, failed: None };
            }
            Err(error) => error,
        };
        // The page shows what has changed meanwhile.
        let is_stale = matches!(error, ApiError::Conflict(_));
        let response = ErrorPage(error).into_response();
        let failure = response.extensions().get::<Failure>().cloned();
        let text = failure.map(|failure| failure.detail).unwrap_or_default();
        Self {
            outcome: outcome(response.status()),
            detail: Some(text.clone()),
            text,
            failed: (!is_stale).then_some(response),
        }
    }
}

/// Returns the page of a form, which is to show the form's result.
fn back(form: &Form, submission_id: uuid::Uuid) -> String {
    let back = form.back();
    let separator = if back.contains('?') { '&' } else { '?' };
    format!("{back}{separator}{SENT}={submission_id}")
}

/// True for the operations that pages have forms for.
fn is_offered(operation: &str) -> bool {
    jobs::OPERATIONS.contains(&operation)
}

async fn perform(ops: &OpsState, session: &Session, operation: &str, form: &Form) -> Result<Done, ApiError> {
    let operations = ops.admin.operations.within(session.actor.org_filter());
    jobs::perform(&operations, operation, form, session.now).await
}

/// The form of an action, as a page shows it.
#[derive(Clone, Debug, Template)]
#[template(path = "action.html")]
pub(super) struct Action {
    operation: &'static str,
    label: &'static str,
    proof: Proof,
    /// Names and values of what it is about.
    fields: Vec<(&'static str, String)>,
    /// What it does, if that needs a second look before it is done.
    warning: Option<&'static str>,
    /// Label of a text that the operator may enter as the reason.
    reason: bool,
    /// The same on the command line.
    command: Html,
}

impl HtmlSafe for Action {}

impl Action {
    /// Returns the form of an operation; `None` if the operator may not carry it out.
    pub(super) fn offered(
        session: &Session,
        operation: &'static str,
        label: &'static str,
        command: &str,
    ) -> Option<Self> {
        session.may(operation).then(|| Self {
            operation,
            label,
            proof: session.proof(),
            fields: Vec::new(),
            warning: None,
            reason: false,
            command: super::view::shown(command),
        })
    }

    /// Adds what it is about.
    #[must_use]
    pub(super) fn about(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds what the operator should know before.
    #[must_use]
    pub(super) fn warned(self, warning: &'static str) -> Self {
        Self { warning: Some(warning), ..self }
    }

    /// Adds a field for a reason.
    #[must_use]
    pub(super) fn with_reason(self) -> Self {
        Self { reason: true, ..self }
    }
}
