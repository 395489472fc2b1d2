//! Checks of pending work: overdue fires, the outbox, an unfinished switch of backends, dead letters, holds, homes, logins.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::{counted, printable, shortened, span};
use nas_cron_protocol::{BackendName, OneShotState};

use super::deployment::Deployment;
use crate::cli::hold;
use crate::config::PortalJwks;
use crate::db::{directory, dormant_jobs, fires, holds, logins, wake_ups};
use crate::diagnosis::{Finding, failed};
use crate::domain::active_backend::{Left, Untold};
use crate::domain::dormancy::DormantReason;
use crate::domain::hold::Hold;

/// Delay after which an unattempted one-shot is reported, in addition to the backend's grace period.
const OVERDUE: Duration = Duration::from_secs(30);

pub(super) async fn overdue(deployment: &Deployment) -> Finding {
    let (counts, active) =
        match tokio::try_join!(fires::counts(&deployment.db), wake_ups::find_active(&deployment.db)) {
            Ok(found) => found,
            Err(error) => return failed(error),
        };
    let grace = active.map_or(Duration::ZERO, |active| deployment.config.backends.grace(active.backend));
    judge_overdue(counts.oldest_overdue, OVERDUE + grace)
}

fn judge_overdue(oldest: Duration, patience: Duration) -> Finding {
    // Younger ones are just being claimed.
    if oldest < Duration::from_secs(1) {
        return Finding::ok("nothing");
    }
    let since = span(TimeDelta::from_std(oldest).unwrap_or(TimeDelta::MAX));
    if oldest <= patience {
        return Finding::ok(format!("{since} at most, within the grace period"));
    }
    Finding::wrong(
        format!("the oldest one-shot has been due for {since} without an attempt"),
        "check that `nas-cron serve` is running and that /readyz returns 200; `nas-cron jobs list --overdue` lists them",
    )
}

pub(super) async fn dead_letters(deployment: &Deployment) -> Finding {
    let states = match fires::counts(&deployment.db).await {
        Ok(counts) => counts.states,
        Err(error) => return failed(error),
    };
    let count = |state| states.iter().find(|(one, _)| *one == state).map_or(0, |(_, count)| *count);
    match (count(OneShotState::Dead), count(OneShotState::Stuck)) {
        (0, 0) => Finding::ok("none"),
        (dead, stuck) => Finding::warning(
            format!("{}, {stuck} stuck: these jobs do not run", counted(dead, "dead letter")),
            "`nas-cron jobs list --state dead,stuck` shows the errors; `nas-cron jobs redrive` fires them again",
        ),
    }
}

/// Checks for jobs whose agents have not armed the next fire in time.
pub(super) async fn dormant(deployment: &Deployment) -> Finding {
    match dormant_jobs::counts(&deployment.db).await {
        Ok(counts) => judge_dormant(&counts),
        Err(error) => failed(error),
    }
}

fn judge_dormant(counts: &[(DormantReason, i64)]) -> Finding {
    let count = |reason| counts.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count);
    let on_purpose = count(DormantReason::GatewayStopped) + count(DormantReason::Withheld);
    let stopped = if on_purpose > 0 {
        format!("; {} stopped on purpose", counted(on_purpose, "further job"))
    } else {
        String::new()
    };
    match count(DormantReason::Silent) {
        0 if on_purpose == 0 => Finding::ok("none"),
        0 => Finding::ok(format!("{} stopped on purpose", counted(on_purpose, "job"))),
        silent => Finding::warning(
            format!(
                "{}: accepted by their agents, and not armed again in time{stopped}",
                counted(silent, "job")
            ),
            "`nas-cron jobs list --state dormant` lists them; repair their agents, then `nas-cron jobs nudge` fires a job once \
             more; `nas-cron jobs dismiss` if one has finished",
        ),
    }
}

/// Checks for outbox rows that a backend rejects, or that no replica processes.
pub(super) async fn wake_ups(deployment: &Deployment) -> Finding {
    match wake_ups::untold(&deployment.db).await {
        Ok(untold) => judge_untold(&untold),
        Err(error) => failed(error),
    }
}

