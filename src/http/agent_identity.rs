//! `/v1/agent`: the keys and tasks of agents that call with assertions. The handlers only translate HTTP; the rules are
//! in [`crate::identity`].

use axum::Json;
use axum::extract::{FromRef, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::agent_identity::{
    RegisterRequest, RegisterResponse, RegisterTaskRequest, RegisterTaskResponse,
};
use nas_cron_protocol::{AgentRuntimeId, TaskId};
use serde::Serialize;
use tracing::info;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Deadline;
use super::extract::PathNames;
use super::{ApiError, BearerCaller, Caller, JsonBody};
use crate::identity::assertion::TaskRegistration;
use crate::identity::registry::IdentityRecord;
use crate::identity::{Identities, IdentityError, PublicKey, TaskName};
use crate::instance::Authenticator;

/// State of the agent identity endpoints.
#[derive(Clone, Debug)]
pub struct AgentIdentity {
    /// Identifies the calling instance. Also holds the identities, if the feature is on.
    pub authenticator: Authenticator,
}

impl FromRef<AgentIdentity> for Authenticator {
    fn from_ref(state: &AgentIdentity) -> Self {
        state.authenticator.clone()
    }
}

impl AgentIdentity {
    fn identities(&self) -> Result<&Identities, IdentityError> {
        self.authenticator.identities.as_ref().ok_or(IdentityError::Off)
    }
}

/// Returns the documented routes.
pub fn routes<S: Clone + Send + Sync + 'static>(state: AgentIdentity) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(register_task))
        .routes(routes!(list))
        .routes(routes!(revoke))
        .routes(routes!(revoke_task))
        // Outermost: while the feature is off, the response is the same for every credential.
        .layer(from_fn_with_state(state.clone(), require_on))
        .with_state(state)
}

async fn require_on(State(state): State<AgentIdentity>, request: Request, next: Next) -> Response {
    match state.identities() {
        Ok(_) => next.run(request).await,
        Err(off) => ApiError::from(off).into_response(),
    }
}

/// Register a key
///
/// Requires an access token of the portal: a key cannot register another key that would outlive it. Registering the
/// same key again returns the same `agent_runtime_id`.
#[utoipa::path(post, path = "/v1/agent/register", operation_id = "register_identity", tag = "agent-identity",
    security(("portal_access_token" = [])), request_body = RegisterRequest, responses(
    (status = 200, description = "Registered, now or earlier.", body = RegisterResponse),
    (status = 401, description = "The access token is missing or invalid."),
    (status = 403, description = "`agent_identity_off`: agent identities are off. `invalid_client` or `access_denied`, as in the agent API."),
    (status = 409, description = "`key_revoked`: a revoked key cannot be registered again. `too_many_identities`: revoke one, or name it in `replaces`.")))]
async fn register(
    State(state): State<AgentIdentity>,
    BearerCaller(caller): BearerCaller,
    JsonBody(body): JsonBody<RegisterRequest>,
) -> Result<Json<RegisterResponse>, ApiError> {
    let key = PublicKey::parse(&body.agent_public_key)?;
    let replaces = body.replaces.as_deref().map(AgentRuntimeId::parse).transpose();
    let replaces =
        replaces.map_err(|error| nas_cron_protocol::InvalidField::new("replaces", error.problem))?;
    let identities = state.identities()?;
    let agent_runtime_id = identities.register(&caller.instance, &key, replaces, caller.deadline).await?;
    info!(agent.id = %caller.instance.instance_id, %agent_runtime_id, "agent key registered");
    Ok(Json(RegisterResponse { agent_runtime_id }))
}

/// The response body for a registered task: its ID in plain or sealed form.
fn task_response(name: TaskName) -> RegisterTaskResponse {
    match name {
        TaskName::Plain(task_id) => {
            RegisterTaskResponse { task_id: Some(task_id), ..RegisterTaskResponse::default() }
        }
        TaskName::Sealed(sealed) => {
            RegisterTaskResponse { encrypted_task_id: Some(sealed), ..RegisterTaskResponse::default() }
        }
    }
}

/// Register a task
///
/// The signature is the credential; no `Authorization` header is needed. The same signature returns the same task. If
/// an identity already has 64 tasks, its least recently used task is revoked.
#[utoipa::path(post, path = "/v1/agent/{agent_runtime_id}/task/register", operation_id = "register_task",
    tag = "agent-identity", security(()), request_body = RegisterTaskRequest,
    params(("agent_runtime_id" = AgentRuntimeId, Path, description = "The identity's ID.")), responses(
    (status = 200, description = "Registered, now or earlier.", body = RegisterTaskResponse),
    (status = 401, description = "`invalid_assertion`: the timestamp or the signature is invalid. `unknown_agent`: register a key first."),
    (status = 403, description = "`agent_identity_off`: agent identities are off. `access_denied`: the instance is disabled."),
    (status = 409, description = "`task_revoked`: the task of this signature was revoked. Sign a new timestamp.")))]
