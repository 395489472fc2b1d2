//! Lists jobs, and the attempts of one.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::{AttemptPage, JobPage};

use super::{Conditions, JobPath, States, UnknownJob, named, selection};
use crate::domain::actor::Actor;
use crate::http::admin::AdminState;
use crate::http::error::Problem;
use crate::http::extract::{PathNames, QueryParams};
use crate::operations::Cursor;
use crate::operations::jobs::MAX_PAGE;

/// Default number of jobs or attempts per page.
const DEFAULT_LIMIT: u32 = 100;

/// List jobs
///
/// Returns one page of jobs with a current one-shot, ordered by instance and job, or by the next attempt if that is a
/// condition and neither an instance nor an org is. Each request examines a limited number of one-shots: a page may be short, or empty, although others follow.
/// Continue until `next` is null.
#[utoipa::path(get, path = "/api/admin/jobs", operation_id = "list_jobs", tag = "admin",
    security(("admin_token" = [])),
    params(Conditions, States,
        ("limit" = Option<u32>, Query, description = "Maximum number of jobs. Default: 100.", minimum = 1, maximum = 200),
        ("after" = Option<Cursor>, Query, description = "Resume after this cursor: the `next` of the previous page, with the same conditions.")),
    responses((status = OK, description = "A page of jobs.", body = JobPage)))]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<JobPage>, Problem> {
    let filter = selection(&query)?;
    let limit = query.number("limit", MAX_PAGE)?.unwrap_or(DEFAULT_LIMIT);
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.list_jobs(&filter, limit, query.text("after")).await?))
}

/// List the attempts of a job
///
/// Returns one page of attempts that have ended, the newest first, also those of earlier one-shots of the job.
#[utoipa::path(get, path = "/api/admin/jobs/{instance_id}/{job_id}/attempts", operation_id = "list_job_attempts",
    tag = "admin", security(("admin_token" = [])),
    params(JobPath,
        ("limit" = Option<u32>, Query, description = "Maximum number of attempts. Default: 100.", minimum = 1, maximum = 200),
        ("after" = Option<Cursor>, Query, description = "Resume after this cursor: the `next` of the previous page.")),
    responses((status = OK, description = "A page of attempts.", body = AttemptPage),
        UnknownJob))]
pub(super) async fn attempts(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
    query: QueryParams,
) -> Result<Json<AttemptPage>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let limit = query.number("limit", MAX_PAGE)?.unwrap_or(DEFAULT_LIMIT);
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.attempts(&instance_id, &job_id, limit, query.text("after")).await?))
}
