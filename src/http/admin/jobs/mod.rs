//! `/api/admin/jobs`: the jobs of all agents.

mod fire;
mod list;
mod nudge;
mod one;
mod redrive;

use nas_cron_protocol::{InstanceId, JobId, OrgId};
use utoipa::{IntoParams, IntoResponses};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::domain::job_filter::JobFilter;
use crate::http::error::ApiError;
use crate::http::extract::{PathNames, QueryParams};
use crate::http::log_fields;

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new()
        .routes(routes!(list::list))
        .routes(routes!(one::get))
        .routes(routes!(one::why))
        .routes(routes!(list::attempts))
        .routes(routes!(one::cancel))
        .routes(routes!(fire::fire))
        .routes(routes!(nudge::nudge))
        .routes(routes!(nudge::dismiss))
        .routes(routes!(redrive::one))
        .routes(routes!(redrive::count))
        .routes(routes!(redrive::matching))
        .routes(routes!(redrive::selected))
}

/// The parameters of a path with a job.
#[derive(IntoParams)]
#[into_params(names("instance_id", "job_id"), parameter_in = Path)]
#[expect(dead_code, reason = "documents the path")]
struct JobPath(
    /// The agent's instance ID in the portal.
    InstanceId,
    /// The job's ID, chosen by the agent.
    JobId,
);

/// Error of every operation on one job.
#[derive(IntoResponses)]
#[response(status = 404, description = "Nothing is stored about a job of this agent with this ID.")]
struct UnknownJob;

/// Returns the job in the path.
fn named(path: PathNames<(String, String)>) -> Result<(InstanceId, JobId), ApiError> {
    let (instance_id, job_id) = path.job()?;
    log_fields::agent(&instance_id);
    log_fields::job(&job_id);
    Ok((instance_id, job_id))
}

/// The conditions of a selection: all given ones must hold.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `JobFilter::set` reads")]
struct Conditions {
    /// Only jobs of this org.
    org_id: Option<OrgId>,
    /// Only jobs of this agent.
    instance_id: Option<InstanceId>,
    /// Only jobs with this ID.
    job_id: Option<JobId>,
    /// `true`: only parked one-shots. They wait for the end of a `hold`, or until their agent is reachable (`unreachable`).
    /// `none`: only those that are not parked.
    parked: Option<crate::domain::job_filter::Parked>,
    /// `true`: only one-shots that are due, not parked, and not in flight.
    overdue: Option<bool>,
    /// Only one-shots whose latest attempt ended so.
    outcome: Option<nas_cron_protocol::FireOutcome>,
    /// Only one-shots whose last error contains this text, in any case.
    #[param(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    error: Option<String>,
    /// Only dead letters whose `not_after` passed, or with `false` those whose retry budget is spent.
    expired: Option<bool>,
    /// Only one-shots whose last response had this status; `none`: without a response.
    #[param(pattern = "^([1-9][0-9]{2}|none)$", example = "503")]
    last_status: Option<String>,
    /// Only one-shots whose last error has this text as its first 48 characters, as dead letters are grouped.
    #[param(min_length = 1, max_length = 200, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$")]
    error_group: Option<String>,
    /// `true`: only one-shots without an error.
    no_error: Option<bool>,
    /// Only one-shots with an instant from this one on.
    fire_at_from: Option<chrono::DateTime<chrono::Utc>>,
    /// Only one-shots with an instant before this one.
    fire_at_before: Option<chrono::DateTime<chrono::Utc>>,
    /// Only one-shots whose next attempt may start at this instant or later.
    next_attempt_from: Option<chrono::DateTime<chrono::Utc>>,
    /// Only one-shots whose next attempt may start before this instant.
    next_attempt_before: Option<chrono::DateTime<chrono::Utc>>,
}

/// The condition on the state, in a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `JobFilter::set` reads")]
struct States {
    /// Only one-shots in these states, separated by commas: armed, leased, firing, waiting, delivered, stuck, dead;
    /// or of dormant jobs: dormant.
    #[param(
        pattern = "^(armed|leased|firing|waiting|delivered|stuck|dead|dormant)(,(armed|leased|firing|waiting|delivered|stuck|dead|dormant))*$",
        example = "dead,stuck"
    )]
    state: Option<String>,
}

/// The condition on the state, in a redrive.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `JobFilter::set` reads")]
struct RedrivableStates {
    /// Only one-shots in these states, separated by commas: dead, stuck. Default: dead.
    #[param(pattern = "^(dead|stuck)(,(dead|stuck))*$", example = "dead,stuck")]
    state: Option<String>,
}

/// Reads the conditions of a selection.
fn selection(query: &QueryParams) -> Result<JobFilter, ApiError> {
    let mut filter = JobFilter::default();
    for name in JobFilter::NAMES {
        if let Some(text) = query.text(name) {
            filter.set(name, text)?;
        }
    }
    Ok(filter)
}
