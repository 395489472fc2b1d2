//! `/api/admin/orgs` and `/api/admin/deletions`: orgs, and the deletion of everything of an org or an agent.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::{DeletionReport, Org, OrgPage};
use nas_cron_protocol::{InstanceId, OrgId};
use serde::Deserialize;
use tracing::info;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::domain::actor::Actor;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams};
use crate::http::noted::Notes;
use crate::operations::Cursor;
use crate::operations::orgs::{DeletionOf, MAX_ORGS, in_words, subject};

/// Default number of orgs per page.
const DEFAULT_LIMIT: u32 = 100;

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(delete))
}

/// List orgs
///
/// Returns one page of orgs with agents, ordered by ID.
#[utoipa::path(get, path = "/api/admin/orgs", operation_id = "list_orgs", tag = "admin",
    security(("admin_token" = [])),
    params(("limit" = Option<u32>, Query, description = "Maximum number of orgs. Default: 100.", minimum = 1, maximum = 200),
        ("after" = Option<Cursor>, Query, description = "Resume after this cursor: the `next` of the previous page.")),
    responses((status = OK, description = "A page of orgs.", body = OrgPage)))]
async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<OrgPage>, Problem> {
    let limit = query.number("limit", MAX_ORGS)?.unwrap_or(DEFAULT_LIMIT);
    Ok(Json(state.operations.within(actor.org_filter()).orgs(limit, query.text("after")).await?))
}

/// Read an org
///
/// Returns the counts of its agents and jobs.
#[utoipa::path(get, path = "/api/admin/orgs/{org_id}", operation_id = "get_org", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")),
    responses((status = OK, description = "The org.", body = Org),
        (status = NOT_FOUND, description = "No agent of this org is registered.")))]
async fn get(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<Org>, Problem> {
    let org_id = path.name("org_id", OrgId::new)?;
    Ok(Json(state.operations.within(actor.org_filter()).find_org(&org_id).await?))
}

/// A deletion: exactly one of the two IDs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletionRequest {
    org_id: Option<OrgId>,
    instance_id: Option<InstanceId>,
    confirm: Option<String>,
}

/// A deletion of everything of an org or an agent.
#[derive(utoipa::ToSchema)]
#[schema(as = DeletionRequest)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents `DeletionRequest`")]
enum DeletionBody {
    Org(OrgDeletion),
    Agent(AgentDeletion),
}

/// A deletion of everything of an org, with all its agents.
#[derive(utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents `DeletionRequest`")]
struct OrgDeletion {
    /// The org.
    org_id: OrgId,
    /// The `confirm` of a report about the same org. Without it, the request only counts.
    confirm: Option<String>,
}

/// A deletion of everything of an agent.
#[derive(utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents `DeletionRequest`")]
struct AgentDeletion {
    /// The agent.
    instance_id: InstanceId,
    /// The `confirm` of a report about the same agent. Without it, the request only counts.
    confirm: Option<String>,
}

/// Delete everything of an org or an agent
///
/// Removes agents, their jobs, history, identities, logins, auth profiles, holds and quotas; of an org, also its own settings, its
/// webhooks and their events, also if it has no agent. Without `confirm`, nothing is deleted: the report has the count and the
/// value that confirms it. A request deletes for some seconds at most: continue with the
/// new `confirm` until it is null. Stop the agents at the portal first, or they register again. An attempt in flight may
/// still be recorded in the history.
#[utoipa::path(post, path = "/api/admin/deletions", operation_id = "delete_everything", tag = "admin",
    security(("admin_token" = [])),
    request_body(content = DeletionBody, content_type = "application/json"),
    responses((status = OK, description = "The count, or the progress.", body = DeletionReport),
        (status = NOT_FOUND, description = "Nothing is registered by this ID."),
        (status = CONFLICT, description = "What would be deleted has changed since the count.")))]
async fn delete(
    State(state): State<AdminState>,
    actor: Actor,
    notes: Notes,
    body: Result<JsonBody<DeletionRequest>, ApiError>,
) -> Result<Json<DeletionReport>, Problem> {
    let DeletionRequest { org_id, instance_id, confirm } = body?.0;
    let of = subject(org_id, instance_id)?;
    let operations = state.operations.within(actor.org_filter());
    match &of {
        DeletionOf::Org(org_id) => notes.about("org_id", org_id),
        DeletionOf::Instance(instance_id) => notes.about("instance_id", instance_id),
    }
    let Some(confirm) = confirm else {
        let report = operations.plan_deletion(&of).await?;
        notes.detail(format!("counted only: {}", in_words(report.found)));
        return Ok(Json(report));
    };
    let report = operations.delete_everything(&of, &confirm).await?;
    let deleted = report.deleted;
    info!(
        ?of,
        agents = deleted.agents,
        jobs = deleted.jobs,
        attempts = deleted.attempts,
        settings = deleted.settings,
        events = deleted.events,
        "everything deleted"
    );
    notes.detail(format!("deleted: {}", in_words(deleted)));
    Ok(Json(report))
}
