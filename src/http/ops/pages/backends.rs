//! The scheduler backends, the signing keys and the replicas.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::{
    BackendOverview, OutboxBacklog, PublishedKey, ServiceOverview, UpcomingKeyStep,
};

use super::parts::{ReplicaRow, replicas};
use crate::http::error::ErrorPage;
use crate::http::ops::OpsState;
use crate::http::ops::failure::rendered;
use crate::http::ops::frame::{Frame, Section, Tone};
use crate::http::ops::session::Session;
use crate::http::ops::view::{Html, agents_words, command, id, plots, shown, text, when, when_any};

#[derive(Template)]
#[template(path = "backends.html")]
struct BackendsPage {
    frame: Frame,
    here: String,
    /// Nothing for an operator who is limited to an org.
    shown: Option<Shown>,
}

struct Shown {
    facts: Vec<(&'static str, Html)>,
    outbox: Vec<OutboxRow>,
    /// The commands that switch to each other backend.
    switches: Vec<(String, Html)>,
    status: Html,
    keys: Vec<KeyRow>,
    steps: Vec<StepRow>,
    by_hand: bool,
    rotate: Html,
    list_keys: Html,
    replicas: Vec<ReplicaRow>,
}

struct OutboxRow {
    backend: String,
    pending: String,
    late: String,
    error: Html,
}

struct KeyRow {
    kid: Html,
    alg: Html,
    badges: Vec<(Tone, String)>,
    published: Html,
    activated: Html,
}

struct StepRow {
    at: Html,
    step: Html,
    reason: Html,
}

/// Shows the page.
pub(in crate::http::ops) async fn show(
    State(ops): State<OpsState>,
    session: Session,
) -> Result<Response, ErrorPage> {
    session.params(&[])?;
    let overview = ops.admin.overviews.of(session.actor.org_filter()).await?;
    let page = BackendsPage {
        frame: session.frame("Backends and keys").of(Section::Backends),
        here: session.here(),
        shown: overview.service.as_ref().map(|service| shown_service(service, session.now)),
    };
    Ok(rendered(&page))
}

fn shown_service(service: &ServiceOverview, now: DateTime<Utc>) -> Shown {
    let ServiceOverview { backends, keys, .. } = service;
    let others = BackendName::ALL.iter().filter(|name| **name != backends.active);
    let switch = |name: &BackendName| {
        (name.to_string(), shown(&command(["backend", "switch", name.as_str(), "--dry-run"])))
    };
    Shown {
        facts: facts(backends, now),
        outbox: backends.outbox.iter().map(outbox_row).collect(),
        switches: others.map(switch).collect(),
        status: shown(&command(["backend", "status"])),
        keys: keys.published.iter().map(|key| key_row(key, now)).collect(),
        steps: keys.upcoming.iter().map(|step| step_row(step, now)).collect(),
        by_hand: keys.by_hand,
        rotate: shown(&command(["keys", "rotate"])),
        list_keys: shown(&command(["keys", "list"])),
        replicas: replicas(&service.replicas, now),
    }
}

fn facts(backends: &BackendOverview, now: DateTime<Utc>) -> Vec<(&'static str, Html)> {
    let missed = format!(
        "{} in the last hour, {} in the last day",
        plots::number(backends.missed_last_hour),
        plots::number(backends.missed_last_day)
    );
    vec![
        ("Active backend", text(backends.active.as_str())),
        ("Since", when(backends.switched_at, now)),
        ("Generation", text(&backends.generation.to_string())),
        ("Missed wake-ups", text(&missed)),
    ]
}

fn outbox_row(of: &OutboxBacklog) -> OutboxRow {
    OutboxRow {
        backend: of.backend.to_string(),
        pending: of.pending.to_string(),
        late: of.late.to_string(),
        error: of.last_error.as_deref().map_or_else(Html::dash, agents_words),
    }
}

fn key_row(key: &PublishedKey, now: DateTime<Utc>) -> KeyRow {
    let tone = if key.state == "active" { Tone::Busy } else { Tone::Calm };
    KeyRow {
        kid: id(&key.kid),
        alg: text(&key.alg),
        badges: vec![(tone, key.state.clone())],
        published: when(key.published_at, now),
        activated: when_any(key.activated_at, now),
    }
}

fn step_row(step: &UpcomingKeyStep, now: DateTime<Utc>) -> StepRow {
    StepRow {
        at: step.at.map_or_else(|| text("now"), |at| when(at, now)),
        step: text(&step.step),
        reason: text(&step.reason),
    }
}
