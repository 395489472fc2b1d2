//! Fires a one-shot before its instant.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::ScheduleId;
use nas_cron_protocol::admin_api::FiredJob;
use serde::Deserialize;
use tracing::info;

use super::{JobPath, UnknownJob, named};
use crate::domain::actor::Actor;
use crate::http::admin::AdminState;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames};
use crate::http::log_fields;

/// The one-shot to fire.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FireJobRequest {
    /// ID of the job's current one-shot. After its fire, the job has another one, so a repeated request fires nothing.
    #[schema(value_type = ScheduleId)]
    schedule_id: String,
}

/// Fire a job now
///
/// Makes the job's current one-shot due before its instant. The agent gets the same fire as at the instant, once. Holds
/// and a `Retry-After` of the agent still apply.
#[utoipa::path(post, path = "/api/admin/jobs/{instance_id}/{job_id}/fire", operation_id = "fire_job", tag = "admin",
    security(("admin_token" = [])), params(JobPath),
    request_body(content = FireJobRequest, content_type = "application/json"),
    responses((status = OK, description = "The one-shot is due.", body = FiredJob),
        UnknownJob,
        (status = CONFLICT, description = "The job has another one-shot, or this one is in flight, has ended, is on hold or parked.")))]
pub(super) async fn fire(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
    body: Result<JsonBody<FireJobRequest>, ApiError>,
) -> Result<Json<FiredJob>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let schedule_id = ScheduleId::parse(&body?.0.schedule_id)?;
    log_fields::schedule(schedule_id);
    let operations = state.operations.within(actor.org_filter());
    let fired = operations.fire_job(&instance_id, &job_id, schedule_id).await?;
    info!("one-shot made due by an operator");
    Ok(Json(fired))
}
