//! Auth profiles in the agent API: a job's profile, and the known profiles of the calling instance. The rules are in
//! [`crate::auth_profiles`].

use axum::Json;
use axum::extract::{RawQuery, State};
use nas_cron_protocol::agent_api::{AuthProfiles, AuthProfilesChange, ChangedJob, JobChange};
use nas_cron_protocol::{AuthPlace, AuthProfile, JobId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agent_cron::AgentCron;
use super::extract::{PathNames, QueryParams, refuse};
use super::{ApiError, Caller, JsonBody, log_fields};
use crate::auth_profiles::Registry;

/// Returns the documented routes.
pub fn routes(state: AgentCron) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(change)).routes(routes!(get, put, delete)).with_state(state)
}

/// Change a job's auth
///
/// The job's one-shot is not re-armed; its next fire carries the new auth. An attempt in flight keeps the old one.
#[utoipa::path(patch, path = "/api/agent-cron/jobs/{job_id}", operation_id = "change_job", tag = "agent-cron",
    security(("portal_access_token" = [])),
    params(("job_id" = JobId, Path, description = "The job's ID, chosen by the agent.")),
    request_body = JobChange, responses(
    (status = 200, description = "Changed durably.", body = ChangedJob),
    (status = 404, description = "The calling instance has no job with this ID.")))]
async fn change(
    State(state): State<AgentCron>,
    caller: Caller,
    path: PathNames<String>,
    JsonBody(body): JsonBody<JobChange>,
) -> Result<Json<ChangedJob>, ApiError> {
    let job_id = path.name("job_id", JobId::new)?;
    log_fields::job(&job_id);
    if body.auth.is_keep() {
        return Err(refuse(
            "auth",
            "is missing: send a profile, a list of profiles, false for no profile, or null to remove the setting",
        ));
    }
    let auth = body.auth.value();
    let changed = state.profiles.change_job(&caller.instance, &job_id, auth, caller.deadline).await?;
    state.scheduler.awake(&caller.instance);
    let shown =
        changed.ok_or_else(|| ApiError::NotFound("this instance has no job with this job_id".into()))?;
    Ok(Json(ChangedJob {
        job_id,
        auth: shown.auth,
        effective_auth: shown.effective_auth,
        warnings: shown.warnings,
    }))
}

/// Returns the profile that a query names, if any.
pub(super) fn only(query: &QueryParams) -> Result<Option<AuthProfile>, ApiError> {
    Ok(query.text("auth").map(AuthProfile::new).transpose()?)
}

/// Read the known auth profiles
///
/// Returns the profiles of the calling instance, of its org and of the service, and the defaults that are set.
#[utoipa::path(get, path = "/api/agent-cron/auth-profiles", operation_id = "get_auth_profiles", tag = "agent-cron",
    security(("portal_access_token" = [])), responses(
    (status = 200, description = "The known profiles, and the defaults for jobs without a profile.", body = AuthProfiles)))]
async fn get(State(state): State<AgentCron>, caller: Caller) -> Result<Json<AuthProfiles>, ApiError> {
    shown(&state, &caller).await
}

async fn shown(state: &AgentCron, caller: &Caller) -> Result<Json<AuthProfiles>, ApiError> {
    let found = state.profiles.of_caller(&caller.instance, caller.deadline).await?;
    state.scheduler.awake(&caller.instance);
    Ok(Json(found))
}

/// Replace the instance's known auth profiles
///
/// Also sets the instance's default if `default` is given. Repeating the request changes nothing. Profiles are names;
/// never send a secret.
#[utoipa::path(put, path = "/api/agent-cron/auth-profiles", operation_id = "put_auth_profiles", tag = "agent-cron",
    security(("portal_access_token" = [])), request_body = AuthProfilesChange, responses(
    (status = 200, description = "The profiles after the change.", body = AuthProfiles)))]
async fn put(
    State(state): State<AgentCron>,
    caller: Caller,
    JsonBody(body): JsonBody<AuthProfilesChange>,
) -> Result<Json<AuthProfiles>, ApiError> {
    let wanted = Registry::try_from(body)?;
    let place = AuthPlace::Instance(caller.instance.instance_id.clone());
    state.profiles.put(&place, &wanted, None, caller.deadline).await?;
    shown(&state, &caller).await
}

/// Remove the instance's known auth profiles
///
/// Removes all of them, or the one that `auth` names. Jobs and defaults that use a removed profile keep it, with a
/// warning.
#[utoipa::path(delete, path = "/api/agent-cron/auth-profiles", operation_id = "delete_auth_profiles",
    tag = "agent-cron", security(("portal_access_token" = [])),
    params(("auth" = Option<AuthProfile>, Query, description = "Remove this profile only.", example = "claude:work")), responses(
    (status = 200, description = "The profiles after the change.", body = AuthProfiles),
    (status = 400, description = "A parameter is invalid or unknown. The description begins with its name.")))]
async fn delete(
    State(state): State<AgentCron>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<AuthProfiles>, ApiError> {
    let only = only(&QueryParams::parse(query.as_deref(), &["auth"])?)?;
    let place = AuthPlace::Instance(caller.instance.instance_id.clone());
    state.profiles.forget_until(&place, only.as_ref(), caller.deadline).await?;
    shown(&state, &caller).await
}
