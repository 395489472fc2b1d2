//! An action on many jobs: what it would change, and its progress.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use nas_cron_base::terminal::counted;

use super::batch_commands::{self as commands, Commands};
use crate::domain::job_filter::JobFilter;
use crate::http::error::{ApiError, ErrorPage};
use crate::http::extract::refuse;
use crate::http::ops::OpsState;
use crate::http::ops::actions::batch::{self, OPERATIONS, PER_SECOND};
use crate::http::ops::failure::rendered;
use crate::http::ops::form::Form;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::{Proof, Session};
use crate::http::ops::view::{Html, id, plots, with_query};

/// Statements that count the jobs: a page must not read all of millions.
const STATEMENTS: u32 = 5;
/// Jobs that the page of selected ones names.
const NAMED: usize = 20;

#[derive(Template)]
#[template(path = "batch.html")]
struct BatchPage {
    frame: Frame,
    operation: &'static str,
    label: &'static str,
    proof: Proof,
    /// The conditions as fields; none for selected jobs.
    conditions: Vec<(&'static str, String)>,
    /// The selected jobs as fields.
    jobs: Vec<String>,
    /// Some of the selected jobs.
    named: Vec<(Html, Html)>,
    /// Number of jobs that would be changed.
    counted: Option<String>,
    /// True if nothing would be changed.
    is_nothing: bool,
    kind: Kind,
    /// Number of redriven one-shots that fire per second and agent.
    per_second: String,
    /// Fields that the form of the next part sends again.
    kept: Vec<(&'static str, String)>,
    /// The commands that do the same.
    commands: Commands,
    /// Progress: the jobs changed so far, and the cursor of the rest.
    progress: Option<Progress>,
    list: String,
}

/// Operations whose form differs from that of the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Has a pace.
    Redrive,
    /// Has a reason.
    Hold,
    /// Cannot be undone.
    Cancel,
    Other,
}

impl Kind {
    fn of(operation: &str) -> Self {
        match operation {
            "redrive_jobs" => Self::Redrive,
            "hold_job" => Self::Hold,
            "cancel_job" => Self::Cancel,
            _ => Self::Other,
        }
    }
}

struct Progress {
    /// Number of jobs that were changed, as a field of the next form.
    count: i64,
    /// The same, as a text.
    changed: String,
    /// Number of jobs that were counted before the first part.
    total: Option<String>,
    next: Option<String>,
}

/// Counts the jobs of a filter that an operation would change, or shows its progress.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&[JobFilter::NAMES.as_slice(), &batch::KEPT, &["operation"]].concat())?;
    let (operation, label) = known(&session, params.text("operation"))?;
    let filter = batch::narrowed(operation, batch::filter(|name| params.text(name))?);
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let sent = session.sent.as_ref();
    let progress = sent.and_then(|sent| {
        let (count, next) = (sent.changed?, sent.next.clone());
        let total = params.text("total").and_then(|kept| total(kept, count));
        Some(Progress { count, changed: plots::number(count), total, next })
    });
    let mut kept: Vec<_> =
        batch::KEPT.iter().filter_map(|name| Some((*name, params.text(name)?.to_owned()))).collect();
    let (counted, is_nothing) = if progress.is_some() {
        (None, false)
    } else {
        let (count, more) = operations.count_jobs(&filter, STATEMENTS).await?;
        kept = vec![("total", format!("{count}{}", if more { "+" } else { "" }))];
        let more = if more { "More than " } else { "" };
        (Some(format!("{more}{}", counted(count, "job"))), count == 0)
    };
    let per_second = params.text("per_second").map_or_else(|| PER_SECOND.to_string(), str::to_owned);
    let pairs = filter.pairs();
    let page = BatchPage {
        frame: session
            .frame(format!("{label} all matching jobs"))
            .of(Section::Jobs)
            .below("Jobs", "/ops/jobs"),
        operation,
        label,
        proof: session.proof(),
        list: with_query("/ops/jobs", pairs.iter().map(|(name, value)| (*name, value.as_str()))),
        conditions: pairs,
        commands: commands::of_matching(operation, &filter, &per_second),
        jobs: Vec::new(),
        named: Vec::new(),
        counted,
        is_nothing,
        kind: Kind::of(operation),
        per_second,
        kept,
        progress,
    };
    Ok(rendered(&page))
}

/// Shows what an operation would do to the selected jobs, or to all that match if the operator chose that. Changes nothing.
pub(in crate::http::ops) async fn chosen(session: Session, form: Form) -> Result<Response, ErrorPage> {
    let (operation, label) = known(&session, form.text("operation"))?;
    if form.text(batch::MATCHING).is_some() {
        let filter = batch::filter(|name| form.text(name))?;
        let pairs = filter.pairs();
        let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
        let path = with_query("/ops/batch", [("operation", operation)].into_iter().chain(pairs));
        return Ok(axum::response::IntoResponse::into_response(axum::response::Redirect::to(&path)));
    }
    let jobs = batch::selected(&form)?;
    let named = jobs.iter().take(NAMED);
    let back = form.back().to_owned();
    let page = BatchPage {
        frame: session
            .frame(format!("{label} {}", counted(jobs.len().try_into().unwrap_or(i64::MAX), "job")))
            .of(Section::Jobs)
            .below("Jobs", "/ops/jobs"),
        operation,
        label,
        proof: Proof { back: back.clone(), ..session.proof() },
        conditions: Vec::new(),
        commands: commands::of_jobs(operation, &jobs, PER_SECOND),
        named: named.map(|job| (id(job.job.as_str()), id(job.agent.as_str()))).collect(),
        counted: Some(counted(jobs.len().try_into().unwrap_or(i64::MAX), "job")),
        jobs: form.all(batch::JOB).map(str::to_owned).collect(),
        is_nothing: false,
        kind: Kind::of(operation),
        per_second: PER_SECOND.to_string(),
        kept: Vec::new(),
        progress: None,
        list: back,
    };
    Ok(rendered(&page))
}

/// Returns the operation and its label. Fails unless the operator may carry it out.
fn known(session: &Session, operation: Option<&str>) -> Result<(&'static str, &'static str), ApiError> {
    let found = OPERATIONS.into_iter().find(|(id, _)| Some(*id) == operation);
    let found = found.ok_or_else(|| refuse("operation", "unknown action; choose one in the list of jobs"))?;
    session.require(found.0)?;
    Ok(found)
}

/// Returns the number of jobs that were counted before the first part, as a text; `None` if others match since, and more are
/// changed.
fn total(kept: &str, changed: i64) -> Option<String> {
    let (digits, more) = kept.strip_suffix('+').map_or((kept, ""), |digits| (digits, "more than "));
    let count = digits.parse().ok().filter(|count| *count >= changed || !more.is_empty())?;
    Some(format!("{more}{}", plots::number(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_never_more_than_all() {
        assert_eq!(total("4500", 2_000).as_deref(), Some("4,500"));
        assert_eq!(total("10", 12), None);
        assert_eq!(total("10+", 12).as_deref(), Some("more than 10"));
        assert_eq!(total("x", 1), None);
    }
}
