//! The list of jobs, with filters that are part of its URL.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use nas_cron_protocol::admin_api::{Job, ShownJob};
use nas_cron_protocol::{FireOutcome, OneShotState};

use super::job_view::{badges, next, result};
use crate::domain::job_filter::JobFilter;
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::actions::batch::{self, Seen};
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::{Proof, Session};
use crate::http::ops::view::{CommandLine, Html, agent, id, job, link, shown, with_query};
use crate::http::{ApiError, extract};

/// Jobs of a page.
const PER_PAGE: u32 = 100;
/// Orgs that the field for filters suggests.
const SUGGESTED_ORGS: u32 = 50;
/// Characters of an error that the field for filters suggests.
const ERROR: usize = 48;

/// Views that are one click away: label, and the query of its conditions.
const VIEWS: &[(&str, &[(&str, &str)])] = &[
    ("All", &[]),
    ("Overdue", &[("overdue", "true")]),
    ("Retrying", &[("state", "waiting")]),
    ("Parked", &[("parked", "true")]),
    ("Dormant", &[("state", "dormant")]),
    ("Dead letters", &[("state", "dead")]),
    ("Stuck", &[("state", "stuck")]),
];

/// Short names of conditions, as an operator types them: `agent:inst-1`.
const QUALIFIERS: [(&str, &str); 16] = [
    ("state", "state"),
    ("org", "org_id"),
    ("agent", "instance_id"),
    ("job", "job_id"),
    ("error", "error"),
    ("outcome", "outcome"),
    ("overdue", "overdue"),
    ("parked", "parked"),
    ("expired", "expired"),
    ("status", "last_status"),
    ("error-group", "error_group"),
    ("no-error", "no_error"),
    ("fires-from", "fire_at_from"),
    ("fires-before", "fire_at_before"),
    ("next-from", "next_attempt_from"),
    ("next-before", "next_attempt_before"),
];

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    frame: Frame,
    views: Vec<View>,
    conditions: Vec<Condition>,
    /// The conditions as fields, for the form that adds another one.
    kept: Vec<(&'static str, String)>,
    suggestions: Vec<String>,
    /// Proof for the form that acts on jobs; `None` if the operator may not.
    proof: Option<Proof>,
    operations: [(&'static str, &'static str); 5],
    rows: Vec<Row>,
    /// Path of the next page.
    next: Option<String>,
    /// True if this is not the first page.
    is_later: bool,
    /// The same on the command line.
    command: Html,
    first: String,
}

struct View {
    label: &'static str,
    path: String,
    is_current: bool,
}

/// A condition in force, and the path of the list without it.
struct Condition {
    text: String,
    without: String,
}

struct Row {
    name: String,
    /// The job with its one-shot, as a field of the form.
    seen: String,
    job: Html,
    agent: Html,
    org: Html,
    badges: Vec<(Tone, String)>,
    next: Html,
    attempts: i32,
    last: Html,
}

/// Shows a page of jobs.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    let params = session.params(&[JobFilter::NAMES.as_slice(), &["after", "add"]].concat())?;
    let mut filter = batch::filter(|name| params.text(name))?;
    if let Some(added) = params.text("add") {
        add(&mut filter, added)?;
        return Ok(Redirect::to(&path(&filter)).into_response());
    }
    let operations = ops.admin.operations.within(session.actor.org_filter());
    let after = params.text("after");
    let page = operations.list_jobs(&filter, PER_PAGE, after).await?;
    let orgs = operations.orgs(SUGGESTED_ORGS, None).await?;
    let pairs = filter.pairs();
    let next_page = page.next.as_deref().map(|next| {
        let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
        with_query("/ops/jobs", pairs.chain([("after", next)]))
    });
    let list = JobsPage {
        frame: session.frame("Jobs").of(Section::Jobs),
        views: views(&filter),
        conditions: pairs.iter().map(|(name, value)| condition(&filter, name, value)).collect(),
        kept: pairs,
        suggestions: suggestions(orgs.orgs.iter().map(|org| org.org_id.as_str()), &page.jobs),
        proof: session.may("cancel_job").then(|| session.proof()),
        operations: batch::OPERATIONS,
        rows: page.jobs.iter().map(|shown| row(&shown.job, session.now)).collect(),
        next: next_page,
        is_later: after.is_some(),
        command: shown(&listing(&filter)),
        first: path(&filter),
    };
    Ok(rendered(&list))
}

fn row(of: &Job, now: chrono::DateTime<chrono::Utc>) -> Row {
    Row {
        name: of.job_id.clone(),
        seen: Seen::field(&of.instance_id, &of.job_id, of.schedule_id),
        job: link(&job(&of.instance_id, &of.job_id), &id(&of.job_id)),
        agent: link(&agent(&of.instance_id), &id(&of.instance_id)),
        org: id(&of.org_id),
        badges: badges(of, now),
        next: next(of, now),
        attempts: of.attempts,
        last: result(of.last_outcome, of.last_status, of.last_error.as_deref()),
    }
}

