//! The reason for which a job does not fire at present, in one line.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::{printable, relative, shortened, span};
use nas_cron_protocol::{DeadReason, OneShotState, ParkReason};

use crate::domain::circumstances::Circumstances;
use crate::domain::dormancy::DormantReason;
use crate::domain::hold::Hold;
use crate::domain::job::Job;
use crate::domain::{HoldScope, PortalDenial};

/// Returns why the job does not fire, or when it fires, and the command that changes that.
pub(super) fn why(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> String {
    match job.state {
        OneShotState::Delivered => not_armed_again(job, around, now),
        OneShotState::Dead => format!(
            "dead letter: {}; `nas-cron jobs redrive {} {}` fires it again",
            cause_of_death(job),
            job.instance_id,
            job.job_id
        ),
        OneShotState::Stuck => format!(
            "stuck: the agent armed the same key again after each of its fires; repair the agent, then \
             `nas-cron jobs redrive {} {}`",
            job.instance_id, job.job_id
        ),
        OneShotState::Firing => "an attempt is in flight".to_owned(),
        OneShotState::Leased | OneShotState::Armed | OneShotState::Waiting => {
            stopped(job, around, now).unwrap_or_else(|| scheduled(job, around, now))
        }
    }
}

/// A delivered job: its agent has not armed the next fire, in time or not.
fn not_armed_again(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> String {
    let Job { instance_id: agent, job_id, .. } = job;
    let expected = job.expected_at.map(|at| relative(now, at)).unwrap_or_default();
    match job.dormant_reason {
        None if job.expected_at.is_some() => {
            let tense = if job.expected_at <= Some(now) { "was" } else { "is" };
            format!(
                "its fire was delivered; its agent has not armed the next one, which {tense} expected {expected}"
            )
        }
        None => "its fire was delivered; the agent has not armed the next one".to_owned(),
        Some(DormantReason::Silent) => format!(
            "dormant: its fire was delivered, but its agent has not armed the next one, which was expected {expected}; \
             repair the agent, then `nas-cron jobs nudge {agent} {job_id}` fires it once more; \
             `nas-cron jobs dismiss {agent} {job_id}` if it has finished"
        ),
        Some(DormantReason::GatewayStopped) => format!(
            "dormant: its agent's gateway was stopped on purpose and dropped the fire; the next one was expected {expected}; \
             the agent arms its jobs again when the gateway starts"
        ),
        Some(DormantReason::Withheld) => format!(
            "dormant, the next fire was expected {expected}: {}",
            stopped(job, around, now).unwrap_or_else(|| "its agent was stopped until just now".to_owned())
        ),
    }
}

/// The condition that stops the instance's fires, or those of this job. The one that a person must end comes first.
fn stopped(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> Option<String> {
    if let Some(hold) = around.holds.first() {
        return Some(on_hold(hold, now));
    }
    if around.disabled {
        return Some(format!(
            "its agent is disabled; `nas-cron agents enable {}` ends that",
            job.instance_id
        ));
    }
    match around.denied_by_portal {
        Some(PortalDenial::Unknown) => return Some("the portal does not know its agent any more".to_owned()),
        Some(PortalDenial::Disabled) => return Some("the portal has disabled its agent".to_owned()),
        None => {}
    }
    let outage = around.outage.as_ref()?;
    let since = span(now - outage.since);
    let probe = match outage.probe_at {
        Some(at) if at > now => relative(now, at),
        _ => "now".to_owned(),
    };
    Some(if outage.probe_job_id == job.job_id {
        format!(
            "its callback has been unreachable for {since}; this job is the probe, and is tried again {probe}"
        )
    } else {
        format!(
            "its callback has been unreachable for {since}; job {}, the probe, is tried again {probe}, and this one follows",
            printable(&outage.probe_job_id)
        )
    })
}

fn on_hold(hold: &Hold, now: DateTime<Utc>) -> String {
    let (scope, argument) = match hold.scope {
        HoldScope::All => ("the service".to_owned(), "--all".to_owned()),
        HoldScope::Org => (format!("org {}", hold.scope_id), format!("--org {}", hold.scope_id)),
        HoldScope::Instance => (format!("agent {}", hold.scope_id), format!("--instance {}", hold.scope_id)),
    };
    let reason = hold.reason.as_deref().map(|reason| format!(" ({})", shortened(&printable(reason), 80)));
    format!(
        "{scope} has been on hold for {}{}; `nas-cron release {argument}` ends that",
        span(now - hold.created_at),
        reason.unwrap_or_default()
    )
}

/// The time of its next attempt, and the reason for that time.
fn scheduled(job: &Job, around: &Circumstances, now: DateTime<Utc>) -> String {
    if job.parked == Some(ParkReason::Hold) || job.parked == Some(ParkReason::Unreachable) {
        return "the reason for which it was parked is over; it is due within seconds".to_owned();
    }
    let Some(at) = job.next_attempt_at else { return "nothing is scheduled".to_owned() };
    if let Some(until) = around.busy_until.filter(|until| *until > now && *until > at) {
        return format!("its agent asked to wait (Retry-After) and is called again {}", relative(now, until));
    }
    let when = if at > now { format!("fires {}", relative(now, at)) } else { "is due".to_owned() };
    if job.state == OneShotState::Waiting && job.attempts > 0 {
        return format!("attempt {} ended with: {}; the next one {when}", job.attempts, last_error(job));
    }
    if let Some(backend) = job.awaits {
        return format!("{when}, woken by {backend}");
    }
    if at <= now {
        let late = span(now - at);
        return format!("has been due for {late}; `nas-cron doctor` shows if replicas are running");
    }
    let guard = TimeDelta::from_std(around.skew_guard).unwrap_or_default();
    if guard > TimeDelta::zero() && job.attempts == 0 {
        return format!("{when}, {} after its instant, because its agent's clock is slow", span(guard));
    }
    when
}

fn cause_of_death(job: &Job) -> String {
    match (job.dead_reason, job.attempts) {
        (Some(DeadReason::Expired), 0) => "its not_after passed before its first attempt".to_owned(),
        (Some(DeadReason::Expired), attempts) => {
            format!(
                "no attempt may start after its not_after; attempt {attempts} ended with: {}",
                last_error(job)
            )
        }
        _ => last_error(job),
    }
}

fn last_error(job: &Job) -> String {
    job.last_error.as_deref().map_or("no response".to_owned(), |error| shortened(&printable(error), 120))
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
        Hold { scope, scope_id: scope_id.to_owned(), reason: None, created_at: minutes(5) }
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
        let parked = Job { parked: Some(ParkReason::Hold), ..overdue.clone() };
        let withheld = Job { dormant_reason: Some(DormantReason::Withheld), ..dormant() };
        let holds = vec![
            Hold { reason: Some("network\u{1b} maintenance".to_owned()), ..hold(HoldScope::All, "") },
            hold(HoldScope::Instance, "agent-1"),
        ];
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
        insta::assert_snapshot!(lines.join("\n"), @"
        fires in 3 min
        has been due for 2 min; `nas-cron doctor` shows if replicas are running
        fires in 3 min, woken by nats
        an attempt is in flight
        its fire was delivered; the agent has not armed the next one
        attempt 81 ended with: the agent answered 503: <html> [2J; the next one fires in 1 min
        dead letter: the agent answered 503: <html> [2J; `nas-cron jobs redrive agent-1 b` fires it again
        dead letter: no attempt may start after its not_after; attempt 81 ended with: the agent answered 503: <html> [2J; `nas-cron jobs redrive agent-1 b` fires it again
        dead letter: its not_after passed before its first attempt; `nas-cron jobs redrive agent-1 b` fires it again
        stuck: the agent armed the same key again after each of its fires; repair the agent, then `nas-cron jobs redrive agent-1 b`
        the service has been on hold for 5 min (network  maintenance); `nas-cron release --all` ends that
        org acme has been on hold for 5 min; `nas-cron release --org acme` ends that
        its agent is disabled; `nas-cron agents enable agent-1` ends that
        the portal does not know its agent any more
        the portal has disabled its agent
        its callback has been unreachable for 10 min; job other, the probe, is tried again in 1 min, and this one follows
        its callback has been unreachable for 10 min; this job is the probe, and is tried again in 1 min
        the reason for which it was parked is over; it is due within seconds
        its agent asked to wait (Retry-After) and is called again in 1 min
        fires in 3 min, 2 s after its instant, because its agent's clock is slow
        dormant: its fire was delivered, but its agent has not armed the next one, which was expected 6 h ago; repair the agent, then `nas-cron jobs nudge agent-1 3f2a9c01d4e5` fires it once more; `nas-cron jobs dismiss agent-1 3f2a9c01d4e5` if it has finished
        its fire was delivered; its agent has not armed the next one, which was expected 6 h ago
        dormant: its agent's gateway was stopped on purpose and dropped the fire; the next one was expected 6 h ago; the agent arms its jobs again when the gateway starts
        dormant, the next fire was expected 6 h ago: its agent is disabled; `nas-cron agents enable agent-1` ends that
        dormant, the next fire was expected 6 h ago: its agent was stopped until just now
        ");
    }
}
