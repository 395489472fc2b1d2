//! Hop 1, as agents call it: provision, cancel, list. Extract, call, map; the rules are in [`crate::oneshot`].

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRef, State};
use chrono::{DateTime, Utc};
use nas_cron_protocol::{AuthProfile, BackendName, Given, JobId, OneShotState, ParkReason};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::responses::{AgentApiErrors, BodyErrors};
use super::{ApiError, Caller, JsonBody};
use crate::auth_profiles::{self, Profiles, ShownAuth, Warning};
use crate::backends::Backends;
use crate::domain::one_shot::OneShot;
use crate::instance::Authenticator;
use crate::oneshot::{OneShots, Provision};
use crate::scheduler::Scheduler;

/// What hop 1 needs.
#[derive(Clone, Debug)]
pub struct AgentCron {
    /// Who calls.
    pub authenticator: Authenticator,
    /// What agents do with their one-shots.
    pub one_shots: OneShots,
    /// What they do with auth profiles.
    pub profiles: Profiles,
    /// Who is told of what was armed.
    pub backends: Arc<Backends>,
    /// Who is told of what comes soon.
    pub scheduler: Arc<Scheduler>,
}

impl FromRef<AgentCron> for Authenticator {
    fn from_ref(state: &AgentCron) -> Self {
        state.authenticator.clone()
    }
}

/// The routes, with their documentation.
pub fn routes(state: AgentCron) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(provision))
        .routes(routes!(cancel))
        .routes(routes!(list))
        .with_state(state)
}

/// What is to be armed.
#[derive(Debug, Deserialize, ToSchema)]
struct ProvisionRequest {
    /// The agent's name for the job: 1 to 255 bytes.
    #[schema(example = "ab12cd34")]
    job_id: String,
    /// ISO 8601 with an offset, to the microsecond. Echoed byte for byte. In the past: fires at once.
    #[schema(example = "2026-06-18T12:34:56.250000+00:00")]
    fire_at: String,
    /// The agent's base URL; the fire goes to `{agent_callback_url}/api/cron/fire`.
    #[schema(example = "https://agent-xyz.example")]
    agent_callback_url: String,
    /// Makes arming idempotent: the same key again changes nothing, another supersedes. 1 to 512 bytes.
    #[schema(example = "ab12cd34:2026-06-18T12:34:56.250000+00:00")]
    dedup_key: String,
    /// The job's own auth profile, by provider and name. Absent keeps what is set, `null` clears it; it never
    /// supersedes. What looks like a secret is refused.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "claude:work")]
    auth: Given<AuthProfile>,
}

/// It is armed, durably.
#[derive(Debug, Serialize, ToSchema)]
struct ProvisionResponse {
    /// Opaque name of this arm.
    #[schema(example = "0190a5e4-7c1e-7000-8000-000000000000")]
    schedule_id: String,
    /// What is odd, and no error: absent when nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

/// Arm a one-shot for a job
///
/// Answered once it is durable. Repeating it is harmless.
#[utoipa::path(post, path = "/api/agent-cron/provision", tag = "agent-cron", security(("portal_access_token" = [])),
    request_body = ProvisionRequest, responses(
    (status = 200, description = "Armed, durably", body = ProvisionResponse),
    AgentApiErrors, BodyErrors))]
async fn provision(
    State(state): State<AgentCron>,
    caller: Caller,
    JsonBody(body): JsonBody<ProvisionRequest>,
) -> Result<Json<ProvisionResponse>, ApiError> {
    let wanted = Provision::new(&body.job_id, &body.fire_at, &body.agent_callback_url, &body.dedup_key)?
        .with_auth(body.auth);
    let armed = state.one_shots.provision(&caller.instance, &wanted, caller.deadline).await?;
    state.backends.armed(&armed);
    state.scheduler.awake(&caller.instance);
    Ok(Json(ProvisionResponse {
        schedule_id: armed.schedule_id.to_string(),
        warnings: armed.unknown_auth.iter().map(auth_profiles::unknown).collect(),
    }))
}

/// What is to be cancelled.
#[derive(Debug, Deserialize, ToSchema)]
struct CancelRequest {
    /// The agent's name for the job.
    #[schema(example = "ab12cd34")]
    job_id: String,
}

/// It is cancelled, or never was.
#[derive(Debug, Serialize, ToSchema)]
struct CancelResponse {
    /// Always true.
    ok: bool,
}

