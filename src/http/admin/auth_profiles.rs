//! `/api/admin/auth-profiles`: the known auth profiles and defaults of the service, of an org and of an instance.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::agent_api::{AuthProfiles, AuthProfilesChange};
use nas_cron_protocol::{AuthPlace, AuthProfile, InstanceId, OrgId};
use tokio::time::Instant;
use tracing::info;

use super::AdminState;
use crate::auth_profiles::{PUT_WITHIN, Profiles, Registry};
use crate::domain::actor::Actor;
use crate::domain::job_auth::AuthEntryPage;
use crate::http::auth_profiles::only;
use crate::http::error::responses::UnknownAgent;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams};
use crate::http::noted::Notes;
use crate::operations::Cursor;
use crate::operations::auth_profiles::MAX_ENTRIES;

/// Default number of entries per page.
const DEFAULT_LIMIT: u32 = 100;

type Body = Result<JsonBody<AuthProfilesChange>, ApiError>;
type Answer = Result<Json<AuthProfiles>, Problem>;

fn org(path: PathNames<String>) -> Result<AuthPlace, ApiError> {
    path.name("org_id", OrgId::new).map(AuthPlace::Org)
}

fn instance(path: PathNames<String>) -> Result<AuthPlace, ApiError> {
    path.name("instance_id", InstanceId::new).map(AuthPlace::Instance)
}

async fn read(profiles: &Profiles, actor: &Actor, place: &AuthPlace) -> Answer {
    Ok(Json(profiles.of_place(place, actor.org_filter()).await?))
}

async fn replace(profiles: &Profiles, actor: &Actor, place: AuthPlace, body: Body) -> Answer {
    let wanted = Registry::try_from(body?.0)?;
    profiles.put(&place, &wanted, actor.org_filter(), Instant::now() + PUT_WITHIN).await?;
    info!(scope = %place.scope(), scope.id = place.id(), "auth profiles replaced");
    read(profiles, actor, &place).await
}

async fn forget(
    profiles: &Profiles,
    actor: &Actor,
    place: AuthPlace,
    query: &QueryParams,
    notes: &Notes,
) -> Answer {
    let auth = only(query)?;
    if let Some(auth) = &auth {
        notes.about("auth", auth);
    }
    let forgotten = profiles.forget(&place, auth.as_ref(), actor.org_filter()).await?;
    info!(scope = %place.scope(), scope.id = place.id(), forgotten, "auth profiles removed");
    read(profiles, actor, &place).await
}

/// List auth profiles
///
/// Returns one page of the known profiles and defaults of every place: of the service, the orgs and the agents. A token that
/// is limited to an org gets those of its org and agents.
#[utoipa::path(get, path = "/api/admin/auth-profiles", operation_id = "list_auth_profiles", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = Option<OrgId>, Query, description = "Only entries of this org and its agents."),
        ("limit" = Option<u32>, Query, description = "Maximum number of entries, from 1 to 1000. Default: 100.", minimum = 1, maximum = 1000),
        ("after" = Option<Cursor>, Query, description = "Resume after this cursor: the `next` of the previous page.")),
    responses((status = OK, description = "A page of entries.", body = AuthEntryPage)))]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<AuthEntryPage>, Problem> {
    let org_id = query.text("org_id").map(OrgId::new).transpose()?;
    let limit = query.number("limit", MAX_ENTRIES)?.unwrap_or(DEFAULT_LIMIT);
    let operations = state.operations.within(actor.org_filter());
    Ok(Json(operations.auth_entries(org_id.as_ref(), limit, query.text("after")).await?))
}

/// Read the service's auth profiles
#[utoipa::path(get, path = "/api/admin/auth-profiles/service", operation_id = "get_service_auth_profiles",
    tag = "admin", security(("admin_token" = [])), responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent))]
pub(super) async fn get_service(State(state): State<AdminState>, actor: Actor) -> Answer {
    read(&state.profiles, &actor, &AuthPlace::Service).await
}

