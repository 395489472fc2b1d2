//! `/api/admin/agents/{instance_id}/identities`: lists and revokes an agent's keys and tasks.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use nas_cron_protocol::{AgentRuntimeId, InstanceId, TaskId};
use tracing::info;

use super::AdminState;
use super::agents::named;
use crate::domain::actor::Actor;
use crate::domain::identity::Scope;
use crate::http::agent_identity::{IdentitiesResponse, no_identity, no_task};
use crate::http::error::Problem;
use crate::http::error::responses::UnknownAgent;
use crate::http::extract::PathNames;

/// Returns the identities that a caller sees: those that were registered for its org, if it is limited to one.
fn scope<'a>(actor: &'a Actor, instance_id: &'a InstanceId) -> Scope<'a> {
    Scope { instance_id, org_id: actor.org_filter() }
}

/// List an agent's identities and their tasks
///
/// Includes identities that were registered for an earlier org of the agent; these have `of_org`.
#[utoipa::path(
    get,
    path = "/api/admin/agents/{instance_id}/identities",
    operation_id = "list_agent_identities",
    tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses(
        (status = OK, description = "The agent's identities.", body = IdentitiesResponse),
        UnknownAgent,
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<IdentitiesResponse>, Problem> {
    let instance_id = named(path)?;
    state.directory.find(&instance_id, actor.org_filter()).await?;
    let identities = state.identities.list(scope(&actor, &instance_id)).await?;
    Ok(Json(IdentitiesResponse { identities }))
}

/// Revoke an agent's identity
///
/// Once the response is sent, every replica rejects what the key signs. A revoked key cannot be registered again. The
/// agent's access tokens stay valid; disable the agent to block it completely.
#[utoipa::path(
    delete,
    path = "/api/admin/agents/{instance_id}/identities/{agent_runtime_id}",
    operation_id = "revoke_agent_identity",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal."),
        ("agent_runtime_id" = AgentRuntimeId, Path, description = "The identity's ID."),
    ),
    responses(
        (status = NO_CONTENT, description = "Revoked, now or earlier."),
        (status = NOT_FOUND, description = "The agent has no identity with this ID."),
    )
)]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<StatusCode, Problem> {
    let names = path.known(|(instance, identity)| {
        Some((InstanceId::new(instance).ok()?, AgentRuntimeId::parse(&identity).ok()?))
    });
    let (instance_id, id) = names.ok_or_else(no_identity)?;
    state.identities.revoke(scope(&actor, &instance_id), id).await?.ok_or_else(no_identity)?;
    info!(agent.id = %instance_id, agent_runtime_id = %id, "agent identity revoked by an administrator");
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
        ("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal."),
        ("agent_runtime_id" = AgentRuntimeId, Path, description = "The identity's ID."),
        ("task_id" = TaskId, Path, description = "The task's ID."),
    ),
    responses(
        (status = NO_CONTENT, description = "Revoked, now or earlier."),
        (status = NOT_FOUND, description = "The agent has no task with this ID."),
    )
)]
pub(super) async fn revoke_task(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let names = path.known(|(instance, identity, task)| {
        let instance_id = InstanceId::new(instance).ok()?;
        Some((instance_id, AgentRuntimeId::parse(&identity).ok()?, TaskId::parse(&task).ok()?))
    });
    let (instance_id, id, task_id) = names.ok_or_else(no_task)?;
    let revoked = state.identities.revoke_task(scope(&actor, &instance_id), id, task_id).await?;
    revoked.ok_or_else(no_task)?;
    info!(agent.id = %instance_id, agent_runtime_id = %id, "agent task revoked by an administrator");
    Ok(StatusCode::NO_CONTENT)
}
