//! `/api/admin/agents/{instance_id}/identities`: the keys that an agent calls with, and their end.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use nas_cron_protocol::{AgentRuntimeId, InstanceId, TaskId};
use tracing::info;

use super::AdminState;
use super::agents::named;
use crate::http::agent_identity::{IdentitiesResponse, no_identity, no_task};
use crate::http::error::responses::{AdminErrors, UnknownAgent};
use crate::http::error::{Problem, ProblemBody};
use crate::http::extract::PathNames;

/// List an agent's identities and their tasks
///
/// Also those of an org that does not have the agent any more, with `of_org`.
#[utoipa::path(
    get,
    path = "/api/admin/agents/{instance_id}/identities",
    operation_id = "list_agent_identities",
    tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = String, Path, description = "The agent's name in the portal.")),
    responses(
        (status = OK, description = "Its identities.", body = IdentitiesResponse),
        AdminErrors,
        UnknownAgent,
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    path: PathNames<String>,
) -> Result<Json<IdentitiesResponse>, Problem> {
    let instance_id = named(path)?;
    state.directory.find(&instance_id).await?;
    Ok(Json(IdentitiesResponse { identities: state.identities.list(&instance_id).await? }))
}

/// Revoke an agent's identity
///
/// Nothing that its key signs is taken any more, on any replica; and the key does not come back. The agent's tokens of
/// the portal stay good: disable the agent to stop it altogether.
#[utoipa::path(
    delete,
    path = "/api/admin/agents/{instance_id}/identities/{agent_runtime_id}",
    operation_id = "revoke_agent_identity",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("instance_id" = String, Path, description = "The agent's name in the portal."),
        ("agent_runtime_id" = String, Path, description = "The identity."),
    ),
    responses(
        (status = NO_CONTENT, description = "It is revoked, now or before."),
        AdminErrors,
        (status = NOT_FOUND, description = "This agent has no such identity.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    path: PathNames<(String, String)>,
) -> Result<StatusCode, Problem> {
    let names = path.known(|(instance, identity)| {
        Some((InstanceId::new(instance).ok()?, AgentRuntimeId::parse(&identity).ok()?))
    });
    let (instance_id, id) = names.ok_or_else(no_identity)?;
    state.identities.revoke(&instance_id, id).await?.ok_or_else(no_identity)?;
    info!(agent.id = %instance_id, agent_runtime_id = %id, "an identity is revoked by an administrator");
    Ok(StatusCode::NO_CONTENT)
}

/// Revoke a task of an agent's identity
#[utoipa::path(
    delete,
    path = "/api/admin/agents/{instance_id}/identities/{agent_runtime_id}/tasks/{task_id}",
    operation_id = "revoke_agent_task",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("instance_id" = String, Path, description = "The agent's name in the portal."),
        ("agent_runtime_id" = String, Path, description = "The identity."),
        ("task_id" = String, Path, description = "One of its tasks."),
    ),
    responses(
        (status = NO_CONTENT, description = "It is revoked, now or before."),
        AdminErrors,
        (status = NOT_FOUND, description = "This agent has no such task.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn revoke_task(
    State(state): State<AdminState>,
    path: PathNames<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let names = path.known(|(instance, identity, task)| {
        let instance_id = InstanceId::new(instance).ok()?;
        Some((instance_id, AgentRuntimeId::parse(&identity).ok()?, TaskId::parse(&task).ok()?))
    });
    let (instance_id, id, task_id) = names.ok_or_else(no_task)?;
    let revoked = state.identities.revoke_task(&instance_id, id, task_id).await?;
    revoked.ok_or_else(no_task)?;
    info!(agent.id = %instance_id, agent_runtime_id = %id, "a task is revoked by an administrator");
    Ok(StatusCode::NO_CONTENT)
}
