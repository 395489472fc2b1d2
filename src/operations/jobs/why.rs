//! The reason for which a job does not fire at present.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::shell::CommandLine;
use nas_cron_base::terminal::{printable, shortened, span};
use nas_cron_protocol::admin_api::{DormantReason, Job, Why, WhyCode};
use nas_cron_protocol::{DeadReason, OneShotState, ParkReason};

use crate::domain::PortalDenial;
use crate::domain::circumstances::{Circumstances, Outage};
use crate::domain::hold::{Hold, HoldScope};
use crate::operations::phrase::Phrase;

/// Maximum length of an agent's error in a reason, in characters.
const ERROR: usize = 120;

/// The reason for which a job does not fire, or the time at which it fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The reason as a word.
    pub code: WhyCode,
    /// Description for people.
    pub text: Phrase,
    /// The next step of an operator; `None` if there is none.
    pub fix: Option<String>,
}

impl Reason {
    /// Returns the reason with its times relative to `now`.
    pub(super) fn in_words(&self, now: DateTime<Utc>) -> Why {
        Why { code: self.code, text: self.text.in_words(now), fix: self.fix.clone() }
    }
}

fn because(code: WhyCode, text: impl Into<Phrase>) -> Reason {
    Reason { code, text: text.into(), fix: None }
}

fn fixable(code: WhyCode, text: impl Into<Phrase>, fix: impl Into<String>) -> Reason {
    Reason { code, text: text.into(), fix: Some(fix.into()) }
}

/// Returns the command `nas-cron jobs VERB` for the job.
fn on_job(verb: &str, job: &Job) -> CommandLine {
    super::command(verb, &job.instance_id, &job.job_id)
}

