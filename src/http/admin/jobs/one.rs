//! Shows, explains and cancels one job.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::{CancelledJob, JobDetails, Why};
use tracing::info;

use super::{JobPath, UnknownJob, named};
use crate::domain::actor::Actor;
use crate::http::admin::AdminState;
use crate::http::error::Problem;
use crate::http::extract::{PathNames, QueryParams};
use crate::operations::jobs::MAX_PAGE;

/// Default number of attempts.
const ATTEMPTS: u32 = 10;

/// Read a job
///
/// Returns its current one-shot, the explanation of why it has not fired, and its latest attempts.
#[utoipa::path(get, path = "/api/admin/jobs/{instance_id}/{job_id}", operation_id = "get_job", tag = "admin",
    security(("admin_token" = [])),
    params(JobPath,
        ("attempts" = Option<u32>, Query, description = "Maximum number of attempts. Default: 10.", minimum = 0, maximum = 200)),
    responses((status = OK, description = "The job.", body = JobDetails), UnknownJob))]
pub(super) async fn get(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
    query: QueryParams,
) -> Result<Json<JobDetails>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let attempts = query.number_from("attempts", 0, MAX_PAGE)?.unwrap_or(ATTEMPTS);
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.job(&instance_id, &job_id, attempts).await?))
}

/// Explain why a job has not fired
///
/// Returns a code to branch on, a description, and the next step of an operator.
#[utoipa::path(get, path = "/api/admin/jobs/{instance_id}/{job_id}/why", operation_id = "explain_job",
    tag = "admin", security(("admin_token" = [])), params(JobPath),
    responses((status = OK, description = "The explanation.", body = Why), UnknownJob))]
pub(super) async fn why(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<Json<Why>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.job(&instance_id, &job_id, 0).await?.why))
}

/// Cancel a job
///
/// Once the response is sent, no attempt of its one-shot starts any more. The agent is not notified and may arm the job
/// again. A job without a one-shot is not an error.
#[utoipa::path(post, path = "/api/admin/jobs/{instance_id}/{job_id}/cancel", operation_id = "cancel_job",
    tag = "admin", security(("admin_token" = [])), params(JobPath),
    responses((status = OK, description = "The job has no one-shot any more.", body = CancelledJob)))]
pub(super) async fn cancel(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<Json<CancelledJob>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let operations = state.operations.within(actor.org_filter());
    let cancelled = operations.cancel_job(&instance_id, &job_id).await?;
    info!(cancelled = cancelled.cancelled, "job cancelled by an operator");
    Ok(Json(cancelled))
}
