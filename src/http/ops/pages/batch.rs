//! An action on many jobs: what it would change, and its progress.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use nas_cron_base::terminal::counted;

use crate::domain::job_filter::JobFilter;
use crate::http::error::{ApiError, ErrorPage};
use crate::http::extract::refuse;
use crate::http::ops::OpsState;
use crate::http::ops::actions::batch::{self, OPERATIONS, PER_SECOND};
use crate::http::ops::failure::rendered;
use crate::http::ops::form::Form;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::{Proof, Session};
use crate::http::ops::view::{Html, id, with_query};

/// Jobs that are counted at most: a page must not read all of millions.
const COUNTED: i64 = 10_000;
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
    per_second: String,
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
    changed: i64,
    next: Option<String>,
}

/// Counts the jobs of a filter that an operation would change, or shows its progress.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&[JobFilter::NAMES.as_slice(), &["operation", "per_second"]].concat())?;
    let (operation, label) = known(params.text("operation"))?;
    let filter = batch::narrowed(operation, batch::filter(|name| params.text(name))?);
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let sent = session.sent.as_ref();
    let progress = sent.and_then(|sent| Some(Progress { changed: sent.changed?, next: sent.next.clone() }));
    let (counted, is_nothing) = if progress.is_some() {
        (None, false)
    } else {
        let (count, more) = operations.count_jobs(&filter, COUNTED).await?;
        let more = if more { "More than " } else { "" };
        (Some(format!("{more}{}", counted(count, "job"))), count == 0)
    };
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
        jobs: Vec::new(),
        named: Vec::new(),
        counted,
        is_nothing,
        kind: Kind::of(operation),
        per_second: params.text("per_second").map_or_else(|| PER_SECOND.to_string(), str::to_owned),
        progress,
    };
    Ok(rendered(&page))
}

/// Shows what an operation would do to the selected jobs, or to all that match if the operator chose that. Changes nothing.
pub(in crate::http::ops) async fn chosen(session: Session, form: Form) -> Result<Response, ErrorPage> {
    let (operation, label) = known(form.text("operation"))?;
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
        named: named.map(|job| (id(job.job.as_str()), id(job.agent.as_str()))).collect(),
        counted: Some(counted(jobs.len().try_into().unwrap_or(i64::MAX), "job")),
        jobs: form.all(batch::JOB).map(str::to_owned).collect(),
        is_nothing: false,
        kind: Kind::of(operation),
        per_second: PER_SECOND.to_string(),
        progress: None,
        list: back,
    };
    Ok(rendered(&page))
}

fn known(operation: Option<&str>) -> Result<(&'static str, &'static str), ApiError> {
    let found = OPERATIONS.into_iter().find(|(id, _)| Some(*id) == operation);
    found.ok_or_else(|| refuse("operation", "unknown action; choose one in the list of jobs"))
}
