//! What should have happened by now: fires, wake-ups that backends are to be told of, a move between backends.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::{counted, printable, relative, shortened, span};
use nas_cron_protocol::{BackendName, OneShotState};

use super::deployment::Deployment;
use crate::config::PortalJwks;
use crate::db::{directory, fires, logins, outages, wake_ups};
use crate::diagnosis::{Finding, failed};
use crate::domain::HoldScope;
use crate::domain::active_backend::{Left, Untold};
use crate::domain::hold::Hold;

/// What is due this long ago, and was left to no backend, nobody fires.
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
    // What has just come due is being claimed.
    if oldest < Duration::from_secs(1) {
        return Finding::ok("nothing");
    }
    let since = span(TimeDelta::from_std(oldest).unwrap_or(TimeDelta::MAX));
    if oldest <= patience {
        return Finding::ok(format!("{since} at most"));
    }
    Finding::wrong(
        format!("the oldest one-shot has been due for {since}, and was not tried"),
        "is `nas-cron serve` running, and is /readyz well? `nas-cron jobs list --overdue` shows them",
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
            "`nas-cron jobs list --state dead` (or stuck) shows why; `nas-cron jobs redrive` fires them again",
        ),
    }
}

/// What backends are to be told and cannot be, or nobody tells.
pub(super) async fn wake_ups(deployment: &Deployment) -> Finding {
    match wake_ups::untold(&deployment.db).await {
        Ok(untold) => judge_untold(&untold),
        Err(error) => failed(error),
    }
}

fn judge_untold(untold: &[Untold]) -> Finding {
    if untold.is_empty() {
        return Finding::ok("every engine is told what it should know");
    }
    let line = |one: &Untold| {
        let what = format!("{}: {} to be told", one.backend, counted(one.count, "wake-up"));
        match &one.last_error {
            Some(error) => format!("{what}; it {}", shortened(&printable(error), 200)),
            None => format!("{what} for more than a minute"),
        }
    };
    let mend = if untold.iter().any(|one| one.last_error.is_none()) {
        "is a replica running that has that engine configured? Until then the service's own loop fires them, some \
         seconds late"
    } else {
        "replicas go on trying; until then the service's own loop fires them, some seconds late"
    };
    Finding::warning(untold.iter().map(line).collect::<Vec<_>>().join("\n"), mend)
}

pub(super) async fn moving(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    let active = match wake_ups::find_active(db).await {
        Ok(Some(active)) => active,
        Ok(None) => return Finding::ok("nothing to move"),
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
        return Finding::ok("nothing to move");
    }
    Finding::warning(
        format!(
            "unfinished, to {to}: {to_move} to be moved, {to_tell} to be told, {to_take_back} to be taken back"
        ),
        format!("the replicas go on with it; `nas-cron backend switch {to}` does it now"),
    )
}

pub(super) async fn holds(deployment: &Deployment) -> Finding {
    match tokio::try_join!(outages::holds(&deployment.db), directory::now(&deployment.db)) {
        Ok((holds, now)) => judge_holds(&holds, now),
        Err(error) => failed(error),
    }
}

/// How many holds or agents are named.
const NAMED: usize = 5;
/// One more shows that there are more.
const LOOKED_FOR: i64 = 6;

/// Agents whose login at our own portal ended by a reuse: none of them can arm anything until it is enrolled again.
pub(super) async fn logins(deployment: &Deployment) -> Finding {
    if deployment.config.portal.jwks != PortalJwks::Own {
        return Finding::skipped("another portal's");
    }
    match logins::lost(&deployment.db, LOOKED_FOR).await {
        Ok(lost) => judge_logins(&lost),
        Err(error) => failed(error),
    }
}

fn judge_logins(lost: &[String]) -> Finding {
    if lost.is_empty() {
        return Finding::ok("none was lost");
    }
    let mut named: Vec<_> = lost.iter().take(NAMED).map(|agent| printable(agent)).collect();
    if lost.len() > NAMED {
        named.push("others".to_owned());
    }
    Finding::warning(
        format!("ended, because a spent refresh token was presented: {}", named.join(", ")),
        "look for a second copy of the agent's home; then `nas-cron agents enroll` gives it another login",
    )
}

fn judge_holds(holds: &[Hold], now: DateTime<Utc>) -> Finding {
    if holds.is_empty() {
        return Finding::ok("none");
    }
    let line = |hold: &Hold| {
        let what = match hold.scope {
            HoldScope::All => "the whole service".to_owned(),
            HoldScope::Org => format!("org {}", hold.scope_id),
            HoldScope::Instance => format!("agent {}", hold.scope_id),
        };
        let reason = hold.reason.as_ref().map(|reason| format!(": {}", shortened(&printable(reason), 100)));
        format!("{what} is on hold, since {}{}", relative(now, hold.created_at), reason.unwrap_or_default())
    };
    let mut lines: Vec<_> = holds.iter().take(NAMED).map(line).collect();
    if holds.len() > NAMED {
        lines.push(format!("and {} more", holds.len() - NAMED));
    }
    Finding::warning(lines.join("\n"), "`nas-cron release` ends one; `nas-cron hold list` shows what waits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn overdue_is_what_no_grace_excuses() {
        let patience = Duration::from_secs(35);
        for (oldest, status) in
            [(0, Status::Ok), (900, Status::Ok), (34_900, Status::Ok), (35_100, Status::Wrong)]
        {
            assert_eq!(judge_overdue(Duration::from_millis(oldest), patience).status, status, "{oldest}");
        }
        assert_eq!(judge_overdue(Duration::MAX, patience).status, Status::Wrong);
    }

    #[test]
    fn unprocessed_orders_differ_from_refused_ones() {
        let untold = |last_error: Option<&str>| Untold {
            backend: BackendName::Nats,
            count: 2,
            last_error: last_error.map(str::to_owned),
        };
        let refused = judge_untold(&[untold(Some("did not answer in\ntime"))]);
        assert_eq!(refused.found, "nats: 2 wake-ups to be told; it did not answer in time");
        assert!(refused.fix.unwrap().starts_with("replicas go on trying"));
        let nobody = judge_untold(&[untold(None)]);
        assert_eq!(nobody.found, "nats: 2 wake-ups to be told for more than a minute");
        assert!(nobody.fix.unwrap().starts_with("is a replica running"));
        assert_eq!(judge_untold(&[]).status, Status::Ok);
    }

    #[test]
    fn lost_logins_are_named_but_not_all_of_many() {
        let lost: Vec<_> = (0..7).map(|n| format!("agent-{n}")).collect();
        assert_eq!(judge_logins(&[]).status, Status::Ok);
        assert!(judge_logins(&lost[..1]).found.ends_with(": agent-0"));
        assert!(judge_logins(&lost).found.ends_with("agent-4, others"));
    }

    #[test]
    fn holds_are_named_but_not_all_of_many() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hold = |scope, scope_id: String| Hold {
            scope,
            scope_id,
            reason: Some("maintenance".to_owned()),
            created_at: now - TimeDelta::minutes(5),
        };
        let one = judge_holds(&[hold(HoldScope::All, String::new())], now);
        assert_eq!(one.found, "the whole service is on hold, since 5 min ago: maintenance");
        let many: Vec<_> = (0..7).map(|n| hold(HoldScope::Org, n.to_string())).collect();
        assert!(judge_holds(&many, now).found.ends_with("\nand 2 more"));
    }
}