fn judge_untold(untold: &[Untold]) -> Finding {
    if untold.is_empty() {
        return Finding::ok("no outbox row is late");
    }
    let line = |one: &Untold| {
        let rows = format!("{}: {} pending in the outbox", one.backend, counted(one.count, "wake-up"));
        match &one.last_error {
            Some(error) => format!("{rows}; last error: {}", shortened(&printable(error), 200)),
            None => format!("{rows} for more than a minute"),
        }
    };
    let fix = if untold.iter().any(|one| one.last_error.is_none()) {
        "check that a replica with this backend configured is running; until then the Postgres loop fires these \
         one-shots, some seconds late"
    } else {
        "fix the backend; replicas keep retrying, and until then the Postgres loop fires these one-shots, some seconds late"
    };
    Finding::warning(untold.iter().map(line).collect::<Vec<_>>().join("\n"), fix)
}

pub(super) async fn moving(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    let active = match wake_ups::find_active(db).await {
        Ok(Some(active)) => active,
        Ok(None) => return Finding::ok("no unfinished switch"),
        Err(error) => return failed(error),
    };
    match wake_ups::left(db, active.switched_at).await {
        Ok(left) => judge_move(&left, active.backend),
        Err(error) => failed(error),
    }
}

fn judge_move(left: &Left, to: BackendName) -> Finding {
    let Left { to_move, to_tell, to_take_back, .. } = left;
    if left.count() == 0 {
        return Finding::ok("no unfinished switch");
    }
    Finding::warning(
        format!(
            "switch to {to} is unfinished: {to_move} one-shots to move, {to_tell} wake-ups to arm, {to_take_back} to cancel"
        ),
        format!("the running replicas complete it; `nas-cron backend switch {to}` completes it now"),
    )
}

pub(super) async fn holds(deployment: &Deployment) -> Finding {
    match tokio::try_join!(holds::list(&deployment.db, None), directory::now(&deployment.db)) {
        Ok((standing, now)) => {
            let holds: Vec<_> = standing.into_iter().map(|one| one.hold).collect();
            judge_holds(&holds, now)
        }
        Err(error) => failed(error),
    }
}

/// Maximum number of holds or agents that are named.
const NAMED: usize = 5;
/// Number of agents to read: one more than are named shows that there are more.
const READ: i64 = 6;

/// Checks for logins at the built-in portal that a reused refresh token ended. These agents cannot call until they are
/// enrolled again.
pub(super) async fn logins(deployment: &Deployment) -> Finding {
    if deployment.config.portal.jwks != PortalJwks::Own {
        return Finding::skipped("not applicable: the built-in portal is off");
    }
    match logins::lost(&deployment.db, READ).await {
        Ok(lost) => judge_logins(&lost),
        Err(error) => failed(error),
    }
}

fn judge_logins(lost: &[String]) -> Finding {
    if lost.is_empty() {
        return Finding::ok("none ended by a reused token");
    }
    Finding::warning(
        format!("ended, because a spent refresh token was presented: {}", named(lost)),
        "remove the second copy of the agent's home; then create a new login with `nas-cron agents enroll`",
    )
}

/// Checks for agents whose callback moves back and forth: two homes with one identity cancel each other's jobs.
pub(super) async fn homes(deployment: &Deployment) -> Finding {
    match directory::alternating(&deployment.db, READ).await {
        Ok(alternating) => judge_homes(&alternating),
        Err(error) => failed(error),
    }
}

fn judge_homes(alternating: &[String]) -> Finding {
    if alternating.is_empty() {
        return Finding::ok("no two share an identity");
    }
    Finding::warning(
        format!(
            "the callback moves back and forth, two homes seem to share an identity: {}",
            named(alternating)
        ),
        "`nas-cron agents show` names both callbacks; give each home an instance of its own",
    )
}

/// Lists agents, up to a limit.
fn named(agents: &[String]) -> String {
    let mut named: Vec<_> = agents.iter().take(NAMED).map(|agent| printable(agent)).collect();
    if agents.len() > NAMED {
        named.push("others".to_owned());
    }
    named.join(", ")
}

