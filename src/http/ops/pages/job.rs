//! One job: why it has not fired, what can be done about it, and its story.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use nas_cron_protocol::admin_api::{Job, JobDetails};
use nas_cron_protocol::{InstanceId, InvalidField, JobId, OneShotState};

use super::job_view::{armed_for, badges, fired_at, result};
use super::recurrence;
use super::subject::Subject;
use super::timeline::{self, Entry, entries};
use crate::http::ApiError;
use crate::http::error::ErrorPage;
use crate::http::extract::QueryParams;
use crate::http::ops::OpsState;
use crate::http::ops::actions::Action;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{
    CommandLine, Html, agent, id, job, link, phrase, shown, text, when, when_any, whole_id, with_commands,
    with_query,
};
use crate::operations::jobs;

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    subject: Subject,
    fix: Option<Html>,
    /// The pattern of its fires, if its history shows one.
    recurrence: Option<Html>,
    timeline: Vec<Entry>,
    /// True for the attempts before those of the story.
    is_later: bool,
    /// Path of the page with the attempts before these.
    earlier: Option<String>,
    /// Path of the page with the story.
    first: String,
}

/// Shows a job.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["instance_id", "job_id", "after"])?;
    let (instance_id, job_id) = named(&params)?;
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let key = (session.actor.org.clone(), instance_id.clone(), job_id.clone());
    let read = operations.job_story(&instance_id, &job_id);
    let story = ops.stories.get(key, session.by_itself, read).await?;
    let later = match params.text("after") {
        Some(after) => Some(operations.attempts(&instance_id, &job_id, jobs::ATTEMPTS, Some(after)).await?),
        None => None,
    };
    let details = &story.details;
    let current = details.job.as_ref().map(|shown| &shown.job);
    let title = format!("Job {job_id}");
    let subject = Subject {
        kind: "Job",
        name: whole_id(job_id.as_str()),
        of: Html::joined([text("of agent "), link(&agent(instance_id.as_str()), &id(instance_id.as_str()))]),
        // Attempts that have ended do not change.
        here: later.is_none().then(|| session.here()),
        question: "Why has it not fired?",
        badges: current.map(|job| badges(job, session.now)).unwrap_or_default(),
        state: phrase(&story.reason.text, session.now),
        actions: actions(&session, &instance_id, &job_id, current, story.is_held),
        facts: ("One-shot", facts(details, session.now)),
        audit: with_query(
            "/ops/audit",
            [("subject", format!("job_id={job_id}").as_str()), ("instance_id", instance_id.as_str())],
        ),
        command: shown(&jobs::command("show", instance_id.as_str(), job_id.as_str())),
    };
    let page = JobPage {
        frame: session
            .frame(title)
            .of(Section::Jobs)
            .below("Jobs", "/ops/jobs")
            .below(instance_id.as_str(), &with_query("/ops/jobs", [("instance_id", instance_id.as_str())])),
        subject,
        fix: story.reason.fix.as_deref().map(with_commands),
        recurrence: story
            .recurrence
            .as_ref()
            .map(|expected| recurrence::described(expected, &story.weekdays, current, session.now)),
        timeline: match &later {
            Some(page) => timeline::attempts(&page.attempts, session.now).collect(),
            None => entries(&story, session.now),
        },
        is_later: later.is_some(),
        earlier: later.map_or_else(|| story.earlier.clone(), |page| page.next).map(|after| {
            let of = [("instance_id", instance_id.as_str()), ("job_id", job_id.as_str())];
            with_query("/ops/job", of.into_iter().chain([("after", after.as_str())]))
        }),
        first: job(instance_id.as_str(), job_id.as_str()),
    };
    Ok(rendered(&page))
}

/// Reads the job that the page is about.
fn named(params: &QueryParams) -> Result<(InstanceId, JobId), ApiError> {
    let given = |name: &'static str| {
        params.text(name).ok_or_else(|| ApiError::Field(InvalidField::new(name, "is missing")))
    };
    Ok((InstanceId::new(given("instance_id")?)?, JobId::new(given("job_id")?)?))
}

