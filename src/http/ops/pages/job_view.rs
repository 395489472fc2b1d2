//! The state and the latest outcome of a job, as pages show them.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_protocol::admin_api::Job;
use nas_cron_protocol::{FireOutcome, OneShotState, ParkReason, instant_of};

use crate::http::ops::frame::Tone;
use crate::http::ops::view::{Html, agents_words, text, when};

/// The states of a job, as badges: that of its one-shot, and what stops it.
pub(super) fn badges(job: &Job, now: DateTime<Utc>) -> Vec<(Tone, String)> {
    let tone = match job.state {
        OneShotState::Armed | OneShotState::Delivered => Tone::Calm,
        OneShotState::Leased | OneShotState::Firing => Tone::Busy,
        OneShotState::Waiting => Tone::Warning,
        OneShotState::Stuck | OneShotState::Dead => Tone::Alarm,
    };
    let mut badges = vec![(tone, job.state.to_string())];
    if let Some(parked) = job.parked {
        let word = match parked {
            ParkReason::Hold => "on hold",
            ParkReason::Unreachable => "agent unreachable",
        };
        badges.push((Tone::Warning, word.to_owned()));
    }
    let is_waiting = matches!(job.state, OneShotState::Armed | OneShotState::Waiting);
    if is_waiting && job.parked.is_none() && job.next_attempt_at.is_some_and(|at| at < now) {
        badges.push((Tone::Warning, "overdue".to_owned()));
    }
    if job.dormant_since.is_some() {
        badges.push((Tone::Alarm, "dormant".to_owned()));
    }
    badges
}

/// The instant for which its agent armed the job, also if an operator has fired it earlier.
pub(super) fn armed_for(job: &Job) -> DateTime<Utc> {
    instant_of("fire_at", &job.fire_at).unwrap_or(job.fire_at_instant)
}

/// The time at which an operator has fired the job before its instant.
pub(super) fn fired_at(job: &Job) -> Option<DateTime<Utc>> {
    // Digits that the database does not keep make no difference.
    let is_earlier = armed_for(job) - job.fire_at_instant >= TimeDelta::milliseconds(1);
    is_earlier.then_some(job.fire_at_instant)
}

/// When the job fires next, or fired last.
pub(super) fn next(job: &Job, now: DateTime<Utc>) -> Html {
    match (job.next_attempt_at, job.expected_at) {
        (Some(at), _) => when(at, now),
        (None, Some(expected)) => when(expected, now),
        (None, None) => Html::dash(),
    }
}

/// The result of an attempt: its outcome, the status of the response, and the agent's words.
pub(super) fn result(outcome: Option<FireOutcome>, status: Option<i16>, error: Option<&str>) -> Html {
    let Some(outcome) = outcome else { return Html::dash() };
    let status = status.map(|status| format!(" {status}")).unwrap_or_default();
    let shown = text(&format!("{outcome}{status} "));
    Html::joined(std::iter::once(shown).chain(error.map(agents_words)))
}
