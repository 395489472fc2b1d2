//! `/api/admin/backends`: the scheduler backends, and the switch to another one.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::BackendName;
use serde::Deserialize;
use tracing::info;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::JsonBody;
use crate::http::noted::Notes;
use crate::operations::backends::{BackendStatus, BackendSwitch};

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(switch))
}

/// List scheduler backends
///
/// Shows the active backend, and the one-shots and the outbox of each. This replica tests those that it has configured, each
/// within the timeout of a call.
#[utoipa::path(get, path = "/api/admin/backends", operation_id = "list_backends", tag = "admin",
    security(("admin_token" = [])),
    responses((status = OK, description = "The backends.", body = BackendStatus)))]
async fn list(State(state): State<AdminState>) -> Result<Json<BackendStatus>, Problem> {
    Ok(Json(state.backends.status().await?))
}

/// A switch.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackendSwitchRequest)]
struct SwitchRequest {
    /// The backend to activate.
    backend: BackendName,
    /// Switch even if the backend is unreachable. The Postgres loop then fires its one-shots some seconds late.
    #[serde(default)]
    force: bool,
    /// Test the backend and count what would be moved, without changing anything.
    #[serde(default)]
    dry_run: bool,
}

/// Switch the scheduler backend
///
/// New one-shots go to the backend at once. The replicas move the others; `left` of the list shows the progress. Configure
/// the backend on every replica first: only the settings of the replica that responds are checked. Repeating the request
/// changes nothing.
#[utoipa::path(put, path = "/api/admin/backends/active", operation_id = "switch_backend", tag = "admin",
    security(("admin_token" = [])),
    request_body(content = SwitchRequest, content_type = "application/json"),
    responses((status = OK, description = "The backend is active, or the plan of a dry run.", body = BackendSwitch),
        (status = CONFLICT, description = "The backend is not configured on this replica, or it is unreachable.")))]
async fn switch(
    State(state): State<AdminState>,
    notes: Notes,
    body: Result<JsonBody<SwitchRequest>, ApiError>,
) -> Result<Json<BackendSwitch>, Problem> {
    let SwitchRequest { backend: to, force, dry_run } = body?.0;
    notes.about("backend", to);
    notes.about("dry_run", dry_run);
    if dry_run {
        return Ok(Json(state.backends.plan_switch(to).await?));
    }
    let switch = state.backends.switch(to, force, None).await?;
    info!(from = %switch.from, %to, switch.generation, force, "scheduler backend switched by an operator");
    Ok(Json(switch))
}
