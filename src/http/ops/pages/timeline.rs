//! The story of a job as a timeline: what comes next, its one-shots, its attempts, and changes by operators.
//!
//! The service keeps a job's current one-shot, its attempts, and the latest cancel. Of one-shots that others superseded before
//! their first attempt, the current one has the instant of the latest, and their number since the latest attempt.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::span;
use nas_cron_protocol::admin_api::{Attempt, Job};
use nas_cron_protocol::{FireOutcome, OneShotState, ScheduleId};

use super::job_view::{armed_for, fired_at};
use crate::audit::{AuditLine, AuditOutcome};
use crate::http::ops::frame::Tone;
use crate::http::ops::view::{Html, agents_words, id, text, when};
use crate::operations::jobs::JobStory;

/// Time between an operator's cancel and the mark that it leaves.
const CANCEL: TimeDelta = TimeDelta::seconds(5);

/// An entry of the timeline.
pub(super) struct Entry {
    at: DateTime<Utc>,
    pub(super) when: Html,
    pub(super) tone: Tone,
    pub(super) title: Html,
    /// Further facts.
    pub(super) facts: Vec<Html>,
}

/// Returns the entries, the latest first.
pub(super) fn entries(story: &JobStory, now: DateTime<Utc>) -> Vec<Entry> {
    let job = story.details.job.as_ref().map(|shown| &shown.job);
    let mut entries: Vec<_> = job.into_iter().flat_map(|job| coming(job, now)).collect();
    entries.extend(arms(story, job, now));
    entries.extend(attempts(&story.details.attempts, now));
    entries.extend(story.changes.iter().map(|line| changed(line, now)));
    entries.extend(cancelled(story, now));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    entries
}

/// Returns attempts as entries.
pub(super) fn attempts(attempts: &[Attempt], now: DateTime<Utc>) -> impl Iterator<Item = Entry> {
    attempts.iter().map(move |attempt| attempted(attempt, now))
}

fn entry(at: DateTime<Utc>, now: DateTime<Utc>, tone: Tone, title: Html) -> Entry {
    Entry { at, when: when(at, now), tone, title, facts: Vec::new() }
}

/// The next attempt, or the fire that the job's history lets expect.
fn coming(job: &Job, now: DateTime<Utc>) -> Vec<Entry> {
    let next = job.next_attempt_at.map(|at| {
        let title = if job.attempts > 0 { "Next attempt" } else { "Fires" };
        entry(at, now, Tone::Busy, text(title))
    });
    let expected = job.expected_at.filter(|_| job.next_attempt_at.is_none()).map(|at| {
        let tone = if job.dormant_since.is_some() { Tone::Alarm } else { Tone::Warning };
        entry(at, now, tone, text("Expected fire, which the agent has not armed"))
    });
    let dormant = job.dormant_since.map(|at| entry(at, now, Tone::Alarm, text("Became dormant")));
    next.into_iter().chain(expected).chain(dormant).collect()
}

/// A one-shot that was armed.
struct Arm {
    armed_at: DateTime<Utc>,
    fire_at: DateTime<Utc>,
    /// Time at which an operator has fired it before its instant.
    fired_at: Option<DateTime<Utc>>,
    /// True if its attempts have ended it.
    ended: bool,
    /// The instant of the one-shot that it superseded before an attempt, and the number of those since the latest attempt.
    superseded: Option<(DateTime<Utc>, i32)>,
}

/// The provisions: that of the current one-shot, that of the cancelled one, and those of attempts.
fn arms(story: &JobStory, job: Option<&Job>, now: DateTime<Utc>) -> Vec<Entry> {
    let details = &story.details;
    let mut arms: HashMap<ScheduleId, Arm> = HashMap::new();
    for attempt in &details.attempts {
        let Some(armed_at) = attempt.armed_at else { continue };
        let ended =
            matches!(attempt.outcome, FireOutcome::Delivered | FireOutcome::Gone | FireOutcome::Dropped);
        // The time of an operator's fire replaces the instant.
        let fired_at = is_fired(&story.changes, attempt.schedule_id).then_some(attempt.fire_at);
        let arm = Arm { armed_at, fire_at: attempt.fire_at, fired_at, ended: false, superseded: None };
        arms.entry(attempt.schedule_id).or_insert(arm).ended |= ended;
    }
    if let Some(job) = job {
        let arm = Arm {
            armed_at: job.created_at,
            fire_at: armed_for(job),
            fired_at: fired_at(job),
            ended: matches!(job.state, OneShotState::Delivered | OneShotState::Dead | OneShotState::Stuck),
            superseded: job.superseded_fire_at.map(|at| (at, job.superseded_untried.unwrap_or(1))),
        };
        arms.insert(job.schedule_id, arm);
    }
    let mut arms: Vec<_> = arms.into_values().collect();
    // One that was cancelled before its first attempt.
    let cancelled = details.latest_cancel.and_then(|cancel| Some((cancel.armed_at?, cancel.fire_at?)));
    if let Some((armed_at, fire_at)) = cancelled.filter(|(at, _)| arms.iter().all(|arm| arm.armed_at != *at))
    {
        arms.push(Arm { armed_at, fire_at, fired_at: None, ended: true, superseded: None });
    }
    arms.sort_unstable_by_key(|arm| arm.armed_at);
    let mut before: Option<(DateTime<Utc>, bool)> = None;
    let mut entries = Vec::with_capacity(arms.len());
    for arm in arms {
        let (title, fact) = match arm.fired_at {
            // Its instant is not kept.
            Some(fired_at) if fired_at == arm.fire_at => (text("Armed by its agent"), Some(fired_at)),
            fired_at => (Html::joined([text("Armed by its agent for "), when(arm.fire_at, now)]), fired_at),
        };
        let mut armed = entry(arm.armed_at, now, Tone::Calm, title);
        let fired = |at| Html::joined([text("fired before its instant by an operator "), when(at, now)]);
        armed.facts.extend(fact.map(fired));
        armed.facts.extend(superseded(&arm, before, now));
        before = Some((arm.fire_at, arm.ended));
        entries.push(armed);
    }
    entries
}