/// Returns the path of a list.
fn path(filter: &JobFilter) -> String {
    let pairs = filter.pairs();
    with_query("/ops/jobs", pairs.iter().map(|(name, value)| (*name, value.as_str())))
}

fn views(filter: &JobFilter) -> Vec<View> {
    let given = filter.pairs();
    let view = |(label, pairs): &(&'static str, &[(&str, &str)])| {
        let is_current = given.iter().map(|(name, value)| (*name, value.as_str())).eq(pairs.iter().copied());
        View { label, path: with_query("/ops/jobs", pairs.iter().copied()), is_current }
    };
    VIEWS.iter().map(view).collect()
}

fn condition(filter: &JobFilter, name: &'static str, value: &str) -> Condition {
    let rest = filter.pairs().into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let without = with_query("/ops/jobs", rest.iter().map(|(name, value)| (*name, value.as_str())));
    Condition { text: qualified(name, value), without }
}

/// Returns a condition as an operator types it.
fn qualified(name: &str, value: &str) -> String {
    let short = QUALIFIERS.iter().find(|(_, long)| *long == name).map_or(name, |(short, _)| short);
    if value == "true" { short.to_owned() } else { format!("{short}:{value}") }
}

/// Adds a condition that an operator has typed. It replaces one of the same name.
fn add(filter: &mut JobFilter, typed: &str) -> Result<(), ApiError> {
    let typed = typed.trim();
    let (short, value) = typed.split_once(':').unwrap_or((typed, "true"));
    let known = QUALIFIERS.iter().find(|(name, long)| *name == short || *long == short);
    let is_complete = typed.contains(':') || matches!(short, "overdue" | "parked" | "expired" | "no-error");
    if let Some((_, long)) = known.filter(|_| is_complete) {
        return Ok(filter.set(long, value.trim())?);
    }
    let names: Vec<_> = QUALIFIERS.iter().map(|(short, _)| *short).collect();
    let problem = format!("unknown filter; write NAME:VALUE with one of these names: {}", names.join(", "));
    Err(extract::refuse("filter", problem))
}

/// Returns filters that are complete, among them those of the jobs of the page, and the beginnings of others.
fn suggestions<'a>(orgs: impl Iterator<Item = &'a str>, shown: &[ShownJob]) -> Vec<String> {
    let jobs = shown.iter().map(|shown| &shown.job);
    let of_jobs: BTreeSet<_> = jobs.flat_map(of_job).collect();
    let states = OneShotState::ALL.iter().map(|state| state.as_str()).chain(["dormant"]);
    let states = states.map(|state| format!("state:{state}"));
    let outcomes = FireOutcome::ALL.iter().map(|outcome| format!("outcome:{outcome}"));
    let flags = [
        "overdue",
        "parked",
        "parked:hold",
        "parked:unreachable",
        "parked:none",
        "expired",
        "expired:false",
        "no-error",
        "status:none",
    ];
    let flags = flags.map(str::to_owned).into_iter();
    let open = [
        "agent:",
        "job:",
        "error:",
        "error-group:",
        "status:",
        "fires-from:",
        "fires-before:",
        "next-from:",
        "next-before:",
    ];
    let open = open.map(str::to_owned);
    states
        .chain(flags)
        .chain(outcomes)
        .chain(orgs.map(|org| format!("org:{org}")))
        .chain(open)
        .chain(of_jobs)
        .collect()
}

/// Returns the filters that a job suggests: its agent, its ID, and its error.
fn of_job(job: &Job) -> impl Iterator<Item = String> {
    let error = job.last_error.as_deref().map(|error| {
        let begin: String = error.chars().take_while(|c| !c.is_control()).take(ERROR).collect();
        ("error", begin)
    });
    let named = [("agent", job.instance_id.clone()), ("job", job.job_id.clone())];
    let filled = named.into_iter().chain(error).filter(|(_, value)| !value.trim().is_empty());
    filled.map(|(name, value)| format!("{name}:{value}"))
}

/// Returns the command that lists the same jobs.
pub(super) fn listing(filter: &JobFilter) -> CommandLine {
    let flag = |name: &str| match name {
        "org_id" => "--org".to_owned(),
        "instance_id" => "--instance".to_owned(),
        "job_id" => "--job".to_owned(),
        other => format!("--{}", other.replace('_', "-")),
    };
    let list = CommandLine::new("jobs list");
    filter.pairs().iter().fold(list, |list, (name, value)| match (*name, value.as_str()) {
        ("overdue" | "no_error" | "parked", "true") => list.flag(&flag(name)),
        ("parked", value) => list.flag(&format!("--parked={value}")),
        (name, value) => list.option(&flag(name), value),
    })
}
