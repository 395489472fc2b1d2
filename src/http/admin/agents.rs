//! `/api/admin/agents`: registers, reads, lists and removes agent instances.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::{CallbackUrl, Fields, FieldsError, InstanceId, InvalidField, OrgId, SessionId};
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::info;

use super::AdminState;
use crate::directory::{self, Change, DirectoryError};
use crate::domain::actor::Actor;
use crate::domain::agent_search::AgentSearch;
use crate::domain::registration::{
    Agent, AgentFilter, AgentPage, EnabledAgent, MovedAgent, Registration, ShownAgent,
};
use crate::http::error::responses::UnknownAgent;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams, refuse};

/// Default number of agents per page.
const DEFAULT_LIMIT: u32 = 100;
/// Maximum number of agents per page.
const MAX_LIMIT: u32 = 1_000;

/// The registration of an agent. Omitted fields keep their current value.
#[derive(utoipa::ToSchema)]
#[schema(as = AgentRegistration)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents what `directory::registration` reads")]
pub(super) struct RegistrationBody {
    /// The org that owns the agent. Its tokens carry the same `org_id`.
    org_id: OrgId,
    /// The bootstrap session: the `sid` of the agent's tokens. `null` removes it.
    bootstrap_session_id: Option<SessionId>,
    /// The agent's callback URL, also for its armed one-shots. Usually omitted: the agent sends it with each provision.
    callback_url: Option<CallbackUrl>,
    /// True if the agent may call the agent API and be fired. Default for a new agent: `true`. `false` holds its fires;
    /// none is lost.
    enabled: Option<bool>,
}

/// Register an agent
///
/// Repeating the request changes nothing. An agent of another org is rejected unless `move_org` is true.
#[utoipa::path(
    put,
    path = "/api/admin/agents/{instance_id}",
    operation_id = "put_agent",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal."),
        ("move_org" = Option<bool>, Query, description = "Move the agent to this org if it belongs to another. Default: false."),
    ),
    request_body(content = RegistrationBody, content_type = "application/json"),
    responses(
        (status = CREATED, description = "The agent was added.", body = Agent,
            headers(("Location" = String, description = "Path of the agent."))),
        (status = OK, description = "The agent was known. It now has this registration.", body = Agent),
        (status = CONFLICT, description = "The agent belongs to another org, or another agent has the bootstrap session."),
    )
)]
pub(super) async fn put(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    query: QueryParams,
    body: Result<JsonBody<Map<String, Value>>, ApiError>,
) -> Result<Response, Problem> {
    let instance_id = named(path)?;
    let move_org = query.flag("move_org")?;
    let wanted = directory::registration(Fields::from_map(body?.0), Some(instance_id)).map_err(invalid)?;
    let registered = register(&state, &actor, wanted, move_org == Some(true)).await;
    let (change, agent) = registered?;
    info!(
        agent.id = agent.instance_id,
        org.id = agent.org_id,
        enabled = agent.enabled,
        ?change,
        "agent registered"
    );
    Ok(match change {
        Change::Added => {
            (StatusCode::CREATED, [(LOCATION, location(&agent.instance_id))], Json(agent)).into_response()
        }
        Change::Updated | Change::Unchanged => Json(agent).into_response(),
    })
}

/// Registers an agent for a caller that may be limited to an org. Such a caller learns that an ID is taken, but not by
/// whom, and moves no agent.
async fn register(
    state: &AdminState,
    actor: &Actor,
    wanted: Registration,
    move_org: bool,
) -> Result<(Change, Agent), ApiError> {
    if let Some(own) = actor.org_filter().filter(|own| **own != wanted.org_id) {
        let problem = format!("must be `{own}`, the org that the admin token is limited to");
        return Err(InvalidField::new("org_id", problem).into());
    }
    if move_org {
        actor.require_whole_service()?;
    }
    let limited = actor.org_filter().is_some();
    let taken = || Err(ApiError::Conflict("the instance ID is taken; use another one".into()));
    match state.directory.register(wanted, move_org).await {
        Err(DirectoryError::OtherOrg(_)) if limited => taken(),
        // It was moved right after it was registered.
        Ok((_, agent)) if actor.org_filter().is_some_and(|own| own.as_str() != agent.org_id) => taken(),
        other => Ok(other?),
    }
}

/// Returns the instance ID in the path.
pub(super) fn named(path: PathNames<String>) -> Result<InstanceId, ApiError> {
    path.name("instance_id", InstanceId::new)
}

pub(super) fn invalid(error: FieldsError) -> ApiError {
    match error {
        FieldsError::Invalid(invalid) => invalid.into(),
        other => ApiError::Body(other.to_string()),
    }
}

/// Returns the path of an agent. All but unreserved characters are escaped, because an ID may contain any character.
fn location(instance_id: &str) -> String {
    let escaped: String = instance_id
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("/api/admin/agents/{escaped}")
}