/// Replace the service's auth profiles
///
/// Also sets the service's default if `default` is given. A default applies from the next fire on.
#[utoipa::path(put, path = "/api/admin/auth-profiles/service", operation_id = "put_service_auth_profiles",
    tag = "admin", security(("admin_token" = [])), request_body = AuthProfilesChange,
    responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent))]
pub(super) async fn put_service(State(state): State<AdminState>, actor: Actor, body: Body) -> Answer {
    replace(&state.profiles, &actor, AuthPlace::Service, body).await
}

/// Remove the service's auth profiles
///
/// Removes all of them, or the one that `auth` names. The default stays.
#[utoipa::path(delete, path = "/api/admin/auth-profiles/service", operation_id = "delete_service_auth_profiles",
    tag = "admin", security(("admin_token" = [])), responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("auth" = Option<AuthProfile>, Query, description = "Remove this profile only.")))]
pub(super) async fn delete_service(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
    notes: Notes,
) -> Answer {
    forget(&state.profiles, &actor, AuthPlace::Service, &query, &notes).await
}

/// Read an org's auth profiles
///
/// Includes those of the service.
#[utoipa::path(get, path = "/api/admin/auth-profiles/orgs/{org_id}", operation_id = "get_org_auth_profiles",
    tag = "admin", security(("admin_token" = [])), responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")))]
pub(super) async fn get_org(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Answer {
    read(&state.profiles, &actor, &org(path)?).await
}

/// Replace an org's auth profiles
///
/// Also sets the org's default if `default` is given. The org may have no agents yet.
#[utoipa::path(put, path = "/api/admin/auth-profiles/orgs/{org_id}", operation_id = "put_org_auth_profiles",
    tag = "admin", security(("admin_token" = [])), request_body = AuthProfilesChange,
    responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal.")))]
pub(super) async fn put_org(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Answer {
    replace(&state.profiles, &actor, org(path)?, body).await
}

/// Remove an org's auth profiles
///
/// Removes all of them, or the one that `auth` names. The default stays.
#[utoipa::path(delete, path = "/api/admin/auth-profiles/orgs/{org_id}", operation_id = "delete_org_auth_profiles",
    tag = "admin", security(("admin_token" = [])), responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("org_id" = OrgId, Path, description = "The org's ID in the portal."),
           ("auth" = Option<AuthProfile>, Query, description = "Remove this profile only.")))]
pub(super) async fn delete_org(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    query: QueryParams,
    notes: Notes,
) -> Answer {
    forget(&state.profiles, &actor, org(path)?, &query, &notes).await
}

/// Read an agent's auth profiles
///
/// Includes those of its org and of the service.
#[utoipa::path(get, path = "/api/admin/auth-profiles/instances/{instance_id}", tag = "admin",
    operation_id = "get_instance_auth_profiles", security(("admin_token" = [])), responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")))]
pub(super) async fn get_instance(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Answer {
    read(&state.profiles, &actor, &instance(path)?).await
}

/// Replace an agent's auth profiles
///
/// Also sets the agent's default if `default` is given.
#[utoipa::path(put, path = "/api/admin/auth-profiles/instances/{instance_id}", tag = "admin",
    operation_id = "put_instance_auth_profiles", security(("admin_token" = [])),
    request_body = AuthProfilesChange,
    responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal.")))]
pub(super) async fn put_instance(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Answer {
    replace(&state.profiles, &actor, instance(path)?, body).await
}

/// Remove an agent's auth profiles
///
/// Removes all of them, or the one that `auth` names. The default stays.
#[utoipa::path(delete, path = "/api/admin/auth-profiles/instances/{instance_id}", tag = "admin",
    operation_id = "delete_instance_auth_profiles", security(("admin_token" = [])), responses((status = OK, description = "The known profiles and defaults of this scope and of the scopes around it.", body = AuthProfiles), UnknownAgent),
    params(("instance_id" = InstanceId, Path, description = "The agent's instance ID in the portal."),
           ("auth" = Option<AuthProfile>, Query, description = "Remove this profile only.")))]
pub(super) async fn delete_instance(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    query: QueryParams,
    notes: Notes,
) -> Answer {
    forget(&state.profiles, &actor, instance(path)?, &query, &notes).await
}
