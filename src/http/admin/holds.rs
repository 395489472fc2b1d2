//! `/api/admin/holds`: stop fires for a while without losing any.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::{HeldScope, HoldList, Released};
use nas_cron_protocol::{InstanceId, JobId, OrgId};
use serde::Deserialize;
use tracing::info;
use utoipa::IntoResponses;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::domain::actor::Actor;
use crate::domain::hold::{HoldTarget, check_reason};
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames};

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(hold_service, release_service))
        .routes(routes!(hold_org, release_org))
        .routes(routes!(hold_instance, release_instance))
        .routes(routes!(hold_job, release_job))
}

/// A hold.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = HoldRequest)]
#[serde(deny_unknown_fields)]
struct HoldRequest {
    /// Reason for the hold, shown in lists. Absent or `null` keeps the reason of a hold that exists.
    #[schema(min_length = 1, max_length = 500, example = "database maintenance")]
    reason: Option<String>,
}

/// Error of every operation on one scope.
#[derive(IntoResponses)]
#[response(status = 404, description = "Nothing is known by this name.")]
struct UnknownScope;

type Body = Result<JsonBody<HoldRequest>, ApiError>;

async fn hold(
    state: &AdminState,
    actor: &Actor,
    target: HoldTarget,
    body: Body,
) -> Result<Json<HeldScope>, Problem> {
    let reason = body?.0.reason;
    check_reason(reason.as_deref())?;
    let held = state.operations.within(actor.org_filter()).hold(&target, reason.as_deref()).await?;
    info!(scope = %held.scope, scope.id = held.scope_id, job.id = held.job_id, "put on hold");
    Ok(Json(held))
}

async fn release(state: &AdminState, actor: &Actor, target: HoldTarget) -> Result<Json<Released>, Problem> {
    let ended = state.operations.within(actor.org_filter()).release(&target).await?;
    info!(
        scope = %ended.scope, scope.id = ended.scope_id, job.id = ended.job_id, released = ended.released,
        "hold ended"
    );
    Ok(Json(ended))
}

fn org(path: PathNames<String>) -> Result<HoldTarget, ApiError> {
    path.name("org_id", OrgId::new).map(HoldTarget::Org)
}

fn instance(path: PathNames<String>) -> Result<HoldTarget, ApiError> {
    path.name("instance_id", InstanceId::new).map(HoldTarget::Instance)
}

fn job(path: PathNames<(String, String)>) -> Result<HoldTarget, ApiError> {
    let (instance_id, job_id) = path.job()?;
    Ok(HoldTarget::Job(instance_id, job_id))
}

/// List holds
///
/// A token that is limited to an org gets those of the org, its agents and their jobs.
#[utoipa::path(get, path = "/api/admin/holds", operation_id = "list_holds", tag = "admin",
    security(("admin_token" = [])),
    responses((status = OK, description = "The holds, the widest first.", body = HoldList)))]
async fn list(State(state): State<AdminState>, actor: Actor) -> Result<Json<HoldList>, Problem> {
    Ok(Json(state.operations.within(actor.org_filter()).holds().await?))
}

/// Put the service on hold
///
/// Once the response is sent, no attempt starts. One-shots that come due are parked, not lost.
#[utoipa::path(put, path = "/api/admin/holds/service", operation_id = "hold_service", tag = "admin",
    security(("admin_token" = [])),
    request_body(content = HoldRequest, content_type = "application/json"),
    responses((status = OK, description = "The scope is on hold: no attempt starts; attempts in flight continue.", body = HeldScope),
        UnknownScope))]
async fn hold_service(
    State(state): State<AdminState>,
    actor: Actor,
    body: Body,
) -> Result<Json<HeldScope>, Problem> {
    hold(&state, &actor, HoldTarget::All, body).await
}

