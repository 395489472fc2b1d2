//! Rows that several pages show.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::span;
use nas_cron_protocol::admin_api::{KeyStep, Replica};

use crate::domain::clock_sample::TOLERATED_OFFSET;
use crate::http::ops::frame::Tone;
use crate::http::ops::view::{Html, id, text, when, with_code};

/// A replica in a table.
pub(super) struct ReplicaRow {
    pub(super) number: i32,
    pub(super) host: Html,
    pub(super) version: Html,
    pub(super) badges: Vec<(Tone, String)>,
    pub(super) offset: Html,
    pub(super) seen: Html,
    pub(super) started: Html,
}

/// Returns the rows of replicas.
pub(super) fn replicas(replicas: &[Replica], now: DateTime<Utc>) -> Vec<ReplicaRow> {
    replicas.iter().map(|replica| row(replica, now)).collect()
}

fn row(replica: &Replica, now: DateTime<Utc>) -> ReplicaRow {
    let offset = replica.clock_offset_ms.and_then(TimeDelta::try_milliseconds);
    let (tone, word) = if replica.running { (Tone::Calm, "running") } else { (Tone::Alarm, "silent") };
    let running = (tone, word.to_owned());
    let clock = offset.filter(|offset| offset.abs() > TOLERATED_OFFSET);
    let clock = clock.map(|_| (Tone::Warning, "wrong clock".to_owned()));
    ReplicaRow {
        number: replica.replica_id,
        host: id(&replica.host_name),
        version: text(&replica.version),
        badges: [Some(running), clock].into_iter().flatten().collect(),
        offset: offset.map_or_else(Html::dash, |offset| text(&signed(offset))),
        seen: when(replica.seen_at, now),
        started: when(replica.started_at, now),
    }
}

/// Formats the database's clock minus another one.
fn signed(offset: TimeDelta) -> String {
    let sign = if offset < TimeDelta::zero() { '−' } else { '+' };
    format!("{sign}{}", span(offset))
}

/// A step of the rotation of signing keys.
pub(super) struct StepRow {
    pub(super) at: Html,
    pub(super) step: Html,
    pub(super) reason: Html,
}

/// Returns the row of a step.
pub(super) fn step_row(step: &KeyStep, now: DateTime<Utc>) -> StepRow {
    StepRow {
        at: step.at.map_or_else(|| text("now"), |at| when(at, now)),
        step: with_code(&step.step),
        reason: text(&step.reason),
    }
}

/// Returns the tone of a signing key's state.
pub(super) fn key_tone(state: &str) -> Tone {
    match state {
        "active" => Tone::Good,
        "next" => Tone::Busy,
        _ => Tone::Calm,
    }
}
