//! Carries out the forms of pages. Whatever the form, the order is the same: a form takes effect once, the audit log has its
//! line before the change, the role and the org are checked, and then the operation runs, the same as in the admin API.

mod agents;
pub(super) mod backends;
pub(super) mod batch;
mod holds;
mod jobs;
pub(super) mod keys;
pub(super) mod webhooks;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use tracing::{Instrument, info};

use super::OpsState;
use super::form::Form;
use super::session::{Proof, SENT, Session};
use super::view::{CommandLine, Html};
use crate::audit::{Act, AuditOutcome};
use crate::domain::job_filter::JobFilter;
use crate::http::ApiError;
use crate::http::admin::access::{self, Operation, permitted};
use crate::http::admin::gate::{fits, outcome};
use crate::http::error::{ErrorPage, Failure};
use crate::operator_sessions::Submission;

/// Fields of a form that the audit log has: they name what it is about.
const SUBJECTS: [&str; 9] = [
    "schedule_id",
    "webhook_id",
    "event_id",
    "per_second",
    "kid",
    keys::NOW,
    "backend",
    backends::FORCE,
    webhooks::ENABLED,
];

/// The result of an action.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Description for the operator.
    pub(super) text: String,
    /// Number of jobs that were changed, by an action on many.
    pub(super) changed: Option<i64>,
    /// Cursor of the rest; `None` if nothing is left.
    pub(super) next: Option<String>,
    /// Names and values of what it was about that only the result tells, for the audit log.
    pub(super) about: Vec<(String, String)>,
}

impl Done {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
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
    let operation =
        access::operation(&operation).filter(|row| is_offered(row.id, &form)).ok_or_else(unknown)?;
    let submission_id = form.submission_id()?;
    // A task of its own: a browser that leaves drops the request, and its form is then neither left half done nor unanswered.
    let task = once(ops, session, operation, submission_id, form).in_current_span();
    tokio::spawn(task).await.map_err(|error| ApiError::Internal(error.into()))?
}

/// Carries out a form, unless it has arrived before.
async fn once(
    ops: OpsState,
    session: Session,
    operation: &'static Operation,
    submission_id: uuid::Uuid,
    form: Form,
) -> Result<Response, ErrorPage> {
    let back = back(&form, submission_id);
    if !ops.sessions.submit(&session.id, submission_id).await? {
        return Ok(Redirect::to(&back).into_response());
    }
    let subject = subject(&form);
    let allowed = permitted(&session.actor, operation, &subject);
    // An action on many jobs has a line for each of them.
    let has_own_lines = batch::has_own_lines(operation.id, &form) && allowed.is_ok();
    let line = if has_own_lines {
        None
    } else {
        Some(ops.admin.audit.begin(&session.actor, &Act { action: operation.id, subject }).await?)
    };
    let result = match allowed {
        Ok(()) => perform(&ops, &session, operation.id, &form).await,
        Err(error) => Err(error),
    };
    let answered = Answered::of(result);
    if let Some(line) = line {
        let about = &answered.done.about;
        ops.admin.audit.end(line, answered.outcome, about, answered.detail.as_deref()).await;
    }
    let stored = Submission {
        submission_id,
        outcome: answered.outcome,
        answer: Some(answered.done.text),
        changed: answered.done.changed,
        next: answered.done.next,
    };
    ops.sessions.answer(&session.id, &stored).await?;
    if stored.outcome == AuditOutcome::Done {
        info!(action = operation.id, "action of the operators' page carried out");
    }
    Ok(answered.failed.unwrap_or_else(|| Redirect::to(&back).into_response()))
}

/// Returns the names and values of what a form is about.
fn subject(form: &Form) -> Vec<(String, String)> {
    let names = JobFilter::NAMES.into_iter().chain(SUBJECTS);
    let found = names.filter_map(|name| Some((name.to_owned(), form.text(name)?.to_owned())));
    // The line is written before the fields are checked.
    found.filter(|(_, value)| fits(value)).collect()
}

/// The outcome of a form.
struct Answered {
    outcome: AuditOutcome,
    done: Done,
    /// Reason of a rejection or failure, for the audit log.
    detail: Option<String>,
    /// The response instead of the page that the form was on.
    failed: Option<Response>,
}

impl Answered {
    fn of(result: Result<Done, ApiError>) -> Self {
        let error = match result {
            Ok(done) => {
                let detail = done.changed.map(|changed| format!("{changed} jobs"));
                return Self { outcome: AuditOutcome::Done, done, detail, failed: None };
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
            done: Done::new(text),
            failed: (!is_stale).then_some(response),
        }
    }
}

/// Returns the page of a form, which is to show the form's result.
fn back(form: &Form, submission_id: uuid::Uuid) -> String {
    let back = batch::back(form);
    let separator = if back.contains('?') { '&' } else { '?' };
    format!("{back}{separator}{SENT}={submission_id}")
}

/// True for the operations that pages have forms for.
fn is_offered(operation: &str, form: &Form) -> bool {
    if batch::is_meant(form) {
        return batch::OPERATIONS.iter().any(|(id, _)| *id == operation);
    }
    let files = [
        jobs::OPERATIONS,
        holds::OPERATIONS,
        agents::OPERATIONS,
        webhooks::OPERATIONS,
        keys::OPERATIONS,
        backends::OPERATIONS,
    ];
    files.iter().any(|operations| operations.contains(&operation))
}

async fn perform(
    ops: &OpsState,
    session: &Session,
    operation: &'static str,
    form: &Form,
) -> Result<Done, ApiError> {
    let (admin, actor) = (&ops.admin, &session.actor);
    let operations = admin.operations.within(actor.org_filter());
    match operation {
        _ if batch::is_meant(form) => batch::perform(&operations, &admin.audit, actor, operation, form).await,
        _ if holds::OPERATIONS.contains(&operation) => holds::perform(&operations, operation, form).await,
        _ if agents::OPERATIONS.contains(&operation) => agents::perform(&operations, operation, form).await,
        _ if webhooks::OPERATIONS.contains(&operation) => {
            webhooks::perform(&admin.webhooks, actor, operation, form).await
        }
        _ if keys::OPERATIONS.contains(&operation) => keys::perform(&admin.keys, operation, form).await,
        _ if backends::OPERATIONS.contains(&operation) => backends::perform(&admin.backends, form).await,
        _ => jobs::perform(&operations, operation, form).await,
    }
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
    /// Warning that the operator reads before the button; `None` for an action without one.
    warning: Option<&'static str>,
    /// True if the operator may enter a reason.
    reason: bool,
    /// A field that the operator fills in: its name, its label, and its first value.
    input: Option<(&'static str, &'static str, String)>,
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
        command: &CommandLine,
    ) -> Option<Self> {
        session.may(operation).then(|| Self {
            operation,
            label,
            proof: session.proof(),
            fields: Vec::new(),
            warning: None,
            reason: false,
            input: None,
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

    /// Adds a field that the operator fills in.
    #[must_use]
    pub(super) fn with_input(self, name: &'static str, label: &'static str, value: Option<String>) -> Self {
        Self { input: Some((name, label, value.unwrap_or_default())), ..self }
    }

    /// Leads to another page than the one that the form is on.
    #[must_use]
    pub(super) fn leading_to(mut self, back: &str) -> Self {
        back.clone_into(&mut self.proof.back);
        self
    }

    /// Adds a field for a reason.
    #[must_use]
    pub(super) fn with_reason(self) -> Self {
        Self { reason: true, ..self }
    }
}
