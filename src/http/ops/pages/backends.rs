//! The scheduler backends, the signing keys and the replicas.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::{BackendOverview, OutboxBacklog, Problem, ServiceOverview};

use super::parts::{ReplicaRow, StepRow, key_tone, replicas, step_row};
use crate::domain::KeyState;
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::actions::Action;
use crate::http::ops::actions::keys::{ACTIVE, NOW};
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{
    CommandLine, Html, agents_words, id, phrase, plots, shown, text, when, when_any, with_commands,
    with_query,
};
use crate::operations::keys::{Key, KeyList, Rotation, next_step};
use crate::operations::overview::UNFINISHED_SWITCH;

/// Warning before the rotation that does not wait for the caches of agents.
const LEAKED: &str = "For a leaked key only. Agents may reject fires for up to 10 minutes, which are then retried, and may \
                      accept tokens of the old key for up to 15 minutes.";

#[derive(Template)]
#[template(path = "backends.html")]
struct BackendsPage {
    frame: Frame,
    here: String,
    /// Nothing for an operator who is limited to an org.
    shown: Option<Shown>,
}

struct Shown {
    facts: Vec<(String, Html)>,
    outbox: Vec<OutboxRow>,
    /// The remaining work of the latest switch; `None` if there is none.
    unfinished: Option<Html>,
    /// The other backends.
    switches: Vec<SwitchRow>,
    status: Html,
    keys: Vec<KeyRow>,
    steps: Vec<StepRow>,
    by_hand: bool,
    key_actions: Vec<Action>,
    list_keys: Html,
    replicas: Vec<ReplicaRow>,
}

struct OutboxRow {
    backend: String,
    pending: String,
    late: String,
    error: Html,
}

/// A backend that is not active.
struct SwitchRow {
    backend: BackendName,
    /// True if its settings are present here.
    is_configured: bool,
    /// Page of the switch to it; `None` if the operator may not switch.
    page: Option<String>,
    command: Html,
}

struct KeyRow {
    kid: Html,
    alg: String,
    badge: (Tone, String),
    origin: &'static str,
    published: Html,
    activated: Html,
    next: Html,
}

/// Shows the page.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    session.params(&[])?;
    let overview = ops.overview(&session).await?;
    let shown = match &overview.service {
        None => None,
        Some(service) => {
            let keys = ops.keys.get((), session.by_itself, ops.admin.keys.list(false)).await?;
            let unconfigured: Vec<_> = ops.admin.backends.unconfigured().collect();
            Some(shown_service(&session, (service, &overview.problems), &unconfigured, &keys))
        }
    };
    let page = BackendsPage {
        frame: session.frame("Backends and keys").of(Section::Backends),
        here: session.here(),
        shown,
    };
    Ok(rendered(&page))
}

fn shown_service(
    session: &Session,
    (service, problems): (&ServiceOverview, &[Problem]),
    unconfigured: &[BackendName],
    keys: &KeyList,
) -> Shown {
    let (ServiceOverview { backends, .. }, now) = (service, session.now);
    let by_hand = keys.rotation == Rotation::ByHand;
    let others = BackendName::ALL.iter().filter(|name| **name != backends.active);
    Shown {
        facts: facts(backends, now),
        outbox: backends.outbox.iter().map(outbox_row).collect(),
        unfinished: unfinished(problems),
        switches: others.map(|name| switch_row(session, *name, unconfigured)).collect(),
        status: shown(&CommandLine::new("backend status")),
        keys: keys.keys.iter().map(|key| key_row(key, by_hand, now)).collect(),
        steps: keys.upcoming.iter().map(|step| step_row(step, now)).collect(),
        by_hand,
        key_actions: key_actions(session, keys),
        list_keys: shown(&CommandLine::new("keys list")),
        replicas: replicas(&service.replicas, now),
    }
}

