//! `/v1/agent`: keys that agents call with, and the tasks that they call under. Extract, call, map; the rules are in
//! [`crate::identity`].

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
use super::error::ErrorBody;
use super::error::responses::{AgentIdentityErrors, BodyErrors};
use super::extract::PathNames;
use super::{ApiError, BearerCaller, Caller, JsonBody};
use crate::identity::assertion::TaskRegistration;
use crate::identity::registry::IdentityRecord;
use crate::identity::{Identities, IdentityError, PublicKey, TaskName};
use crate::instance::Authenticator;

/// What these endpoints need.
#[derive(Clone, Debug)]
pub struct AgentIdentity {
    /// Who calls; and the identities, where there are any.
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

/// The routes, with their documentation.
pub fn routes<S: Clone + Send + Sync + 'static>(state: AgentIdentity) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(register_task))
        .routes(routes!(list))
        .routes(routes!(revoke))
        .routes(routes!(revoke_task))
        // Outermost: whoever asks, with whatever credential, learns that it is off.
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
/// With the portal's access token only: no key can make another that outlives it. The same key again answers the same
/// name.
#[utoipa::path(post, path = "/v1/agent/register", operation_id = "register_identity", tag = "agent-identity",
    security(("portal_access_token" = [])), request_body = RegisterRequest, responses(
    (status = 200, description = "Registered, as of now or before", body = RegisterResponse),
    AgentIdentityErrors, BodyErrors,
    (status = 401, description = "The access token is bad, or there is none", body = ErrorBody),
    (status = 403, description = "`agent_identity_off`: this service has no agent identities. `invalid_client` or `access_denied`, as on hop 1", body = ErrorBody),
    (status = 409, description = "`key_revoked`: this key does not come back. `too_many_identities`: revoke one, or name it in `replaces`", body = ErrorBody)))]
async fn register(
    State(state): State<AgentIdentity>,
    BearerCaller(caller): BearerCaller,
    JsonBody(body): JsonBody<RegisterRequest>,
) -> Result<Json<RegisterResponse>, ApiError> {
    let key = PublicKey::parse(&body.agent_public_key)?;
    let replaces = body.replaces.as_deref().map(AgentRuntimeId::parse).transpose();
    let replaces =
        replaces.map_err(|error| nas_cron_protocol::InvalidField { field: "replaces", ..error })?;
    let identities = state.identities()?;
    let agent_runtime_id = identities.register(&caller.instance, &key, replaces, caller.deadline).await?;
    info!(agent.id = %caller.instance.instance_id, %agent_runtime_id, "a key is registered");
    Ok(Json(RegisterResponse { agent_runtime_id }))
}

/// The body of a registered task, by the form that its name has.
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
/// The signature is the credential: no Authorization is needed. The same signature again answers the same task. Where
/// an identity has 64 tasks, the one that was not used for longest is revoked.
#[utoipa::path(post, path = "/v1/agent/{agent_runtime_id}/task/register", operation_id = "register_task",
    tag = "agent-identity", security(()), request_body = RegisterTaskRequest,
    params(("agent_runtime_id" = String, Path, description = "The identity.")), responses(
    (status = 200, description = "Registered, as of now or before", body = RegisterTaskResponse),
    AgentIdentityErrors, BodyErrors,
    (status = 401, description = "`invalid_assertion`: the clock or the signature is wrong. `unknown_agent`: register a key first", body = ErrorBody),
    (status = 403, description = "`agent_identity_off`, or `access_denied`: the instance is disabled", body = ErrorBody),
    (status = 409, description = "`task_revoked`: the task of this very signature does not come back; sign for another second", body = ErrorBody)))]
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

/// The caller's own identities.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IdentitiesResponse {
    /// Those that stand before those that were revoked, the latest first; a hundred at most.
    pub(super) identities: Vec<IdentityRecord>,
}

/// List the caller's identities and their tasks
#[utoipa::path(get, path = "/v1/agent", operation_id = "list_identities", tag = "agent-identity",
    security(("portal_access_token" = []), ("agent_assertion" = [])), responses(
    (status = 200, description = "The caller's own, and nobody else's", body = IdentitiesResponse),
    AgentIdentityErrors))]
async fn list(
    State(state): State<AgentIdentity>,
    caller: Caller,
) -> Result<Json<IdentitiesResponse>, ApiError> {
    let identities = state.identities()?.list(&caller.instance, caller.deadline).await?;
    Ok(Json(IdentitiesResponse { identities }))
}

/// It is revoked, or was before.
#[derive(Debug, Serialize, ToSchema)]
struct RevokeResponse {
    /// Always true.
    ok: bool,
}

/// Revoke an identity
///
/// Nothing that its key signs is taken any more, on any replica, once this is answered; and the key does not come back.
#[utoipa::path(delete, path = "/v1/agent/{agent_runtime_id}", operation_id = "revoke_identity", tag = "agent-identity",
    security(("portal_access_token" = []), ("agent_assertion" = [])),
    params(("agent_runtime_id" = String, Path, description = "The identity.")), responses(
    (status = 200, description = "Revoked, now or before", body = RevokeResponse),
    AgentIdentityErrors,
    (status = 404, description = "The caller has no such identity", body = ErrorBody)))]
async fn revoke(
    State(state): State<AgentIdentity>,
    caller: Caller,
    path: PathNames<String>,
) -> Result<Json<RevokeResponse>, ApiError> {
    let id = path.known(|name| AgentRuntimeId::parse(&name).ok()).ok_or_else(no_identity)?;
    let revoking = state.identities()?.revoke(&caller.instance, id, caller.deadline);
    revoking.await?.ok_or_else(no_identity)?;
    info!(agent.id = %caller.instance.instance_id, agent_runtime_id = %id, "an identity is revoked");
    Ok(Json(RevokeResponse { ok: true }))
}

/// Revoke a task
///
/// Nothing that is signed for it is taken any more, on any replica, once this is answered.
#[utoipa::path(delete, path = "/v1/agent/{agent_runtime_id}/task/{task_id}", operation_id = "revoke_task",
    tag = "agent-identity", security(("portal_access_token" = []), ("agent_assertion" = [])),
    params(("agent_runtime_id" = String, Path, description = "The identity."),
           ("task_id" = String, Path, description = "One of its tasks.")), responses(
    (status = 200, description = "Revoked, now or before", body = RevokeResponse),
    AgentIdentityErrors,
    (status = 404, description = "The caller has no such task", body = ErrorBody)))]
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
    info!(agent.id = %caller.instance.instance_id, agent_runtime_id = %id, "a task is revoked");
    Ok(Json(RevokeResponse { ok: true }))
}

/// There is none, or it is somebody else's: nobody may tell them apart.
pub(super) fn no_identity() -> ApiError {
    ApiError::NotFound("this agent has no such identity".into())
}

/// There is none, or it is somebody else's.
pub(super) fn no_task() -> ApiError {
    ApiError::NotFound("this agent has no such task".into())
}