/// Returns why the job does not fire, or when it fires, and the command that changes that.
pub(super) fn why(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> Reason {
    match job.state {
        OneShotState::Delivered => not_armed_again(job, around, now),
        OneShotState::Dead => dead(job),
        OneShotState::Stuck => fixable(
            WhyCode::Stuck,
            "stuck: the agent armed the same key again after each of its fires",
            format!("repair the agent, then `{}`", on_job("redrive", job)),
        ),
        OneShotState::Firing => because(WhyCode::Firing, "an attempt is in flight"),
        OneShotState::Leased | OneShotState::Armed | OneShotState::Waiting => {
            stopped(job, around, now).unwrap_or_else(|| scheduled(job, around, now))
        }
    }
}

/// A delivered job: its agent has not armed the next fire, in time or not.
fn not_armed_again(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> Reason {
    let expected = |words: &str| job.expected_at.into_iter().fold(Phrase::from(words), Phrase::at);
    match job.dormant_reason {
        None if job.expected_at.is_some() => {
            let tense = if job.expected_at <= Some(now) { "was" } else { "is" };
            let words = format!(
                "its fire was delivered; its agent has not armed the next one, which {tense} expected "
            );
            because(WhyCode::Delivered, expected(&words))
        }
        None => because(WhyCode::Delivered, "its fire was delivered; the agent has not armed the next one"),
        Some(DormantReason::Silent) => fixable(
            WhyCode::Dormant,
            expected(
                "dormant: its fire was delivered, but its agent has not armed the next one, which was expected ",
            ),
            format!(
                "repair the agent, then `{}` fires it once more; `{}` if it has finished",
                on_job("nudge", job),
                on_job("dismiss", job)
            ),
        ),
        Some(DormantReason::GatewayStopped) => {
            let words = "dormant: its agent's gateway was stopped on purpose and dropped the fire; the next one was expected ";
            let then = "; the agent arms its jobs again when the gateway starts";
            because(WhyCode::Dormant, expected(words).words(then))
        }
        Some(DormantReason::Withheld) => {
            let cause = stopped(job, around, now)
                .unwrap_or_else(|| because(WhyCode::Dormant, "its agent was stopped until just now"));
            let text = expected("dormant, the next fire was expected ").words(": ").followed_by(cause.text);
            Reason { code: WhyCode::Dormant, text, fix: cause.fix }
        }
    }
}

/// Returns why a job without a current one-shot does not fire.
pub(super) fn why_without(cancelled_at: Option<DateTime<Utc>>) -> Reason {
    match cancelled_at {
        Some(at) => because(WhyCode::Cancelled, Phrase::from("it was cancelled ").at(at)),
        None => {
            because(WhyCode::Unknown, "it ended, or was cancelled, longer ago than the history retention")
        }
    }
}

/// The condition that stops the instance's fires, or those of this job. The one that a person must end comes first.
fn stopped(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> Option<Reason> {
    if let Some(hold) = around.holds.first() {
        return Some(on_hold(hold));
    }
    if around.disabled {
        let enable = CommandLine::new("agents enable").of([job.instance_id.as_str()]);
        let fix = format!("`{enable}` ends that");
        return Some(fixable(WhyCode::AgentDisabled, "its agent is disabled", fix));
    }
    let denied = |text: &str| Some(because(WhyCode::DeniedByPortal, text));
    match around.denied_by_portal {
        Some(PortalDenial::Unknown) => return denied("the portal does not know its agent any more"),
        Some(PortalDenial::Disabled) => return denied("the portal has disabled its agent"),
        None => {}
    }
    around.outage.as_ref().map(|outage| unreachable(job, outage, now))
}

fn unreachable(job: &Job, outage: &Outage, now: DateTime<Utc>) -> Reason {
    let unreachable = Phrase::from("its callback has been unreachable ").since(outage.since);
    let text = if outage.probe_job_id == job.job_id {
        unreachable.words("; this job is the probe, and is tried again ").due(outage.probe_at, now)
    } else {
        let name = printable(&outage.probe_job_id);
        let probe = unreachable.words(&format!("; job {name}, the probe, is tried again "));
        probe.due(outage.probe_at, now).words(", and this one follows")
    };
    because(WhyCode::Unreachable, text)
}

fn on_hold(hold: &Hold) -> Reason {
    let id = &hold.scope_id;
    let job_id = hold.job_id.as_deref().unwrap_or_default();
    let release = CommandLine::new("release");
    let (scope, release) = match hold.scope {
        HoldScope::All => ("the service".to_owned(), release.flag("--all")),
        HoldScope::Org => (format!("org {id}"), release.option("--org", id)),
        HoldScope::Instance => (format!("agent {id}"), release.option("--instance", id)),
        HoldScope::Job => ("the job".to_owned(), release.option("--instance", id).option("--job", job_id)),
    };
    let reason = hold.reason.as_deref().map(|reason| format!(" ({})", shortened(&printable(reason), 80)));
    let text = Phrase::from(format!("{scope} has been on hold ")).since(hold.created_at);
    fixable(
        WhyCode::OnHold,
        reason.into_iter().fold(text, Phrase::followed_by),
        format!("`{release}` ends that"),
    )
}

/// The time of its next attempt, and the reason for that time.
fn scheduled(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> Reason {
    if job.parked == Some(ParkReason::Hold) || job.parked == Some(ParkReason::Unreachable) {
        let text = "the reason for which it was parked is over; it is due within seconds";
        return because(WhyCode::Releasing, text);
    }
    let Some(at) = job.next_attempt_at else { return because(WhyCode::Idle, "nothing is scheduled") };
    if let Some(until) = around.busy_until.filter(|until| *until > now && *until > at) {
        let text = Phrase::from("its agent asked to wait (Retry-After) and is called again ").at(until);
        return because(WhyCode::AgentBusy, text);
    }
    let when = if at > now { Phrase::from("fires ").at(at) } else { Phrase::from("is due") };
    if job.state == OneShotState::Waiting && job.attempts > 0 {
        let ended = Phrase::from(format!("attempt {} ended with: ", job.attempts));
        let text = ended.followed_by(last_error(job)).words("; the next one ").followed_by(when);
        return because(WhyCode::Retrying, text);
    }
    if let Some(backend) = job.awaits {
        return because(WhyCode::AwaitsBackend, when.words(&format!(", woken by {backend}")));
    }
    if at <= now {
        let fix = "`nas-cron doctor` shows if replicas are running";
        return fixable(WhyCode::Overdue, Phrase::from("has been due ").since(at), fix);
    }
    let guard = TimeDelta::from_std(around.skew_guard).unwrap_or_default();
    if guard > TimeDelta::zero() && job.attempts == 0 {
        let later = format!(", {} after its instant, because its agent's clock is slow", span(guard));
        return because(WhyCode::SkewGuard, when.words(&later));
    }
    because(WhyCode::Scheduled, when)
}

fn dead(job: &Job) -> Reason {
    let (code, cause) = match (job.dead_reason, job.attempts) {
        (Some(DeadReason::Expired), 0) => {
            (WhyCode::Expired, Phrase::from("its not_after passed before its first attempt"))
        }
        (Some(DeadReason::Expired), attempts) => {
            let words = format!("no attempt may start after its not_after; attempt {attempts} ended with: ");
            (WhyCode::Expired, Phrase::from(words).followed_by(last_error(job)))
        }
        _ => (WhyCode::BudgetSpent, last_error(job)),
    };
    let fix = format!("`{}` fires it again", on_job("redrive", job));
    fixable(code, Phrase::from("dead letter: ").followed_by(cause), fix)
}

fn last_error(job: &Job) -> Phrase {
    let error = job.last_error.as_deref().map(|error| shortened(&printable(error), ERROR));
    error.map_or_else(|| Phrase::from("no response"), Phrase::of_agent)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nas_cron_protocol::BackendName;

    use super::super::fixtures::{dead, dormant, job, now};
    use super::*;
    use crate::domain::circumstances::Outage;

    fn minutes(ago: i64) -> DateTime<Utc> {
        now() - TimeDelta::minutes(ago)
    }

    fn hold(scope: HoldScope, scope_id: &str) -> Hold {
        Hold { scope, scope_id: scope_id.to_owned(), job_id: None, reason: None, created_at: minutes(5) }
    }

    #[test]
    fn every_reason_is_one_line() {
        let none = Circumstances::default;
        let outage = |probe: &str| Circumstances {
            outage: Some(Outage {
                since: minutes(10),
                probe_job_id: probe.to_owned(),
                probe_at: Some(minutes(-1)),
            }),
            ..none()
        };
        let stuck = Job { state: OneShotState::Stuck, ..dead() };
        let expired = Job { dead_reason: Some(DeadReason::Expired), ..dead() };
        let never_tried = Job { attempts: 0, last_error: None, ..expired.clone() };
        let retries = Job { state: OneShotState::Waiting, next_attempt_at: Some(minutes(-1)), ..dead() };
        let firing = Job { state: OneShotState::Firing, ..job() };
        let delivered = Job { state: OneShotState::Delivered, next_attempt_at: None, ..job() };
        let awaits = Job { awaits: Some(BackendName::Nats), ..job() };
        let overdue = Job { next_attempt_at: Some(minutes(2)), ..job() };
        let withheld = Job { dormant_reason: Some(DormantReason::Withheld), ..dormant() };
        let parked = Job { parked: Some(ParkReason::Hold), ..overdue.clone() };
        let holds = vec![
            Hold { reason: Some("network\u{1b} maintenance".to_owned()), ..hold(HoldScope::All, "") },
            hold(HoldScope::Instance, "agent-1"),
        ];
        let of_job = Hold { job_id: Some("3f".to_owned()), ..hold(HoldScope::Job, "agent-1") };
        let lines = [
            why(&job(), &none(), now()),
            why(&overdue, &none(), now()),
            why(&awaits, &none(), now()),
            why(&firing, &none(), now()),
            why(&delivered, &none(), now()),
            why(&retries, &none(), now()),
            why(&dead(), &none(), now()),
            why(&expired, &none(), now()),
            why(&never_tried, &none(), now()),
            why(&stuck, &none(), now()),
            why(&job(), &Circumstances { holds, disabled: true, ..none() }, now()),
            why(&job(), &Circumstances { holds: vec![hold(HoldScope::Org, "acme")], ..outage("x") }, now()),
            why(&job(), &Circumstances { holds: vec![of_job], ..none() }, now()),
            why(&job(), &Circumstances { disabled: true, ..outage("x") }, now()),
            why(&job(), &Circumstances { denied_by_portal: Some(PortalDenial::Unknown), ..none() }, now()),
            why(&job(), &Circumstances { denied_by_portal: Some(PortalDenial::Disabled), ..none() }, now()),
            why(&job(), &outage("other"), now()),
            why(&retries, &outage("b"), now()),
            why(&parked, &none(), now()),
            why(&overdue, &Circumstances { busy_until: Some(minutes(-1)), ..none() }, now()),
            why(&job(), &Circumstances { skew_guard: Duration::from_secs(2), ..none() }, now()),
            why(&dormant(), &none(), now()),
            why(&Job { dormant_since: None, dormant_reason: None, ..dormant() }, &none(), now()),
            why(&Job { dormant_reason: Some(DormantReason::GatewayStopped), ..dormant() }, &none(), now()),
            why(&withheld, &Circumstances { disabled: true, ..none() }, now()),
            why(&withheld, &none(), now()),
        ];
        let lines: Vec<_> =
            lines.iter().map(|why| format!("{}: {}", why.code, why.in_words(now()))).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        scheduled: fires in 3 min
        overdue: has been due for 2 min; `nas-cron doctor` shows if replicas are running
        awaits_backend: fires in 3 min, woken by nats
        firing: an attempt is in flight
        delivered: its fire was delivered; the agent has not armed the next one
        retrying: attempt 81 ended with: the agent answered 503: <html> [2J; the next one fires in 1 min
        budget_spent: dead letter: the agent answered 503: <html> [2J; `nas-cron jobs redrive agent-1 b` fires it again
        expired: dead letter: no attempt may start after its not_after; attempt 81 ended with: the agent answered 503: <html> [2J; `nas-cron jobs redrive agent-1 b` fires it again
        expired: dead letter: its not_after passed before its first attempt; `nas-cron jobs redrive agent-1 b` fires it again
        stuck: stuck: the agent armed the same key again after each of its fires; repair the agent, then `nas-cron jobs redrive agent-1 b`
        on_hold: the service has been on hold for 5 min (network  maintenance); `nas-cron release --all` ends that
        on_hold: org acme has been on hold for 5 min; `nas-cron release --org acme` ends that
        on_hold: the job has been on hold for 5 min; `nas-cron release --instance agent-1 --job 3f` ends that
        agent_disabled: its agent is disabled; `nas-cron agents enable agent-1` ends that
        denied_by_portal: the portal does not know its agent any more
        denied_by_portal: the portal has disabled its agent
        unreachable: its callback has been unreachable for 10 min; job other, the probe, is tried again in 1 min, and this one follows
        unreachable: its callback has been unreachable for 10 min; this job is the probe, and is tried again in 1 min
        releasing: the reason for which it was parked is over; it is due within seconds
        agent_busy: its agent asked to wait (Retry-After) and is called again in 1 min
        skew_guard: fires in 3 min, 2 s after its instant, because its agent's clock is slow
        dormant: dormant: its fire was delivered, but its agent has not armed the next one, which was expected 6 h ago; repair the agent, then `nas-cron jobs nudge agent-1 3f2a9c01d4e5` fires it once more; `nas-cron jobs dismiss agent-1 3f2a9c01d4e5` if it has finished
        delivered: its fire was delivered; its agent has not armed the next one, which was expected 6 h ago
        dormant: dormant: its agent's gateway was stopped on purpose and dropped the fire; the next one was expected 6 h ago; the agent arms its jobs again when the gateway starts
        dormant: dormant, the next fire was expected 6 h ago: its agent is disabled; `nas-cron agents enable agent-1` ends that
        dormant: dormant, the next fire was expected 6 h ago: its agent was stopped until just now
        ");
    }
}