fn judge_holds(holds: &[Hold], now: DateTime<Utc>) -> Finding {
    if holds.is_empty() {
        return Finding::ok("none");
    }
    let line = |hold: &Hold| {
        let what = hold::named(hold.scope, &hold.scope_id, hold.job_id.as_deref());
        let reason = hold.reason.as_ref().map(|reason| format!(": {}", shortened(&printable(reason), 100)));
        format!("{what} has been on hold for {}{}", span(now - hold.created_at), reason.unwrap_or_default())
    };
    let mut lines: Vec<_> = holds.iter().take(NAMED).map(line).collect();
    if holds.len() > NAMED {
        lines.push(format!("and {} more", holds.len() - NAMED));
    }
    Finding::warning(
        lines.join("\n"),
        "`nas-cron release` ends a hold; `nas-cron hold list` shows the parked one-shots",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn overdue_is_wrong_after_the_grace_period() {
        let patience = Duration::from_secs(35);
        for (oldest, status) in
            [(0, Status::Ok), (900, Status::Ok), (34_900, Status::Ok), (35_100, Status::Wrong)]
        {
            assert_eq!(judge_overdue(Duration::from_millis(oldest), patience).status, status, "{oldest}");
        }
        assert_eq!(judge_overdue(Duration::MAX, patience).status, Status::Wrong);
    }

    #[test]
    fn silent_jobs_are_a_warning_and_stopped_ones_are_not() {
        let (silent, stopped) = ((DormantReason::Silent, 1), (DormantReason::GatewayStopped, 2));
        assert_eq!(judge_dormant(&[]).found, "none");
        let on_purpose = judge_dormant(&[stopped, (DormantReason::Withheld, 1)]);
        assert_eq!((on_purpose.status, on_purpose.found.as_str()), (Status::Ok, "3 jobs stopped on purpose"));
        let both = judge_dormant(&[silent, stopped]);
        assert_eq!(both.status, Status::Warning);
        assert_eq!(
            both.found,
            "1 job: accepted by their agents, and not armed again in time; 2 further jobs stopped on purpose"
        );
    }

    #[test]
    fn unprocessed_outbox_rows_differ_from_rejected_ones() {
        let untold = |last_error: Option<&str>| Untold {
            backend: BackendName::Nats,
            count: 2,
            last_error: last_error.map(str::to_owned),
        };
        let refused = judge_untold(&[untold(Some("did not answer in\ntime"))]);
        assert_eq!(
            refused.found,
            "nats: 2 wake-ups pending in the outbox; last error: did not answer in time"
        );
        assert!(refused.fix.unwrap().starts_with("fix the backend; replicas keep retrying"));
        let unprocessed = judge_untold(&[untold(None)]);
        assert_eq!(unprocessed.found, "nats: 2 wake-ups pending in the outbox for more than a minute");
        assert!(unprocessed.fix.unwrap().starts_with("check that a replica"));
        assert_eq!(judge_untold(&[]).status, Status::Ok);
    }

    #[test]
    fn lost_logins_are_named_up_to_a_limit() {
        let lost: Vec<_> = (0..7).map(|n| format!("agent-{n}")).collect();
        assert_eq!(judge_logins(&[]).status, Status::Ok);
        assert!(judge_logins(&lost[..1]).found.ends_with(": agent-0"));
        assert!(judge_logins(&lost).found.ends_with("agent-4, others"));
        assert_eq!(judge_homes(&[]).status, Status::Ok);
        assert!(
            judge_homes(&lost)
                .found
                .ends_with("share an identity: agent-0, agent-1, agent-2, agent-3, agent-4, others")
        );
    }

    #[test]
    fn holds_are_named_up_to_a_limit() {
        use crate::domain::HoldScope;

        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hold = |scope, scope_id: String| Hold {
            scope,
            scope_id,
            job_id: None,
            reason: Some("maintenance".to_owned()),
            created_at: now - TimeDelta::minutes(5),
        };
        let one = judge_holds(&[hold(HoldScope::All, String::new())], now);
        assert_eq!(one.found, "the whole service has been on hold for 5 min: maintenance");
        let many: Vec<_> = (0..7).map(|n| hold(HoldScope::Org, n.to_string())).collect();
        assert!(judge_holds(&many, now).found.ends_with("\nand 2 more"));
    }
}
