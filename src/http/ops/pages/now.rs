//! The front page: what fires, what does not, and the problems with their fixes.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::{
    AttentionCounts, Count, OutboxBacklog, Overview, Problem, PublishedKey, Severity,
};

use super::parts::{ReplicaRow, StepRow, key_tone, replicas, step_row};
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{CommandLine, Html, due_link, id, plots, shown, text, when, with_commands};

#[derive(Template)]
#[template(path = "now.html")]
struct NowPage {
    frame: Frame,
    here: String,
    at: Html,
    /// The org that the operator is limited to.
    org: Option<String>,
    problems: Vec<ProblemItem>,
    tiles: Vec<Tile>,
    /// Only for an operator who sees the whole service.
    service: Option<Service>,
    command: Html,
}

struct ProblemItem {
    tone: Tone,
    word: &'static str,
    check: String,
    /// Lines of the finding.
    found: Vec<Html>,
    fix: Html,
    /// Path and label of the page that has its subjects.
    page: Option<(&'static str, &'static str)>,
}

/// A number, with the list that it counts.
struct Tile {
    label: &'static str,
    number: String,
    path: &'static str,
    /// True if it is not 0.
    some: bool,
}

struct Service {
    per_minute: i64,
    plots: Vec<Html>,
    replicas: Vec<ReplicaRow>,
    backend: String,
    since: Html,
    /// The outbox of each backend that has one.
    outbox: Vec<String>,
    keys: Vec<Key>,
    /// The next steps of the keys' rotation.
    steps: Vec<StepRow>,
}

/// A published signing key.
struct Key {
    kid: Html,
    badge: (Tone, String),
}

/// Shows the page.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    session.params(&[])?;
    let overview = ops.overview(&session).await?;
    let now = session.now;
    let page = NowPage {
        frame: session.frame("Now").of(Section::Now),
        here: session.here(),
        at: when(overview.at, now),
        org: overview.org_id.clone(),
        problems: overview.problems.iter().map(item).collect(),
        tiles: tiles(&overview.counts),
        service: service(&overview, now),
        command: shown(&CommandLine::new("status")),
    };
    Ok(rendered(&page))
}

fn item(problem: &Problem) -> ProblemItem {
    let (tone, word) = match problem.status {
        Severity::Warning => (Tone::Warning, "warning"),
        Severity::Wrong => (Tone::Alarm, "wrong"),
    };
    ProblemItem {
        tone,
        word,
        check: problem.check.clone(),
        found: problem.found.lines().map(text).collect(),
        fix: with_commands(&problem.fix),
        page: page_of(&problem.check),
    }
}

/// Returns the page that lists the subjects of a check.
fn page_of(check: &str) -> Option<(&'static str, &'static str)> {
    Some(match check {
        "overdue" => (OVERDUE, "Overdue one-shots"),
        "dead letters" => (ENDED, "Dead letters and stuck one-shots"),
        "dormant jobs" => (DORMANT, "Dormant jobs"),
        "unreachable agents" => (UNREACHABLE, "Unreachable agents"),
        "holds" => (HOLDS, "Holds"),
        "webhooks" => ("/ops/events", "Webhooks"),
        "signing key" => ("/ops/backends#keys", "Signing keys"),
        "wake-ups" | "move" => ("/ops/backends", "Backends"),
        "homes" | "logins" => (AGENTS, "Agents"),
        _ => return None,
    })
}

const OVERDUE: &str = "/ops/jobs?overdue=true";
const ENDED: &str = "/ops/dead-letters";
const DORMANT: &str = "/ops/jobs?state=dormant";
const FAILED: &str = "/ops/jobs?outcome=failed";
const WAITING: &str = "/ops/jobs?parked=unreachable";
const HELD: &str = "/ops/jobs?parked=hold";
const HOLDS: &str = "/ops/holds";
const AGENTS: &str = "/ops/agents";
const UNREACHABLE: &str = "/ops/agents?unreachable=true";

fn tiles(counts: &AttentionCounts) -> Vec<Tile> {
    let AttentionCounts { overdue, dead, stuck, dormant, held, waiting_for_agent, unreachable, holds } =
        counts;
    let tile = |label, count: &Count, path| {
        let more = if count.more { "+" } else { "" };
        Tile { label, number: format!("{}{more}", plots::number(count.count)), path, some: count.count > 0 }
    };
    vec![
        tile("overdue", overdue, OVERDUE),
        tile("dead letters", dead, "/ops/jobs?state=dead"),
        tile("stuck", stuck, "/ops/jobs?state=stuck"),
        tile("dormant jobs", dormant, DORMANT),
        tile("unreachable agents", unreachable, UNREACHABLE),
        tile("waiting for agents", waiting_for_agent, WAITING),
        tile("holds", holds, HOLDS),
        tile("held one-shots", held, HELD),
    ]
}

fn key(of: &PublishedKey) -> Key {
    Key { kid: id(&of.kid), badge: (key_tone(&of.state), of.state.clone()) }
}

/// Describes the wake-ups that an external backend has not taken yet.
fn outbox(of: &OutboxBacklog) -> String {
    format!("{}: {} in the outbox, {} late.", of.backend, of.pending.of("wake-up"), of.late)
}

fn service(overview: &Overview, now: DateTime<Utc>) -> Option<Service> {
    let service = overview.service.as_ref()?;
    let (hour, day) = (&service.fires.hour, &service.fires.day);
    Some(Service {
        per_minute: service.fires.per_minute,
        plots: vec![
            plots::fires("fires-hour", "Fires per minute, last hour", "minute", hour, FAILED),
            plots::lateness("late-hour", "Lateness by minute, last hour", hour),
            plots::fires("fires-day", "Fires per 15 minutes, last day", "quarter of an hour", day, FAILED),
            plots::lateness("late-day", "Lateness by 15 minutes, last day", day),
            plots::load("due-hour", "Due per minute, next hour", &service.load, due_link),
        ],
        replicas: replicas(&service.replicas, now),
        backend: service.backends.active.to_string(),
        since: when(service.backends.switched_at, now),
        outbox: service.backends.outbox.iter().map(outbox).collect(),
        keys: service.keys.published.iter().map(key).collect(),
        steps: service.keys.upcoming.iter().map(|step| step_row(step, now)).collect(),
    })
}
