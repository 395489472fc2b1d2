//! Actions on many jobs: those that an operator has selected, or all that a filter selects, part by part.

use std::time::{Duration, Instant};

use nas_cron_base::terminal::counted;
use nas_cron_protocol::{InstanceId, InvalidField, JobId, OneShotState, ScheduleId, json};

use super::Done;
use crate::audit::{Act, AuditId, AuditLog, AuditOutcome};
use crate::domain::actor::Actor;
use crate::domain::hold::{HoldTarget, check_reason};
use crate::domain::job::JobKey;
use crate::domain::job_filter::JobFilter;
use crate::http::ApiError;
use crate::http::admin::gate::outcome;
use crate::http::error::{ErrorPage, Failure};
use crate::http::ops::form::Form;
use crate::http::ops::view::with_query;
use crate::operations::Operations;
use crate::operations::jobs::{Redrive, RedriveOf};

/// Field with the jobs that an operator has selected.
pub(in crate::http::ops) const JOB: &str = "job";
/// Field that selects all jobs of the filter in the form.
pub(in crate::http::ops) const MATCHING: &str = "matching";
/// Fields of the first form that the forms of the next parts send again: the pace, the reason, and the number of jobs.
pub(in crate::http::ops) const KEPT: [&str; 3] = ["per_second", "reason", "total"];
/// Operations on many jobs: the operation, and its label.
pub(in crate::http::ops) const OPERATIONS: [(&str, &str); 5] = [
    ("redrive_jobs", "Redrive"),
    ("fire_job", "Fire now"),
    ("hold_job", "Hold"),
    ("release_job", "End the holds of"),
    ("cancel_job", "Cancel"),
];
/// Maximum number of selected jobs.
pub(in crate::http::ops) const SELECTED: usize = 200;
/// Maximum number of redriven one-shots that fire per second and agent.
const MAX_PER_SECOND: u32 = 1_000;
/// Default of it.
pub(in crate::http::ops) const PER_SECOND: u32 = 4;
/// Number of jobs that are selected at once.
const PART: u32 = 50;
/// Time after which a request stops, and leaves the rest to the next one.
const LONG: Duration = Duration::from_secs(4);

/// A job in a form, with the one-shot that the operator has seen.
#[derive(Clone, Debug)]
pub(in crate::http::ops) struct Seen {
    /// The agent.
    pub(in crate::http::ops) agent: InstanceId,
    /// Its job.
    pub(in crate::http::ops) job: JobId,
    /// The one-shot.
    pub(in crate::http::ops) one_shot: ScheduleId,
}

impl Seen {
    /// Returns the value of a form's field.
    pub(in crate::http::ops) fn field(instance_id: &str, job_id: &str, schedule_id: ScheduleId) -> String {
        serde_json::json!([instance_id, job_id, schedule_id]).to_string()
    }

    fn read(text: &str) -> Result<Self, InvalidField> {
        let invalid = || InvalidField::new(JOB, "must be one that the page contains");
        let (instance_id, job_id, schedule_id): (String, String, String) =
            json::from_slice(text.as_bytes()).map_err(|_| invalid())?;
        Ok(Self {
            agent: InstanceId::new(instance_id)?,
            job: JobId::new(job_id)?,
            one_shot: ScheduleId::parse(&schedule_id)?,
        })
    }
}

/// Reads the selected jobs of a form.
pub(in crate::http::ops) fn selected(form: &Form) -> Result<Vec<Seen>, ApiError> {
    let jobs = form.all(JOB).map(Seen::read).collect::<Result<Vec<_>, _>>()?;
    if jobs.is_empty() || jobs.len() > SELECTED {
        return Err(InvalidField::new(JOB, format!("select 1 to {SELECTED} jobs")).into());
    }
    Ok(jobs)
}

/// Reads the filter of a form or of a page.
pub(in crate::http::ops) fn filter<'a>(
    given: impl Fn(&str) -> Option<&'a str>,
) -> Result<JobFilter, InvalidField> {
    let mut filter = JobFilter::default();
    for name in JobFilter::NAMES {
        if let Some(text) = given(name) {
            filter.set(name, text)?;
        }
    }
    Ok(filter)
}