/// End the hold of the service
///
/// Its due one-shots fire at once, unless another hold covers them. A scope that is not on hold is not an error.
#[utoipa::path(delete, path = "/api/admin/holds/service", operation_id = "release_service", tag = "admin",
    security(("admin_token" = [])),
    responses((status = OK, description = "The scope is not on hold any more. Its due one-shots fire, unless another hold covers them.", body = Released),
        UnknownScope))]
async fn release_service(State(state): State<AdminState>, actor: Actor) -> Result<Json<Released>, Problem> {
    release(&state, &actor, HoldTarget::All).await
}

/// Put an org on hold
///
/// Once the response is sent, no attempt starts. One-shots that come due are parked, not lost.
#[utoipa::path(put, path = "/api/admin/holds/orgs/{org_id}", operation_id = "hold_org", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")),
    request_body(content = HoldRequest, content_type = "application/json"),
    responses((status = OK, description = "The scope is on hold: no attempt starts; attempts in flight continue.", body = HeldScope),
        UnknownScope))]
async fn hold_org(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Result<Json<HeldScope>, Problem> {
    hold(&state, &actor, org(path)?, body).await
}

/// End the hold of an org
///
/// Its due one-shots fire at once, unless another hold covers them. A scope that is not on hold is not an error.
#[utoipa::path(delete, path = "/api/admin/holds/orgs/{org_id}", operation_id = "release_org", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")),
    responses((status = OK, description = "The scope is not on hold any more. Its due one-shots fire, unless another hold covers them.", body = Released),
        UnknownScope))]
async fn release_org(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<Released>, Problem> {
    release(&state, &actor, org(path)?).await
}

/// Put an agent on hold
///
/// Once the response is sent, no attempt starts. One-shots that come due are parked, not lost.
#[utoipa::path(put, path = "/api/admin/holds/instances/{instance_id}", operation_id = "hold_instance", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    request_body(content = HoldRequest, content_type = "application/json"),
    responses((status = OK, description = "The scope is on hold: no attempt starts; attempts in flight continue.", body = HeldScope),
        UnknownScope))]
async fn hold_instance(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Result<Json<HeldScope>, Problem> {
    hold(&state, &actor, instance(path)?, body).await
}

/// End the hold of an agent
///
/// Its due one-shots fire at once, unless another hold covers them. A scope that is not on hold is not an error.
#[utoipa::path(delete, path = "/api/admin/holds/instances/{instance_id}", operation_id = "release_instance", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses((status = OK, description = "The scope is not on hold any more. Its due one-shots fire, unless another hold covers them.", body = Released),
        UnknownScope))]
async fn release_instance(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<Released>, Problem> {
    release(&state, &actor, instance(path)?).await
}

/// Put a job on hold
///
/// Once the response is sent, no attempt starts. One-shots that come due are parked, not lost. The hold outlives the one-shot: the agent may cancel the job and arm it again.
#[utoipa::path(put, path = "/api/admin/holds/jobs/{instance_id}/{job_id}", operation_id = "hold_job", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal."),
        ("job_id" = JobId, Path, description = "The job's ID, chosen by the agent.")),
    request_body(content = HoldRequest, content_type = "application/json"),
    responses((status = OK, description = "The scope is on hold: no attempt starts; attempts in flight continue.", body = HeldScope),
        UnknownScope))]
async fn hold_job(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
    body: Body,
) -> Result<Json<HeldScope>, Problem> {
    hold(&state, &actor, job(path)?, body).await
}

/// End the hold of a job
///
/// Its due one-shots fire at once, unless another hold covers them. A scope that is not on hold is not an error.
#[utoipa::path(delete, path = "/api/admin/holds/jobs/{instance_id}/{job_id}", operation_id = "release_job", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal."),
        ("job_id" = JobId, Path, description = "The job's ID, chosen by the agent.")),
    responses((status = OK, description = "The scope is not on hold any more. Its due one-shots fire, unless another hold covers them.", body = Released),
        UnknownScope))]
async fn release_job(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<Json<Released>, Problem> {
    release(&state, &actor, job(path)?).await
}