/// Read an agent
#[utoipa::path(
    get,
    path = "/api/admin/agents/{instance_id}",
    operation_id = "get_agent",
    tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses(
        (status = OK, description = "The agent.", body = ShownAgent),
        UnknownAgent,
    )
)]
pub(super) async fn get(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<ShownAgent>, Problem> {
    Ok(Json(state.operations.within(actor.org_filter()).agent(&named(path)?).await?))
}

/// Enable an agent
///
/// Its due one-shots fire at once, unless a hold covers them.
#[utoipa::path(post, path = "/api/admin/agents/{instance_id}/enable", operation_id = "enable_agent", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses((status = OK, description = "The agent is enabled.", body = EnabledAgent),
        UnknownAgent))]
pub(super) async fn enable(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<EnabledAgent>, Problem> {
    set_enabled(&state, &actor, path, true).await
}

/// Disable an agent
///
/// Holds its fires and refuses its calls. No fire is lost.
#[utoipa::path(post, path = "/api/admin/agents/{instance_id}/disable", operation_id = "disable_agent", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses((status = OK, description = "The agent is disabled.", body = EnabledAgent),
        UnknownAgent))]
pub(super) async fn disable(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<EnabledAgent>, Problem> {
    set_enabled(&state, &actor, path, false).await
}

async fn set_enabled(
    state: &AdminState,
    actor: &Actor,
    path: PathNames<String>,
    enabled: bool,
) -> Result<Json<EnabledAgent>, Problem> {
    let instance_id = named(path)?;
    let done = state.operations.within(actor.org_filter()).set_enabled(&instance_id, enabled).await?;
    info!(agent.id = %instance_id, enabled, changed = done.changed, released = done.released, "agent set");
    Ok(Json(done))
}

/// The callback URL to set.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CallbackChange)]
pub(super) struct CallbackBody {
    /// Fires go to `{callback_url}/api/cron/fire`.
    #[schema(value_type = CallbackUrl)]
    callback_url: String,
}

/// Set an agent's callback URL
///
/// Also of all its one-shots. Needed only for an agent that has moved and is asleep: an agent sets its own callback URL when
/// it arms a one-shot.
#[utoipa::path(put, path = "/api/admin/agents/{instance_id}/callback", operation_id = "set_agent_callback", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    request_body(content = CallbackBody, content_type = "application/json"),
    responses((status = OK, description = "The agent has this callback URL.", body = MovedAgent), UnknownAgent))]
pub(super) async fn set_callback(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Result<JsonBody<CallbackBody>, ApiError>,
) -> Result<Json<MovedAgent>, Problem> {
    let instance_id = named(path)?;
    let callback_url = directory::callback_url(&body?.0.callback_url)?;
    let operations = state.operations.within(actor.org_filter());
    let moved = operations.set_callback(&instance_id, &callback_url).await?;
    info!(agent.id = %instance_id, moved = moved.moved, "callback URL of an agent set by an operator");
    Ok(Json(moved))
}

/// Remove an agent
///
/// Also removes its one-shots; no attempt of them starts after the response. To stop an agent temporarily, disable it
/// instead.
#[utoipa::path(
    delete,
    path = "/api/admin/agents/{instance_id}",
    operation_id = "delete_agent",
    tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses(
        (status = NO_CONTENT, description = "The agent was removed."),
        UnknownAgent,
    )
)]
pub(super) async fn delete(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<StatusCode, Problem> {
    let instance_id = named(path)?;
    let one_shots = state.directory.remove(&instance_id, actor.org_filter()).await?;
    info!(agent.id = %instance_id, one_shots, "agent removed with its one-shots");
    Ok(StatusCode::NO_CONTENT)
}

/// List agents
///
/// Returns one page of agents, ordered by ID.
#[utoipa::path(
    get,
    path = "/api/admin/agents",
    operation_id = "list_agents",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("org_id" = Option<OrgId>, Query, description = "Only agents of this org."),
        ("search" = Option<AgentSearch>, Query, description = "Only agents whose ID, or whose callback with or without the scheme, begins with this text."),
        ("enabled" = Option<bool>, Query, description = "Only enabled (`true`) or only disabled (`false`) agents."),
        ("unreachable" = Option<bool>, Query, description = "`true`: only agents whose callback is unreachable. Default: false."),
        ("limit" = Option<u32>, Query, description = "Maximum number of agents, from 1 to 1000. Default: 100.", minimum = 1, maximum = 1000),
        ("after" = Option<InstanceId>, Query, description = "Resume after this cursor: the `next` of the previous page."),
    ),
    responses(
        (status = OK, description = "A page of agents.", body = AgentPage),
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<AgentPage>, Problem> {
    let filter = AgentFilter {
        org_id: query.text("org_id").map(OrgId::new).transpose()?,
        search: query.text("search").map(AgentSearch::new).transpose()?,
        enabled: query.flag("enabled")?,
        unreachable: query.flag("unreachable")? == Some(true),
        ..AgentFilter::default()
    };
    let limit = query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let after = query
        .text("after")
        .map(InstanceId::new)
        .transpose()
        .map_err(|error| refuse("after", error.problem))?;
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.agents(&filter, limit, after.as_ref().map(InstanceId::as_str)).await?))
}

#[cfg(test)]
mod tests {
    use super::location;

    #[test]
    fn location_escapes_any_id() {
        assert_eq!(location("agent-1"), "/api/admin/agents/agent-1");
        assert_eq!(location("a/b?ü %"), "/api/admin/agents/a%2Fb%3F%C3%BC%20%25");
    }
}
