//! Redrives dead letters: one, selected ones, or all that a filter selects.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::RedriveReport;
use nas_cron_protocol::{InstanceId, InvalidField, JobId};
use serde::Deserialize;
use tracing::info;

use super::{Conditions, JobPath, RedrivableStates, UnknownJob, named, selection};
use crate::domain::actor::Actor;
use crate::domain::job::JobKey;
use crate::http::admin::AdminState;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams, refuse, whole};
use crate::http::noted::Notes;
use crate::operations::Cursor;
use crate::operations::jobs::{Redrive, RedriveOf, SELECTED_MAX};

/// Default number of redriven one-shots that fire per second and agent.
const PER_SECOND: u32 = 4;
/// Maximum of that number.
const MAX_PER_SECOND: u32 = 1_000;

/// Redrive a job
///
/// Its dead letter, or stuck one-shot, is due now, with a fresh retry budget. Repeating the request has no second effect.
#[utoipa::path(post, path = "/api/admin/jobs/{instance_id}/{job_id}/redrive", operation_id = "redrive_job",
    tag = "admin", security(("admin_token" = [])), params(JobPath),
    responses((status = OK, description = "The one-shot is redriven.", body = RedriveReport),
        UnknownJob,
        (status = CONFLICT, description = "The one-shot is neither dead nor stuck.")))]
pub(super) async fn one(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<Json<RedriveReport>, Problem> {
    let (instance_id, job_id) = named(path)?;
    let report = state.operations.within(actor.org_filter()).redrive_job(&instance_id, &job_id).await?;
    info!("one-shot redriven by an operator");
    Ok(Json(report))
}

/// Count redrivable jobs
///
/// Counts what `redrive_jobs` with the same conditions would redrive, up to 100,000.
#[utoipa::path(get, path = "/api/admin/jobs/redrivable", operation_id = "count_redrivable_jobs", tag = "admin",
    security(("admin_token" = [])), params(Conditions, RedrivableStates),
    responses((status = OK, description = "The number of jobs.", body = RedriveReport)))]
pub(super) async fn count(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<RedriveReport>, Problem> {
    let filter = selection(&query)?;
    Ok(Json(state.operations.within(actor.org_filter()).redrivable(&filter).await?))
}

/// Redrive all matching jobs
///
/// Redrives what `list_jobs` with `state=dead` and the same conditions shows; with `state=dead,stuck` stuck one-shots as
/// well. Needs at least one condition, or `all=true`. Redrives a batch per request: continue with `after` until `next` is
/// null. One that fails again meanwhile is left alone. Those of one agent fire one after the other.
#[utoipa::path(post, path = "/api/admin/jobs/redrive", operation_id = "redrive_jobs", tag = "admin",
    security(("admin_token" = [])),
    params(Conditions, RedrivableStates,
        ("all" = Option<bool>, Query, description = "`true`: without any condition."),
        ("per_second" = Option<u32>, Query, description = "Maximum number of redriven one-shots that fire per second and agent. Default: 4.", minimum = 1, maximum = 1000),
        ("after" = Option<Cursor>, Query, description = "Resume after this cursor: the `next` of the previous report, with the same conditions.")),
    responses((status = OK, description = "The progress.", body = RedriveReport)))]
pub(super) async fn matching(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<RedriveReport>, Problem> {
    let filter = selection(&query)?;
    if filter.is_everything() && query.flag("all")? != Some(true) {
        return Err(refuse("all", "must be true to redrive without any condition").into());
    }
    let per_second = query.number("per_second", MAX_PER_SECOND)?.unwrap_or(PER_SECOND);
    let wanted = Redrive { of: RedriveOf::Matching(Box::new(filter)), per_second };
    redrive(&state, &actor, &wanted, query.text("after")).await
}

/// Jobs to redrive.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectedJobs {
    /// The jobs. Those that are neither dead nor stuck are left alone.
    #[schema(min_items = 1, max_items = 1000)]
    jobs: Vec<SelectedJob>,
    /// Maximum number of redriven one-shots that fire per second and agent.
    #[schema(minimum = 1, maximum = 1000, default = 4)]
    #[serde(default, deserialize_with = "whole::optional")]
    per_second: Option<u32>,
}

/// A job of an agent.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectedJob {
    /// The agent's instance ID in the portal.
    instance_id: InstanceId,
    /// The job's ID, chosen by the agent.
    job_id: JobId,
}

/// Redrive selected jobs
///
/// The dead letters and stuck one-shots among them are due now, with a fresh retry budget. Those of one agent fire one
/// after the other.
#[utoipa::path(post, path = "/api/admin/jobs/redrive-selected", operation_id = "redrive_selected_jobs", tag = "admin",
    security(("admin_token" = [])), request_body(content = SelectedJobs, content_type = "application/json"),
    responses((status = OK, description = "The number of redriven one-shots.", body = RedriveReport)))]
pub(super) async fn selected(
    State(state): State<AdminState>,
    actor: Actor,
    notes: Notes,
    body: Result<JsonBody<SelectedJobs>, ApiError>,
) -> Result<Json<RedriveReport>, Problem> {
    let SelectedJobs { jobs, per_second } = body?.0;
    if jobs.is_empty() || jobs.len() > SELECTED_MAX {
        let problem = format!("must name 1 to {SELECTED_MAX} jobs");
        return Err(InvalidField::new("jobs", problem).into());
    }
    let per_second = per_second.unwrap_or(PER_SECOND);
    if !(1..=MAX_PER_SECOND).contains(&per_second) {
        return Err(InvalidField::new("per_second", format!("must be from 1 to {MAX_PER_SECOND}")).into());
    }
    // Not by the instance's own entry, which would show the line to that instance's org: other jobs may be of other orgs.
    for job in &jobs {
        notes.about("job", format_args!("{}/{}", job.instance_id, job.job_id));
    }
    let keys = jobs
        .into_iter()
        .map(|job| JobKey { instance_id: job.instance_id.to_string(), job_id: job.job_id.to_string() });
    let wanted = Redrive { of: RedriveOf::Jobs(keys.collect()), per_second };
    let report = redrive(&state, &actor, &wanted, None).await?;
    notes.detail(format!("redriven: {}", report.redriven));
    Ok(report)
}

async fn redrive(
    state: &AdminState,
    actor: &Actor,
    wanted: &Redrive,
    after: Option<&str>,
) -> Result<Json<RedriveReport>, Problem> {
    let report = state.operations.within(actor.org_filter()).redrive(wanted, after).await?;
    info!(redriven = report.redriven, "one-shots redriven by an operator");
    Ok(Json(report))
}
