//! `/api/admin/logins`: the agents' logins at the built-in portal.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::{InstanceId, OrgId};
use tracing::info;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::agents::named;
use crate::domain::actor::Actor;
use crate::domain::login::{LoginPage, RevokedLogin};
use crate::http::error::Problem;
use crate::http::extract::{PathNames, QueryParams, refuse};
use crate::operations::logins::MAX_LOGINS;

/// Default number of logins per page.
const DEFAULT_LIMIT: u32 = 100;

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(revoke))
}

/// List logins
///
/// The last login of each agent at the built-in portal, ordered by agent.
#[utoipa::path(get, path = "/api/admin/logins", operation_id = "list_logins", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = Option<OrgId>, Query, description = "Only agents of this org."),
        ("limit" = Option<u32>, Query, description = "Maximum number of logins, from 1 to 1000. Default: 100.", minimum = 1, maximum = 1000),
        ("after" = Option<InstanceId>, Query, description = "Resume after this cursor: the `next` of the previous page.")),
    responses((status = OK, description = "A page of logins.", body = LoginPage)))]
async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<LoginPage>, Problem> {
    let org_id = query.text("org_id").map(OrgId::new).transpose()?;
    let limit = query.number("limit", MAX_LOGINS)?.unwrap_or(DEFAULT_LIMIT);
    let after = query.text("after").map(InstanceId::new).transpose();
    let after = after.map_err(|error| refuse("after", error.problem))?;
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.logins(org_id.as_ref(), limit, after.as_ref().map(InstanceId::as_str)).await?))
}

/// Revoke an agent's login
///
/// Once the response is sent, every replica rejects the refresh tokens and access tokens of the login. The agent's jobs stay
/// armed. `nas-cron agents enroll` creates another login.
#[utoipa::path(delete, path = "/api/admin/agents/{instance_id}/login", operation_id = "revoke_login", tag = "admin",
    security(("admin_token" = [])),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")),
    responses((status = OK, description = "The login has ended, now or earlier.", body = RevokedLogin),
        (status = NOT_FOUND, description = "No agent with this ID is registered, or it never had a login.")))]
async fn revoke(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<RevokedLogin>, Problem> {
    let instance_id = named(path)?;
    let revoked = state.operations.within(actor.org_filter()).revoke_login(&instance_id).await?;
    info!(agent.id = %instance_id, revoked = revoked.revoked, "login revoked by an operator");
    Ok(Json(revoked))
}