/// True if an operator has fired a one-shot before its instant.
fn is_fired(changes: &[AuditLine], schedule_id: ScheduleId) -> bool {
    let id = schedule_id.to_string();
    let mut fires =
        changes.iter().filter(|line| line.action == "fire_job" && line.outcome == AuditOutcome::Done);
    fires.any(|line| line.subject.get("schedule_id") == Some(&id))
}

/// Describes the one-shot that another one superseded. `before` is the one before it of which the history knows: its instant,
/// and whether it has ended.
fn superseded(arm: &Arm, before: Option<(DateTime<Utc>, bool)>, now: DateTime<Utc>) -> Option<Html> {
    let supersedes = |at| [text("supersedes the one-shot for "), when(at, now)];
    match (arm.superseded, before) {
        (Some((at, 1)), _) => {
            Some(Html::joined(supersedes(at).into_iter().chain([text(", which had not been attempted")])))
        }
        (Some((at, untried)), _) => {
            let rest = format!(", the last of {untried} in a row that had not been attempted");
            Some(Html::joined(supersedes(at).into_iter().chain([text(&rest)])))
        }
        (None, Some((at, false))) => Some(Html::joined(supersedes(at))),
        (None, _) => None,
    }
}

fn attempted(attempt: &Attempt, now: DateTime<Utc>) -> Entry {
    let tone = match attempt.outcome {
        FireOutcome::Delivered | FireOutcome::Gone => Tone::Good,
        FireOutcome::Dropped | FireOutcome::Duplicate => Tone::Warning,
        FireOutcome::Failed | FireOutcome::Lost => Tone::Alarm,
    };
    let status = attempt.http_status.map(|status| format!(", status {status}")).unwrap_or_default();
    let title = format!("Attempt {}: {}{status}", attempt.attempt, attempt.outcome);
    let mut attempted = entry(attempt.started_at, now, tone, text(&title));
    let (late, took) = (attempt.started_at - attempt.fire_at, attempt.ended_at - attempt.started_at);
    attempted.facts.push(text(&format!("started {} after its instant, took {}", span(late), span(took))));
    attempted.facts.extend(attempt.error.as_deref().map(agents_words));
    if let Some(answer) = attempt.answer.as_deref() {
        attempted.facts.push(Html::joined([text("answered "), agents_words(answer)]));
    }
    if let Some(seconds) = attempt.retry_after_s {
        let asked = span(TimeDelta::seconds(seconds.into()));
        attempted.facts.push(text(&format!("the agent asked to wait {asked} (Retry-After)")));
    }
    attempted
}

fn changed(line: &AuditLine, now: DateTime<Utc>) -> Entry {
    let tone = match line.outcome {
        AuditOutcome::Done => Tone::Busy,
        AuditOutcome::Unknown => Tone::Calm,
        AuditOutcome::Refused | AuditOutcome::Failed => Tone::Warning,
    };
    let title = format!("{} by {}: {}", line.action, line.actor, line.outcome);
    let mut changed = entry(line.at, now, tone, text(&title));
    changed.facts.extend(line.detail.as_deref().map(text));
    changed
}

/// The latest cancel that removed a one-shot of the job, and who cancelled.
fn cancelled(story: &JobStory, now: DateTime<Utc>) -> Option<Entry> {
    let cancel = story.details.latest_cancel?;
    let by = story.changes.iter().find(|line| {
        line.action == "cancel_job"
            && line.outcome == AuditOutcome::Done
            && (cancel.at - line.at).abs() < CANCEL
    });
    let title = match by {
        Some(line) => Html::joined([text("Cancelled by "), id(&line.actor)]),
        None => text("Cancelled by its agent"),
    };
    let mut cancelled = entry(cancel.at, now, Tone::Warning, title);
    let of = |at| Html::joined([text("the one-shot for "), when(at, now)]);
    cancelled.facts.extend(cancel.fire_at.map(of));
    Some(cancelled)
}