/// Describes the remaining work of the latest switch.
fn unfinished(problems: &[Problem]) -> Option<Html> {
    let Problem { found, fix, .. } = problems.iter().find(|problem| problem.check == UNFINISHED_SWITCH)?;
    Some(Html::joined([text(found), text(": "), with_commands(fix)]))
}

fn switch_row(session: &Session, backend: BackendName, unconfigured: &[BackendName]) -> SwitchRow {
    let is_configured = !unconfigured.contains(&backend);
    let may = is_configured && session.may("switch_backend");
    let name = backend.as_str();
    SwitchRow {
        backend,
        is_configured,
        page: may.then(|| with_query("/ops/backends/switch", [("backend", name)])),
        command: shown(&CommandLine::new("backend switch --dry-run").of([name])),
    }
}

/// Returns the forms that fit the states of the keys.
fn key_actions(session: &Session, keys: &KeyList) -> Vec<Action> {
    let offered = |operation, label, line: CommandLine| Action::offered(session, operation, label, &line);
    let by_hand = keys.rotation == Rotation::ByHand;
    let of = |state| keys.keys.iter().find(|key| key.state == state);
    let (next, active) = (of(KeyState::Next), of(KeyState::Active));
    let rotate = |label, line: CommandLine| {
        let action = offered("rotate_keys", label, line)?;
        Some(action.about(ACTIVE, active.map(|key| key.kid.clone()).unwrap_or_default()))
    };
    let mut found = Vec::new();
    if next.is_none() {
        found.push(rotate("Rotate", CommandLine::new("keys rotate")));
    }
    if let Some(next) = next.filter(|_| by_hand) {
        let activate = offered("activate_key", "Activate the next key", of_key("activate", &next.kid));
        found.push(activate.map(|action| action.about("kid", &*next.kid)));
    }
    if let Some(next) = next {
        let withdraw = offered("withdraw_key", "Withdraw the next key", of_key("withdraw", &next.kid));
        found.push(withdraw.map(|action| action.about("kid", &*next.kid)));
    }
    if !by_hand {
        let leaked = rotate("Rotate at once", CommandLine::new("keys rotate --now --yes"));
        found.push(leaked.map(|action| action.about(NOW, "true").warned(LEAKED)));
    }
    found.into_iter().flatten().collect()
}

fn of_key(verb: &str, kid: &str) -> CommandLine {
    CommandLine::new("keys").flag(verb).of([kid])
}

fn facts(backends: &BackendOverview, now: DateTime<Utc>) -> Vec<(String, Html)> {
    let missed = format!(
        "{} in the last hour, {} in the last day",
        plots::number(backends.missed_last_hour),
        plots::number(backends.missed_last_day)
    );
    let facts = [
        ("Active backend", text(backends.active.as_str())),
        ("Since", when(backends.switched_at, now)),
        ("Generation", text(&backends.generation.to_string())),
        ("Missed wake-ups", text(&missed)),
    ];
    let ever = backends.missed.iter().map(|one| {
        let number = text(&format!("{}, the latest ", plots::number(one.missed)));
        (format!("Missed by {} so far", one.backend), Html::joined([number, when(one.latest_at, now)]))
    });
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(ever).collect()
}

fn outbox_row(of: &OutboxBacklog) -> OutboxRow {
    OutboxRow {
        backend: of.backend.to_string(),
        pending: of.pending.to_string(),
        late: of.late.to_string(),
        error: of.last_error.as_deref().map_or_else(Html::dash, agents_words),
    }
}

fn key_row(of: &Key, by_hand: bool, now: DateTime<Utc>) -> KeyRow {
    KeyRow {
        kid: id(&of.kid),
        alg: of.alg.to_string(),
        badge: (key_tone(of.state.as_str()), of.state.to_string()),
        origin: if of.imported { "imported" } else { "generated" },
        published: when(of.published_at, now),
        activated: when_any(of.activated_at, now),
        next: next_step(now, of, by_hand).map_or_else(Html::dash, |step| phrase(&step, now)),
    }
}