/// Returns the page that a form leads to. The page of all matching jobs goes on with what the first form had.
pub(super) fn back(form: &Form) -> String {
    if form.text(MATCHING).is_none() {
        return form.back().to_owned();
    }
    let (path, query) = form.back().split_once('?').unwrap_or((form.back(), ""));
    let given: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let others = given.iter().map(|(name, value)| (&**name, &**value));
    let others = others.filter(|(name, _)| !KEPT.contains(name));
    with_query(path, others.chain(KEPT.iter().filter_map(|name| Some((*name, form.text(name)?)))))
}

/// True if each job of a form has its own line in the audit log: all but those of one statement.
pub(super) fn has_own_lines(operation: &str, form: &Form) -> bool {
    is_meant(form) && (operation != "redrive_jobs" || form.text(MATCHING).is_none())
}

/// True if a form is about many jobs.
pub(super) fn is_meant(form: &Form) -> bool {
    form.text(MATCHING).is_some() || form.all(JOB).next().is_some()
}

/// Carries out an operation on the jobs of a form.
pub(super) async fn perform(
    operations: &Operations,
    audit: &AuditLog,
    actor: &Actor,
    operation: &'static str,
    form: &Form,
) -> Result<Done, ApiError> {
    let before: i64 = form.text("changed").and_then(|text| text.parse().ok()).unwrap_or(0);
    if operation == "redrive_jobs" && form.text(MATCHING).is_some() {
        return redrive(operations, form, before).await;
    }
    check_reason(form.text("reason"))?;
    let is_selected = form.text(MATCHING).is_none();
    let many = Many { operations, audit, actor, operation, reason: form.text("reason"), is_selected };
    if is_selected {
        let jobs = selected(form)?;
        let tally = match operation {
            "redrive_jobs" => many.redrive(&jobs, pace(form)?).await?,
            _ => many.each(&jobs).await?,
        };
        return Ok(Done {
            text: tally.text(before),
            changed: Some(before + tally.changed),
            ..Done::default()
        });
    }
    let filter = filter(|name| form.text(name))?;
    let begun = Instant::now();
    let (mut after, mut total) = (form.text("after").map(str::to_owned), Tally::default());
    loop {
        let page = operations.list_jobs(&filter, PART, after.as_deref()).await?;
        let jobs = page.jobs.iter().map(|shown| Seen {
            agent: InstanceId::stored(shown.job.instance_id.clone()),
            job: JobId::stored(shown.job.job_id.clone()),
            one_shot: shown.job.schedule_id,
        });
        let jobs: Vec<_> = jobs.collect();
        total.add(many.each(&jobs).await?);
        after = page.next;
        if after.is_none() || begun.elapsed() > LONG {
            let changed = Some(before + total.changed);
            return Ok(Done { text: total.text(before), changed, next: after, about: Vec::new() });
        }
    }
}

/// Reads the number of redriven one-shots that fire per second and agent.
fn pace(form: &Form) -> Result<u32, InvalidField> {
    let pace = form.text("per_second").map_or(Ok(PER_SECOND), str::parse);
    pace.ok().filter(|pace| (1..=MAX_PER_SECOND).contains(pace)).ok_or_else(|| {
        InvalidField::new("per_second", format!("must be a number from 1 to {MAX_PER_SECOND}"))
    })
}

/// Redrives a part of the dead letters of a filter, which is one statement, at the pace of the form.
async fn redrive(operations: &Operations, form: &Form, before: i64) -> Result<Done, ApiError> {
    let of = RedriveOf::Matching(Box::new(filter(|name| form.text(name))?));
    let wanted = Redrive { of, per_second: pace(form)? };
    let report = operations.redrive(&wanted, form.text("after")).await?;
    let changed = before + report.redriven;
    let text = format!("{} redriven.", capital(&counted(changed, "one-shot")));
    Ok(Done { text, changed: Some(changed), next: report.next, about: Vec::new() })
}

fn capital(text: &str) -> String {
    nas_cron_base::terminal::capital(text)
}

/// An operation on one job after the other. Each has its line in the audit log.
struct Many<'a> {
    operations: &'a Operations,
    audit: &'a AuditLog,
    actor: &'a Actor,
    operation: &'static str,
    reason: Option<&'a str>,
    /// True if the operator has seen the one-shots.
    is_selected: bool,
}

/// Numbers of jobs of an operation.
#[derive(Default)]
struct Tally {
    changed: i64,
    refused: i64,
    /// The first reason for which a job was left alone.
    reason: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.changed += other.changed;
        self.refused += other.refused;
        self.reason = self.reason.take().or(other.reason);
    }

    fn text(&self, before: i64) -> String {
        let done = format!("{} changed.", capital(&counted(before + self.changed, "job")));
        match &self.reason {
            Some(reason) => format!(
                "{done} {} left alone; the first because: {reason}",
                capital(&counted(self.refused, "job"))
            ),
            None => done,
        }
    }
}