/// Returns what is known about the job's one-shot.
fn facts(details: &JobDetails, now: DateTime<Utc>) -> Vec<(&'static str, Html)> {
    let Some(shown) = &details.job else {
        return details.cancelled_at.map(|at| ("Cancelled", when(at, now))).into_iter().collect();
    };
    let job = &shown.job;
    let optional = [
        ("Next attempt", job.next_attempt_at),
        ("Expected next fire", job.expected_at),
        ("Dormant since", job.dormant_since),
        ("Latest start", job.not_after),
        ("Retrying since", job.retrying_since),
        ("Agent asked to wait until", job.retry_after_until),
        ("Lease ends", job.lease_expires_at),
    ];
    let mut facts = vec![("Fires at", when(job.fire_at_instant, now))];
    // An operator has fired it earlier.
    facts.extend(fired_at(job).map(|_| ("Armed for", when(armed_for(job), now))));
    facts.extend(optional.into_iter().filter_map(|(name, at)| Some((name, when(at?, now)))));
    facts.extend([
        ("Attempts", text(&job.attempts.to_string())),
        ("Last attempt", when_any(job.last_started_at, now)),
        ("Last result", result(job.last_outcome, job.last_status, job.last_error.as_deref())),
        ("Callback", text(&job.callback_url)),
        ("Org", id(&job.org_id)),
        ("Armed", when(job.created_at, now)),
        ("Key", id(&job.dedup_key)),
        ("Schedule", id(&job.schedule_id.to_string())),
    ]);
    facts
}

/// Returns the actions that fit the job's state and that the operator may carry out.
fn actions(
    session: &Session,
    instance_id: &InstanceId,
    job_id: &JobId,
    job: Option<&Job>,
    is_held: bool,
) -> Vec<Action> {
    let (agent, name) = (instance_id.as_str(), job_id.as_str());
    let on_job = |operation, label, verb| {
        let line = jobs::command(verb, agent, name);
        let action = Action::offered(session, operation, label, &line)?;
        let action = action.about("instance_id", agent).about("job_id", name);
        Some(match job {
            Some(job) => action.about("schedule_id", job.schedule_id.to_string()),
            None => action,
        })
    };
    let mut found = Vec::new();
    if let Some(job) = job {
        match job.state {
            OneShotState::Dead | OneShotState::Stuck => {
                found.push(on_job("redrive_job", "Redrive", "redrive"));
            }
            OneShotState::Delivered => {
                let seen = job.last_started_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
                found.push(on_job("nudge_job", "Fire once more", "nudge").map(|action| {
                    let action = action.about("last_started_at", seen.unwrap_or_default());
                    action.warned("The fire was delivered already. Its agent may run the job again, and then arms the next fire.")
                }));
            }
            OneShotState::Firing => {}
            OneShotState::Armed | OneShotState::Leased | OneShotState::Waiting => {
                found.push(on_job("fire_job", "Fire now", "fire"));
            }
        }
        if job.dormant_since.is_some() {
            found.push(on_job("dismiss_job", "It has finished", "dismiss"));
        }
    }
    let on = |verb| CommandLine::new(verb).option("--instance", agent).option("--job", name);
    let switch = if is_held {
        Action::offered(session, "release_job", "End its hold", &on("release"))
    } else {
        let hold = on("hold").option("--reason", "REASON");
        Action::offered(session, "hold_job", "Hold", &hold).map(Action::with_reason)
    };
    found.push(switch.map(|action| action.about("instance_id", agent).about("job_id", name)));
    if job.is_some() {
        found.push(on_job("cancel_job", "Cancel", "cancel").map(|action| {
            action.warned("The one-shot is deleted: the job does not fire until its agent arms it again.")
        }));
    }
    found.into_iter().flatten().collect()
}