/// Cancel a job's one-shot
///
/// No attempt starts after the answer. An unknown job is fine.
#[utoipa::path(post, path = "/api/agent-cron/cancel", tag = "agent-cron", security(("portal_access_token" = [])),
    request_body = CancelRequest, responses(
    (status = 200, description = "Cancelled, or there was none", body = CancelResponse),
    AgentApiErrors, BodyErrors))]
async fn cancel(
    State(state): State<AgentCron>,
    caller: Caller,
    JsonBody(body): JsonBody<CancelRequest>,
) -> Result<Json<CancelResponse>, ApiError> {
    let job_id = JobId::new(body.job_id)?;
    state.one_shots.cancel(&caller.instance, &job_id, caller.deadline).await?;
    state.backends.look();
    state.scheduler.awake(&caller.instance);
    Ok(Json(CancelResponse { ok: true }))
}

/// The caller's own one-shots.
#[derive(Debug, Serialize, ToSchema)]
struct ListResponse {
    /// Armed, leased, firing or waiting; soonest first. What was delivered is not in it.
    armed: Vec<ArmedOneShot>,
    /// Current dead letters, and what is stuck.
    dead: Vec<DeadOneShot>,
}

/// A one-shot that will fire.
#[derive(Debug, Serialize, ToSchema)]
struct ArmedOneShot {
    job_id: String,
    /// Byte for byte as it was provisioned.
    fire_at: String,
    schedule_id: String,
    /// The agent's base URL that the fire goes to.
    agent_callback_url: String,
    state: OneShotState,
    /// Attempts made so far.
    attempts: i32,
    /// When the next one may start.
    next_attempt_at: Option<DateTime<Utc>>,
    /// Why it is not tried although it may be due.
    #[serde(skip_serializing_if = "Option::is_none")]
    parked: Option<ParkReason>,
    /// The hosted engine that is to wake it first; absent: nas-cron does.
    #[serde(skip_serializing_if = "Option::is_none")]
    awaits: Option<BackendName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(flatten)]
    auth: ShownAuth,
}

/// A one-shot that will not fire any more.
#[derive(Debug, Serialize, ToSchema)]
struct DeadOneShot {
    job_id: String,
    /// Byte for byte as it was provisioned.
    fire_at: String,
    schedule_id: String,
    /// The agent's base URL that the fire went to.
    agent_callback_url: String,
    /// `dead`: its attempts are used up. `stuck`: its key came again after three second fires.
    state: OneShotState,
    attempts: i32,
    last_status: Option<i16>,
    last_error: Option<String>,
    /// When it was given up.
    died_at: DateTime<Utc>,
    #[serde(flatten)]
    auth: ShownAuth,
}

impl From<OneShot> for ArmedOneShot {
    fn from(one: OneShot) -> Self {
        Self {
            job_id: one.job_id.to_string(),
            fire_at: one.fire_at.as_str().to_owned(),
            schedule_id: one.schedule_id.to_string(),
            agent_callback_url: one.callback_url,
            state: one.state,
            attempts: one.attempts,
            next_attempt_at: one.next_attempt_at,
            parked: one.parked,
            awaits: one.awaits,
            last_status: one.last_status,
            last_error: one.last_error,
            auth: one.auth.into(),
        }
    }
}

impl From<OneShot> for DeadOneShot {
    fn from(one: OneShot) -> Self {
        Self {
            job_id: one.job_id.to_string(),
            fire_at: one.fire_at.as_str().to_owned(),
            schedule_id: one.schedule_id.to_string(),
            agent_callback_url: one.callback_url,
            state: one.state,
            attempts: one.attempts,
            last_status: one.last_status,
            last_error: one.last_error,
            died_at: one.updated_at,
            auth: one.auth.into(),
        }
    }
}

/// List the caller's one-shots
#[utoipa::path(get, path = "/api/agent-cron/list", tag = "agent-cron", security(("portal_access_token" = [])),
    responses(
    (status = 200, description = "The caller's own, and nobody else's", body = ListResponse),
    AgentApiErrors))]
async fn list(State(state): State<AgentCron>, caller: Caller) -> Result<Json<ListResponse>, ApiError> {
    let listing = state.one_shots.list(&caller.instance, caller.deadline).await?;
    state.scheduler.awake(&caller.instance);
    Ok(Json(ListResponse {
        armed: listing.armed.into_iter().map(ArmedOneShot::from).collect(),
        dead: listing.dead.into_iter().map(DeadOneShot::from).collect(),
    }))
}