impl Many<'_> {
    /// Redrives those of the jobs whose one-shots are still the seen ones, all with one statement, so that they keep the pace.
    async fn redrive(&self, jobs: &[Seen], per_second: u32) -> Result<Tally, ApiError> {
        let (mut tally, mut lines, mut keys) = (Tally::default(), Vec::new(), Vec::new());
        for seen in jobs {
            let act = act("redrive_job", seen).about("per_second", per_second);
            let line = self.audit.begin(self.actor, &act).await?;
            let Seen { agent, job, one_shot } = seen;
            match self.operations.require_redrivable(agent, job, *one_shot).await {
                Ok(()) => {
                    lines.push(line);
                    keys.push(JobKey { instance_id: agent.to_string(), job_id: job.to_string() });
                }
                Err(error) => self.refuse(line, error.into(), &mut tally).await,
            }
        }
        let wanted = Redrive { of: RedriveOf::Jobs(keys), per_second };
        match self.operations.redrive(&wanted, None).await {
            Ok(report) => {
                tally.changed = report.redriven;
                for line in lines {
                    self.audit.end(line, AuditOutcome::Done, &[], None).await;
                }
                Ok(tally)
            }
            Err(error) => {
                let detail = error.to_string();
                for line in lines {
                    self.audit.end(line, AuditOutcome::Failed, &[], Some(&detail)).await;
                }
                Err(error.into())
            }
        }
    }

    /// Ends the line of a job that is left alone.
    async fn refuse(&self, line: AuditId, error: ApiError, tally: &mut Tally) {
        let response = axum::response::IntoResponse::into_response(ErrorPage(error));
        let failure = response.extensions().get::<Failure>().cloned();
        let reason = failure.map(|failure| failure.detail).unwrap_or_default();
        self.audit.end(line, outcome(response.status()), &[], Some(&reason)).await;
        tally.refused += 1;
        tally.reason.get_or_insert(reason);
    }

    async fn each(&self, jobs: &[Seen]) -> Result<Tally, ApiError> {
        let mut tally = Tally::default();
        for job in jobs {
            let line = self.audit.begin(self.actor, &act(self.operation, job)).await?;
            match self.one(job).await {
                Ok(()) => {
                    self.audit.end(line, AuditOutcome::Done, &[], None).await;
                    tally.changed += 1;
                }
                Err(error) => self.refuse(line, error, &mut tally).await,
            }
        }
        Ok(tally)
    }

    async fn one(&self, job: &Seen) -> Result<(), ApiError> {
        let Seen { agent, job, one_shot } = job;
        let target = || HoldTarget::Job(agent.clone(), job.clone());
        // The others check the one-shot themselves.
        if self.is_selected && matches!(self.operation, "hold_job" | "release_job") {
            self.operations.require_current(agent, job, *one_shot).await?;
        }
        match self.operation {
            "fire_job" => {
                self.operations.fire_job(agent, job, *one_shot).await?;
            }
            "cancel_job" => {
                self.operations.cancel_one_shot(agent, job, *one_shot).await?;
            }
            "hold_job" => {
                self.operations.hold(&target(), self.reason).await?;
            }
            "release_job" => {
                self.operations.release(&target()).await?;
            }
            other => {
                return Err(ApiError::Internal(format!("no action on many jobs is named {other}").into()));
            }
        }
        Ok(())
    }
}

/// Returns the line of an operation on one of the jobs.
fn act(operation: &'static str, on: &Seen) -> Act {
    let act = Act::new(operation).about("instance_id", &on.agent).about("job_id", &on.job);
    act.about("schedule_id", on.one_shot)
}

/// Returns the filter of the jobs that an operation can change, if it names no states.
pub(in crate::http::ops) fn narrowed(operation: &str, filter: JobFilter) -> JobFilter {
    let is_open = filter.states.is_empty() && !filter.dormant;
    match operation {
        "redrive_jobs" if is_open => JobFilter { states: vec![OneShotState::Dead], ..filter },
        "fire_job" if is_open => {
            JobFilter { states: vec![OneShotState::Armed, OneShotState::Waiting], ..filter }
        }
        _ => filter,
    }
}
