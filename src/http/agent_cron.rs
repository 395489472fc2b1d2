//! The agent API: provision, cancel and list. The handlers only translate HTTP; the rules are in [`crate::oneshot`].

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::Json;
use axum::extract::{FromRef, State};
use nas_cron_protocol::JobId;
use nas_cron_protocol::agent_api::{
    ArmedOneShot, CancelRequest, CancelResponse, DeadOneShot, ListResponse, ProvisionRequest,
    ProvisionResponse,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::pace::Pace;
use super::{ApiError, Caller, JsonBody, RememberedCaller, callback_warnings, log_fields};
use crate::auth_profiles::{self, Profiles};
use crate::backends::Backends;
use crate::domain::one_shot::{Armed, OneShot};
use crate::instance::{AgentInstance, Authenticator};
use crate::metrics;
use crate::oneshot::{OneShots, Provision};
use crate::scheduler::Scheduler;
use crate::traces::request::RequestTrace;

/// State of the agent API.
#[derive(Clone, Debug)]
pub struct AgentCron {
    /// Identifies the calling instance.
    pub authenticator: Authenticator,
    /// Arms, cancels and lists one-shots.
    pub one_shots: OneShots,
    /// Reads and changes auth profiles.
    pub profiles: Profiles,
    /// The pace of each instance's calls.
    pub pace: Arc<Pace>,
    /// Scheduler backends, notified of armed and cancelled one-shots.
    pub backends: Arc<Backends>,
    /// The Postgres loop, notified of agents that called and are therefore awake.
    pub scheduler: Arc<Scheduler>,
}

impl FromRef<AgentCron> for Authenticator {
    fn from_ref(state: &AgentCron) -> Self {
        state.authenticator.clone()
    }
}

/// Returns the documented routes.
pub fn routes(state: AgentCron) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(provision))
        .routes(routes!(cancel))
        .routes(routes!(list))
        .with_state(state)
}

/// Arm a one-shot for a job
///
/// The response is sent once the one-shot is durable. Repeating the request is safe.
#[utoipa::path(post, path = "/api/agent-cron/provision", tag = "agent-cron", security(("portal_access_token" = [])),
    request_body = ProvisionRequest, responses(
    (status = 200, description = "Armed durably.", body = ProvisionResponse),
    (status = 429, description = "`quota_exceeded`: the job is new, and the quota of the instance or of its org is used up. `too_many_requests`: too many calls of this instance wait for their turn.")))]
async fn provision(
    State(state): State<AgentCron>,
    caller: RememberedCaller,
    trace: Option<Extension<RequestTrace>>,
    JsonBody(body): JsonBody<ProvisionRequest>,
) -> Result<Json<ProvisionResponse>, ApiError> {
    let trace = trace.map(|Extension(trace)| trace);
    let wanted = Provision::new(&body.job_id, &body.fire_at, &body.agent_callback_url, &body.dedup_key)?
        .with_auth(body.auth)
        .with_not_after(body.not_after)?
        .with_trace(trace.as_ref().map(RequestTrace::context));
    log_fields::job(&wanted.job_id);
    state.pace.turn(&caller.caller.instance.instance_id).await?;
    let began = Instant::now();
    let (caller, armed) = arm(&state, caller, &wanted).await.inspect_err(|error| {
        if let ApiError::Quota(exceeded) = error {
            metrics::quota_refused(exceeded.scope);
        }
    })?;
    log_fields::schedule(armed.schedule_id);
    if let Some(trace) = &trace {
        trace.step("arm", began);
        trace.armed(&caller.instance_id, &wanted.job_id, armed.schedule_id);
    }
    state.backends.armed(&armed);
    state.scheduler.awake(&caller);
    let never_dialled = state.scheduler.never_dials(&wanted.callback_url);
    let callback = callback_warnings::of(&wanted.callback_url, never_dialled, armed.followed);
    Ok(Json(ProvisionResponse {
        schedule_id: armed.schedule_id.to_string(),
        warnings: armed.unknown_auth.iter().map(auth_profiles::unknown).chain(callback).collect(),
    }))
}

/// Arms for the caller as it is remembered, or else as it is now.
async fn arm(
    state: &AgentCron,
    caller: RememberedCaller,
    wanted: &Provision,
) -> Result<(AgentInstance, Armed), ApiError> {
    if caller.is_remembered() {
        let Caller { instance, deadline } = &caller.caller;
        if let Some(armed) = state.one_shots.provision_remembered(instance, wanted, *deadline).await? {
            return Ok((caller.caller.instance, armed));
        }
    }
    let Caller { instance, deadline } = caller.current(&state.authenticator).await?;
    let armed = state.one_shots.provision(&instance, wanted, deadline).await?;
    Ok((instance, armed))
}

/// Cancel a job's one-shot
///
/// No attempt starts after the response. Cancelling an unknown job succeeds.
#[utoipa::path(post, path = "/api/agent-cron/cancel", tag = "agent-cron", security(("portal_access_token" = [])),
    request_body = CancelRequest, responses(
    (status = 200, description = "Cancelled, or the job had no one-shot.", body = CancelResponse),
    (status = 429, description = "`too_many_requests`: too many calls of this instance wait for their turn.")))]
async fn cancel(
    State(state): State<AgentCron>,
    caller: Caller,
    JsonBody(body): JsonBody<CancelRequest>,
) -> Result<Json<CancelResponse>, ApiError> {
    let job_id = JobId::new(body.job_id)?;
    log_fields::job(&job_id);
    state.pace.turn(&caller.instance.instance_id).await?;
    state.one_shots.cancel(&caller.instance, &job_id, caller.deadline).await?;
    state.backends.notify_outboxes();
    state.scheduler.awake(&caller.instance);
    Ok(Json(CancelResponse { ok: true }))
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
            not_after: one.not_after,
            parked: one.parked,
            awaits: one.awaits,
            last_outcome: one.last_outcome,
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
            dead_reason: one.dead_reason,
            not_after: one.not_after,
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
    (status = 200, description = "The one-shots of the calling instance only.", body = ListResponse),
    (status = 429, description = "`too_many_requests`: too many calls of this instance wait for their turn."),
    ))]
async fn list(State(state): State<AgentCron>, caller: Caller) -> Result<Json<ListResponse>, ApiError> {
    state.pace.turn(&caller.instance.instance_id).await?;
    let listing = state.one_shots.list(&caller.instance, caller.deadline).await?;
    state.pace.answered(&caller.instance.instance_id, listing.armed.len() + listing.dead.len());
    state.scheduler.awake(&caller.instance);
    Ok(Json(ListResponse {
        armed: listing.armed.into_iter().map(ArmedOneShot::from).collect(),
        dead: listing.dead.into_iter().map(DeadOneShot::from).collect(),
    }))
}
