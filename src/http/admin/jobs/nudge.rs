//! Nudges and dismisses jobs whose agents have not armed the next fire.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use nas_cron_protocol::ScheduleId;
use nas_cron_protocol::admin_api::{DismissedJob, NudgedJob};
use serde::Deserialize;
use tracing::info;

use super::{JobPath, UnknownJob, named};
use crate::domain::actor::Actor;
use crate::http::admin::AdminState;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames};
use crate::http::log_fields;

/// The one-shot to fire once more.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NudgeRequest {
    /// ID of the job's current one-shot. If its agent has armed another one, nothing is fired.
    #[schema(value_type = ScheduleId)]
    schedule_id: String,
    /// Start of its delivered attempt, as the job shows it. If it was delivered again since, nothing is fired.
    #[schema(required)]
    last_started_at: Option<DateTime<Utc>>,
}

/// Nudge a job
///
/// Fires the job's delivered one-shot once more, so that its agent arms the next fire. The agent may run the job again.
/// The one-shot keeps its ID and gets a fresh retry budget. The request names the delivery that was seen, so repeating it fires
/// nothing.
#[utoipa::path(post, path = "/api/admin/jobs/{instance_id}/{job_id}/nudge", operation_id = "nudge_job", tag = "admin",
    security(("admin_token" = [])), params(JobPath),
    request_body(content = NudgeRequest, content_type = "application/json"),
    responses((status = OK, description = "The one-shot is due, or fires at the end of the hold.", body = NudgedJob),
        UnknownJob,
        (status = CONFLICT, description = "The job has another one-shot, or this one was not delivered, or delivered again.")))]
pub(super) async fn nudge(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
    body: Result<JsonBody<NudgeRequest>, ApiError>,
) -> Result<Json<NudgedJob>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let NudgeRequest { schedule_id, last_started_at } = body?.0;
    let schedule_id = ScheduleId::parse(&schedule_id)?;
    log_fields::schedule(schedule_id);
    let operations = state.operations.within(actor.org_filter());
    let nudged = operations.nudge_job(&instance_id, &job_id, schedule_id, last_started_at).await?;
    info!("job nudged by an operator");
    Ok(Json(nudged))
}

/// Dismiss a dormant job
///
/// The job has finished, and is no longer shown as dormant. After another delivery it is watched again.
#[utoipa::path(post, path = "/api/admin/jobs/{instance_id}/{job_id}/dismiss", operation_id = "dismiss_job",
    tag = "admin", security(("admin_token" = [])), params(JobPath),
    responses((status = OK, description = "The job is dismissed.", body = DismissedJob),
        UnknownJob,
        (status = CONFLICT, description = "The job is not dormant.")))]
pub(super) async fn dismiss(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<Json<DismissedJob>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let operations = state.operations.within(actor.org_filter());
    let dismissed = operations.dismiss_job(&instance_id, &job_id).await?;
    info!("dormant job dismissed by an operator");
    Ok(Json(dismissed))
}
