//! `/api/admin/overview`: what fires, what does not, and what needs attention.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::Overview;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::domain::actor::Actor;
use crate::http::error::Problem;

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Read the overview
///
/// Returns what needs attention, with the findings of `nas-cron doctor` and their fixes. A token without an org also gets
/// the replicas, the backends, the signing keys, the fires of the last hour and day with their lateness, and the one-shots
/// that come due within an hour. It is read at most once in 5 s, and its cost does not depend on the number of jobs.
#[utoipa::path(get, path = "/api/admin/overview", operation_id = "get_overview", tag = "admin",
    security(("admin_token" = [])),
    responses((status = OK, description = "The overview.", body = Overview)))]
async fn get(State(state): State<AdminState>, actor: Actor) -> Result<Json<Overview>, Problem> {
    let overview = state.overviews.of(actor.org_filter()).await?;
    Ok(Json(Overview::clone(&overview)))
}
