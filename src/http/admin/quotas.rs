//! `/api/admin/quotas`: the quotas of armed jobs of agents and orgs.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::QuotaUse;
use nas_cron_protocol::{InstanceId, OrgId};
use serde::Deserialize;
use tracing::info;
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::domain::actor::Actor;
use crate::domain::quota::QuotaTarget;
use crate::http::error::responses::UnknownAgent;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, whole};

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new()
        .routes(routes!(get_instance, put_instance, delete_instance))
        .routes(routes!(get_org, put_org, delete_org))
}

/// A quota to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QuotaRequest {
    /// Maximum number of armed jobs. 0 rejects every new job.
    #[schema(maximum = 100_000_000)]
    #[serde(deserialize_with = "whole::required")]
    quota: u32,
}

/// Error of every operation on an org's quota.
#[derive(IntoResponses)]
#[response(status = 404, description = "No agent of this org is registered.")]
struct UnknownOrg;

type Body = Result<JsonBody<QuotaRequest>, ApiError>;
type Answer = Result<Json<QuotaUse>, Problem>;

fn instance(path: PathNames<String>) -> Result<QuotaTarget, ApiError> {
    path.name("instance_id", InstanceId::new).map(QuotaTarget::Instance)
}

fn org(path: PathNames<String>) -> Result<QuotaTarget, ApiError> {
    path.name("org_id", OrgId::new).map(QuotaTarget::Org)
}

async fn read(state: &AdminState, actor: &Actor, target: &QuotaTarget) -> Answer {
    Ok(Json(state.operations.within(actor.org_filter()).quota(target).await?))
}

async fn set(state: &AdminState, actor: &Actor, target: &QuotaTarget, quota: Option<u32>) -> Answer {
    let set = state.operations.within(actor.org_filter()).set_quota(target, quota).await?;
    info!(scope = %set.scope, scope.id = set.scope_id, quota = set.quota, is_default = set.is_default, "quota set");
    Ok(Json(set))
}

/// Read an agent's quota of armed jobs
#[utoipa::path(get, path = "/api/admin/quotas/instances/{instance_id}", operation_id = "get_instance_quota", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses((status = OK, description = "The quota and its use.", body = QuotaUse), UnknownAgent))]
async fn get_instance(State(state): State<AdminState>, actor: Actor, path: PathNames<String>) -> Answer {
    read(&state, &actor, &instance(path)?).await
}

/// Set an agent's quota of armed jobs
///
/// It applies to the next new job. Jobs that are armed stay armed, and are always armed again.
#[utoipa::path(put, path = "/api/admin/quotas/instances/{instance_id}", operation_id = "put_instance_quota", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    request_body(content = QuotaRequest, content_type = "application/json"),
    responses((status = OK, description = "The quota and its use.", body = QuotaUse), UnknownAgent))]
async fn put_instance(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Answer {
    set(&state, &actor, &instance(path)?, Some(body?.0.quota)).await
}

/// Return an agent to the default quota
#[utoipa::path(delete, path = "/api/admin/quotas/instances/{instance_id}", operation_id = "delete_instance_quota",
    tag = "admin", security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses((status = OK, description = "The default quota and its use.", body = QuotaUse), UnknownAgent))]
async fn delete_instance(State(state): State<AdminState>, actor: Actor, path: PathNames<String>) -> Answer {
    set(&state, &actor, &instance(path)?, None).await
}

/// Read an org's quota of armed jobs
#[utoipa::path(get, path = "/api/admin/quotas/orgs/{org_id}", operation_id = "get_org_quota", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")),
    responses((status = OK, description = "The quota and its use.", body = QuotaUse), UnknownOrg))]
async fn get_org(State(state): State<AdminState>, actor: Actor, path: PathNames<String>) -> Answer {
    read(&state, &actor, &org(path)?).await
}

/// Set an org's quota of armed jobs
///
/// It limits all agents of the org together, and applies to their next new job.
#[utoipa::path(put, path = "/api/admin/quotas/orgs/{org_id}", operation_id = "put_org_quota", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")),
    request_body(content = QuotaRequest, content_type = "application/json"),
    responses((status = OK, description = "The quota and its use.", body = QuotaUse), UnknownOrg))]
async fn put_org(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Answer {
    set(&state, &actor, &org(path)?, Some(body?.0.quota)).await
}

/// Return an org to the default quota
#[utoipa::path(delete, path = "/api/admin/quotas/orgs/{org_id}", operation_id = "delete_org_quota", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")),
    responses((status = OK, description = "The default quota and its use.", body = QuotaUse), UnknownOrg))]
async fn delete_org(State(state): State<AdminState>, actor: Actor, path: PathNames<String>) -> Answer {
    set(&state, &actor, &org(path)?, None).await
}
