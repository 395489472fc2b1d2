//! One agent: its state, its contact with the service, and what can be done about it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_base::terminal::span;
use nas_cron_protocol::{InstanceId, InvalidField};

use super::agent_view::badges;
use super::subject::Subject;
use crate::domain::agent_contact::AgentContact;
use crate::domain::registration::{Agent, ShownAgent};
use crate::http::ApiError;
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::actions::Action;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section};
use crate::http::ops::session::Session;
use crate::http::ops::view::{
    CommandLine, Html, id, job, lasting, link, plots, scheduled, shown, text, when, whole_id, with_query,
};

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    subject: Subject,
    /// Consequences of its state for its fires.
    notes: Vec<Html>,
    /// Numbers of its jobs, each with the list that it counts.
    counts: Vec<(&'static str, i64, String)>,
}

/// Shows an agent.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&["instance_id"])?;
    let name = params.text("instance_id");
    let name = name.ok_or_else(|| ApiError::Field(InvalidField::new("instance_id", "is missing")))?;
    let instance_id = InstanceId::new(name)?;
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let read = async {
        let found = operations.agent(&instance_id).await?;
        let contact = operations.agent_contact(&instance_id).await?;
        Ok((found, contact))
    };
    let key = (session.actor.org.clone(), instance_id.clone());
    let data = ops.agents.get(key, session.by_itself, read).await?;
    let (found, contact) = &*data;
    let now = session.now;
    let agent = &found.agent;
    let quota = agent.quota(operations.default_quotas());
    let jobs = |state: &[(&str, &str)]| {
        with_query("/ops/jobs", [("instance_id", name)].into_iter().chain(state.iter().copied()))
    };
    let org = link(&with_query("/ops/agents", [("org_id", agent.org_id.as_str())]), &id(&agent.org_id));
    let subject = Subject {
        kind: "Agent",
        name: whole_id(name),
        of: Html::joined([text("of org "), org]),
        here: Some(session.here()),
        question: "State",
        badges: badges(agent, quota),
        state: text(""),
        actions: actions(&session, agent),
        facts: ("Contact", facts(found, quota, contact, now)),
        audit: with_query("/ops/audit", [("subject", format!("instance_id={name}").as_str())]),
        command: shown(&CommandLine::new("agents show").of([name])),
    };
    let page = AgentPage {
        frame: session.frame(format!("Agent {name}")).of(Section::Agents).below("Agents", "/ops/agents"),
        subject,
        notes: notes(agent, quota, contact, now),
        counts: vec![
            ("Scheduled", agent.armed, scheduled(name)),
            ("Parked", agent.parked, jobs(&[("parked", "true")])),
            ("Dead or stuck", agent.dead, jobs(&[("state", "dead,stuck")])),
        ],
    };
    Ok(rendered(&page))
}

fn notes(agent: &Agent, quota: i64, contact: &AgentContact, now: DateTime<Utc>) -> Vec<Html> {
    let mut notes = Vec::new();
    if let (Some(since), Some(probe)) = (agent.unreachable_since, contact.probe_job_id.as_deref()) {
        let probe = link(&job(&agent.instance_id, probe), &id(probe));
        notes.push(Html::joined([
            text("Its callback has been unreachable "),
            lasting(since, now),
            text(". Only the job "),
            probe,
            text(" is tried, as the probe; the others follow when the agent answers."),
        ]));
    }
    if let Some(other) = agent.alternating_callback_url.as_deref() {
        let problem = text(
            "Its callback moves back and forth: two homes of the agent share its identity. The other one is ",
        );
        notes.push(Html::joined([problem, id(other)]));
    }
    if agent.armed >= quota {
        notes.push(text(&format!(
            "Its quota of {quota} armed jobs is used up: its new jobs are rejected, those that it has are armed again."
        )));
    }
    if !contact.skew_guard.is_zero() {
        notes.push(text(&format!(
            "Its clock is slow: its fires are sent {} after their instant, so that it does not take them for early ones.",
            span(chrono::TimeDelta::from_std(contact.skew_guard).unwrap_or_default())
        )));
    }
    notes
}

fn facts(
    found: &ShownAgent,
    quota: i64,
    contact: &AgentContact,
    now: DateTime<Utc>,
) -> Vec<(&'static str, Html)> {
    let agent = &found.agent;
    let login = found.login.as_ref();
    let times = [
        ("Next attempt", agent.next_attempt_at),
        ("Busy until (Retry-After)", agent.busy_until),
        ("Unreachable since", agent.unreachable_since),
        ("Last armed a job", contact.last_armed_at),
        ("Last attempt", contact.last_attempt_at),
        ("Slow clock noticed", contact.skew_learned_at.filter(|_| !contact.skew_guard.is_zero())),
        ("Last token from the built-in portal", login.and_then(|login| login.refreshed_at)),
        ("Login ended", login.and_then(|login| login.ended_at)),
        ("Looked up at the portal", agent.looked_up_at),
        ("Registered", Some(agent.created_at)),
        ("Registration changed", Some(agent.updated_at)),
    ];
    let callback = agent.callback_url.as_deref().map_or_else(Html::dash, text);
    let session = agent.bootstrap_session_id.as_deref().map_or_else(Html::dash, id);
    let whose = if agent.own_quota.is_some() { "its own" } else { "the default" };
    let quota = text(&format!("{} ({whose})", plots::number(quota)));
    let named = [("Callback", callback), ("Bootstrap session", session), ("Quota of armed jobs", quota)];
    let times = times.into_iter().filter_map(|(name, at)| Some((name, when(at?, now))));
    named.into_iter().chain(times).collect()
}

fn actions(session: &Session, agent: &Agent) -> Vec<Action> {
    let name = agent.instance_id.as_str();
    let hold = Action::offered(
        session,
        "hold_instance",
        "Hold",
        &CommandLine::new("hold").option("--instance", name).option("--reason", "REASON"),
    );
    // A hold of its org or of the whole service may stop it as well, so both forms may be useful.
    let release = agent.on_hold.then(|| {
        let line = CommandLine::new("release").option("--instance", name);
        Action::offered(session, "release_instance", "End its hold", &line)
    });
    let enabled = if agent.enabled {
        Action::offered(session, "disable_agent", "Disable", &CommandLine::new("agents disable").of([name]))
            .map(|action| action.warned("Its fires are held and its calls are refused until it is enabled."))
    } else {
        Action::offered(session, "enable_agent", "Enable", &CommandLine::new("agents enable").of([name]))
    };
    let found = [hold.map(Action::with_reason), release.flatten(), enabled];
    found.into_iter().flatten().map(|action| action.about("instance_id", name)).collect()
}
