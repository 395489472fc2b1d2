//! One job in the agent API: its state, its current one-shot and its latest attempts.

use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, SecondsFormat, Utc};
use nas_cron_base::duration;
use nas_cron_protocol::agent_api::{CurrentOneShot, JobAttempt, JobState, JobStatus, MAX_SHOWN_ATTEMPTS};
use nas_cron_protocol::{JobId, OneShotState, ParkReason};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agent_cron::AgentCron;
use super::extract::{PathNames, QueryParams};
use super::{ApiError, Caller, log_fields};
use crate::domain::job_status;
use crate::domain::one_shot::OneShot;
use nas_cron_protocol::admin_api::Attempt as AttemptRecord;

/// Number of attempts in a response without the parameter.
const ATTEMPTS: u32 = 10;

/// Returns the documented routes.
pub fn routes(state: AgentCron) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(show)).with_state(state)
}

/// Ask what became of a job
///
/// Returns its state, its current one-shot in any state, and its latest attempts with their outcomes.
#[utoipa::path(get, path = "/api/agent-cron/jobs/{job_id}", operation_id = "show_job", tag = "agent-cron",
    security(("portal_access_token" = [])),
    params(("job_id" = JobId, Path, description = "The job's ID, chosen by the agent."),
        ("attempts" = Option<u32>, Query, description = "Maximum number of attempts; 10 without the parameter.", minimum = 1, maximum = 100)),
    responses(
    (status = 200, description = "The job, with or without a current one-shot.", body = JobStatus),
    (status = 400, description = "A parameter is invalid or unknown. The description begins with its name."),
    (status = 404, description = "Nothing is stored about a job of the calling instance with this ID.")))]
async fn show(
    State(state): State<AgentCron>,
    caller: Caller,
    path: PathNames<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<JobStatus>, ApiError> {
    let job_id = path.name("job_id", JobId::new)?;
    log_fields::job(&job_id);
    let query = QueryParams::parse(query.as_deref(), &["attempts"])?;
    let attempts = query.number("attempts", MAX_SHOWN_ATTEMPTS)?.unwrap_or(ATTEMPTS);
    let found = state.one_shots.status(&caller.instance, &job_id, attempts, caller.deadline).await?;
    state.scheduler.awake(&caller.instance);
    let job = found.ok_or_else(|| {
        let retention = duration::format(state.one_shots.history_retention());
        ApiError::NotFound(
            format!(
                "nothing is stored about a job of this instance with this job_id: it was never armed, or it was \
                 cancelled or ended more than {retention} ago"
            )
            .into(),
        )
    })?;
    Ok(Json(shown(&job_id, job)))
}

fn shown(job_id: &JobId, job: job_status::JobStatus) -> JobStatus {
    let state = job.state();
    JobStatus {
        job_id: job_id.to_string(),
        state,
        next: next(state, job.one_shot.as_ref()),
        cancelled_at: job.cancelled_at,
        one_shot: job.one_shot.map(CurrentOneShot::from),
        attempts: job.attempts.into_iter().map(attempt).collect(),
    }
}

/// Describes the next event of a job, or the way to fire it again.
fn next(state: JobState, one_shot: Option<&OneShot>) -> String {
    match (state, one_shot.and_then(|one| one.parked)) {
        (_, Some(ParkReason::Hold)) => {
            "on hold: it is attempted when the operator has ended the hold".to_owned()
        }
        (_, Some(ParkReason::Unreachable)) => {
            "the callback is unreachable: another job of this instance probes it, and this one follows"
                .to_owned()
        }
        (JobState::Armed | JobState::Leased | JobState::Waiting, None) => {
            may_start(one_shot.and_then(|one| one.next_attempt_at))
        }
        (JobState::Firing, None) => "an attempt is in flight".to_owned(),
        (JobState::Dead, None) => {
            "no more attempts: provision the job again, or ask the operator to redrive it".to_owned()
        }
        (JobState::Stuck, None) => {
            "no more attempts, because the same dedup_key came again after each fire: provision another one"
                .to_owned()
        }
        (JobState::Delivered | JobState::Cancelled | JobState::Unknown, None) => {
            "nothing is armed: provision the job to fire it again".to_owned()
        }
    }
}

fn may_start(at: Option<DateTime<Utc>>) -> String {
    match at {
        Some(at) => {
            format!("the next attempt may start at {}", at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        None => "nothing is scheduled".to_owned(),
    }
}

impl From<OneShot> for CurrentOneShot {
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
            dead_reason: one.dead_reason,
            died_at: matches!(one.state, OneShotState::Dead | OneShotState::Stuck).then_some(one.updated_at),
            auth: one.auth.into(),
        }
    }
}

fn attempt(one: AttemptRecord) -> JobAttempt {
    JobAttempt {
        attempt_id: one.attempt_id.to_string(),
        schedule_id: one.schedule_id.to_string(),
        fire_at: one.fire_at,
        attempt: one.attempt,
        started_at: one.started_at,
        ended_at: one.ended_at,
        outcome: one.outcome,
        http_status: one.http_status,
        error: one.error,
        answer: one.answer,
    }
}
