//! `/api/admin/agents`: which instances there are.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::{Fields, FieldsError, InstanceId, OrgId};
use serde_json::{Map, Value};
use tracing::info;

use super::AdminState;
use crate::directory::{self, Change};
use crate::domain::registration::{Agent, AgentFilter};
use crate::http::error::responses::{AdminBodyErrors, AdminErrors, InvalidInput, UnknownAgent};
use crate::http::error::{ApiError, Problem, ProblemBody};
use crate::http::extract::{JsonBody, PathNames, QueryParams, refuse};

/// Agents of one page, unless asked for otherwise.
const DEFAULT_LIMIT: u32 = 100;
/// Agents of one page at most.
const MAX_LIMIT: u32 = 1_000;

/// A registration. What is left out keeps what an earlier registration, or the agent itself, said.
#[derive(utoipa::ToSchema)]
#[schema(as = AgentRegistration)]
#[expect(dead_code, reason = "documents what `directory::registration` reads")]
pub(super) struct RegistrationBody {
    /// Who owns it: its tokens carry it.
    #[schema(min_length = 1, max_length = 255)]
    org_id: String,
    /// The session planted in it at its first boot: its tokens' `sid`. `null` takes it away.
    #[schema(min_length = 1, max_length = 255)]
    bootstrap_session_id: Option<String>,
    /// Where it is reached. Its one-shots move along. Left out by most: an agent brings its own.
    #[schema(max_length = 2048, format = "uri")]
    callback_url: Option<String>,
    /// Whether it may provision and be fired. `true` for a new one; `false` holds its fires, and loses none.
    enabled: Option<bool>,
}

/// A page of agents.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(super) struct AgentPage {
    /// In the order of their names.
    agents: Vec<Agent>,
    /// Come back with this as `after`; `null` at the end.
    next: Option<String>,
}

/// Register an agent
///
/// Repeating it changes nothing. An agent of another org is refused unless `move_org` is true.
#[utoipa::path(
    put,
    path = "/api/admin/agents/{instance_id}",
    operation_id = "put_agent",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("instance_id" = String, Path, description = "The agent's name in the portal.", min_length = 1, max_length = 255),
        ("move_org" = Option<bool>, Query, description = "Yes, it may leave its org for this one."),
    ),
    request_body(content = RegistrationBody, content_type = "application/json"),
    responses(
        (status = CREATED, description = "It is new.", body = Agent),
        (status = OK, description = "It was there; it is now as asked for.", body = Agent),
        AdminBodyErrors,
        AdminErrors,
        (status = CONFLICT, description = "It belongs to another org, or its bootstrap session is another agent's.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(
    State(state): State<AdminState>,
    path: PathNames<String>,
    RawQuery(query): RawQuery,
    body: Result<JsonBody<Map<String, Value>>, ApiError>,
) -> Result<Response, Problem> {
    let instance_id = named(path)?;
    let move_org = QueryParams::parse(query.as_deref(), &["move_org"])?.flag("move_org")?;
    let wanted = directory::registration(Fields::from_map(body?.0), Some(instance_id)).map_err(wrong)?;
    let (change, agent) = state.directory.register(wanted, move_org == Some(true)).await?;
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

/// The name in the path.
pub(super) fn named(path: PathNames<String>) -> Result<InstanceId, ApiError> {
    path.name("instance_id", InstanceId::new)
}

fn wrong(error: FieldsError) -> ApiError {
    match error {
        FieldsError::Invalid(invalid) => invalid.into(),
        other => ApiError::Body(other.to_string()),
    }
}

/// Everything but unreserved characters is escaped: a name may contain any of them.
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
    params(("instance_id" = String, Path, description = "The agent's name in the portal.")),
    responses(
        (status = OK, description = "The agent.", body = Agent),
        AdminErrors,
        UnknownAgent,
    )
)]
pub(super) async fn get(
    State(state): State<AdminState>,
    path: PathNames<String>,
) -> Result<Json<Agent>, Problem> {
    Ok(Json(state.directory.find(&named(path)?).await?))
}

/// Remove an agent
///
/// Its one-shots go with it: none of them starts any more. To stop it for a while, disable it instead.
#[utoipa::path(
    delete,
    path = "/api/admin/agents/{instance_id}",
    operation_id = "delete_agent",
    tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = String, Path, description = "The agent's name in the portal.")),
    responses(
        (status = NO_CONTENT, description = "It is gone."),
        AdminErrors,
        UnknownAgent,
    )
)]
pub(super) async fn delete(
    State(state): State<AdminState>,
    path: PathNames<String>,
) -> Result<StatusCode, Problem> {
    let instance_id = named(path)?;
    let one_shots = state.directory.remove(&instance_id).await?;
    info!(agent.id = %instance_id, one_shots, "agent removed, with its one-shots");
    Ok(StatusCode::NO_CONTENT)
}

/// List agents
///
/// In the order of their names, page by page.
#[utoipa::path(
    get,
    path = "/api/admin/agents",
    operation_id = "list_agents",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("org_id" = Option<String>, Query, description = "Of this org only."),
        ("enabled" = Option<bool>, Query, description = "Only those that are, or are not, enabled."),
        ("limit" = Option<u32>, Query, description = "At most this many: 1 to 1000, 100 if left out.", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "From here on: the `next` of the page before."),
    ),
    responses(
        (status = OK, description = "A page.", body = AgentPage),
        InvalidInput,
        AdminErrors,
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    RawQuery(query): RawQuery,
) -> Result<Json<AgentPage>, Problem> {
    let query = QueryParams::parse(query.as_deref(), &["org_id", "enabled", "limit", "after"])?;
    let filter = AgentFilter {
        org_id: query.text("org_id").map(OrgId::new).transpose()?,
        enabled: query.flag("enabled")?,
        instance_id: None,
    };
    let limit = query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let after = query
        .text("after")
        .map(InstanceId::new)
        .transpose()
        .map_err(|error| refuse("after", error.problem))?;
    let page = state.directory.list(&filter, after.as_ref(), limit).await?;
    Ok(Json(AgentPage { agents: page.items, next: page.next }))
}

#[cfg(test)]
mod tests {
    use super::location;

    #[test]
    fn a_location_survives_any_name() {
        assert_eq!(location("agent-1"), "/api/admin/agents/agent-1");
        assert_eq!(location("a/b?ü %"), "/api/admin/agents/a%2Fb%3F%C3%BC%20%25");
    }
}