async fn register_task(
    State(state): State<AgentIdentity>,
    Deadline(deadline): Deadline,
    path: PathNames<String>,
    JsonBody(body): JsonBody<RegisterTaskRequest>,
) -> Result<Json<RegisterTaskResponse>, ApiError> {
    let agent_runtime_id =
        path.known(|name| AgentRuntimeId::parse(&name).ok()).ok_or(IdentityError::UnknownAgent)?;
    let wanted = TaskRegistration::read(&body.timestamp, &body.signature)?;
    let name = state.identities()?.register_task(agent_runtime_id, &wanted, deadline).await?;
    Ok(Json(task_response(name)))
}

/// The identities of an instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IdentitiesResponse {
    /// Active identities first, then revoked ones; newest first, at most 100.
    pub(super) identities: Vec<IdentityRecord>,
}

/// List the caller's identities and their tasks
#[utoipa::path(get, path = "/v1/agent", operation_id = "list_identities", tag = "agent-identity",
    security(("portal_access_token" = []), ("agent_assertion" = [])), responses(
    (status = 200, description = "The identities of the calling instance only.", body = IdentitiesResponse)))]
async fn list(
    State(state): State<AgentIdentity>,
    caller: Caller,
) -> Result<Json<IdentitiesResponse>, ApiError> {
    let identities = state.identities()?.list(&caller.instance, caller.deadline).await?;
    Ok(Json(IdentitiesResponse { identities }))
}

/// Confirmation of a revocation.
#[derive(Debug, Serialize, ToSchema)]
struct RevokeResponse {
    /// Always true.
    ok: bool,
}

/// Revoke an identity
///
/// Once the response is sent, every replica rejects what the key signs. A revoked key cannot be registered again.
#[utoipa::path(delete, path = "/v1/agent/{agent_runtime_id}", operation_id = "revoke_identity", tag = "agent-identity",
    security(("portal_access_token" = []), ("agent_assertion" = [])),
    params(("agent_runtime_id" = AgentRuntimeId, Path, description = "The identity's ID.")), responses(
    (status = 200, description = "Revoked, now or earlier.", body = RevokeResponse),
    (status = 404, description = "The calling instance has no identity with this ID.")))]
async fn revoke(
    State(state): State<AgentIdentity>,
    caller: Caller,
    path: PathNames<String>,
) -> Result<Json<RevokeResponse>, ApiError> {
    let id = path.known(|name| AgentRuntimeId::parse(&name).ok()).ok_or_else(no_identity)?;
    let revoking = state.identities()?.revoke(&caller.instance, id, caller.deadline);
    revoking.await?.ok_or_else(no_identity)?;
    info!(agent.id = %caller.instance.instance_id, agent_runtime_id = %id, "agent identity revoked");
    Ok(Json(RevokeResponse { ok: true }))
}

/// Revoke a task
///
/// Once the response is sent, every replica rejects assertions for this task.
#[utoipa::path(delete, path = "/v1/agent/{agent_runtime_id}/task/{task_id}", operation_id = "revoke_task",
    tag = "agent-identity", security(("portal_access_token" = []), ("agent_assertion" = [])),
    params(("agent_runtime_id" = AgentRuntimeId, Path, description = "The identity's ID."),
           ("task_id" = TaskId, Path, description = "The task's ID.")), responses(
    (status = 200, description = "Revoked, now or earlier.", body = RevokeResponse),
    (status = 404, description = "The calling instance has no task with this ID.")))]
async fn revoke_task(
    State(state): State<AgentIdentity>,
    caller: Caller,
    path: PathNames<(String, String)>,
) -> Result<Json<RevokeResponse>, ApiError> {
    let names = path
        .known(|(identity, task)| Some((AgentRuntimeId::parse(&identity).ok()?, TaskId::parse(&task).ok()?)));
    let (id, task_id) = names.ok_or_else(no_task)?;
    let revoking = state.identities()?.revoke_task(&caller.instance, id, task_id, caller.deadline);
    revoking.await?.ok_or_else(no_task)?;
    info!(agent.id = %caller.instance.instance_id, agent_runtime_id = %id, "agent task revoked");
    Ok(Json(RevokeResponse { ok: true }))
}

/// 404 for an identity that does not exist or belongs to another instance; the two must look the same.
pub(super) fn no_identity() -> ApiError {
    ApiError::NotFound("this agent has no identity with this ID".into())
}

/// 404 for a task that does not exist or belongs to another instance; the two must look the same.
pub(super) fn no_task() -> ApiError {
    ApiError::NotFound("this agent has no task with this ID".into())
}
