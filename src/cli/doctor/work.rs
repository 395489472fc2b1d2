//! Checks of pending work: overdue fires, the outbox, an unfinished switch of backends, dead letters, unreachable agents, holds,
//! homes, quotas, logins.

use std::time::Duration;

use nas_cron_protocol::OneShotState;
use nas_cron_protocol::admin_api::Count;

use super::deployment::Deployment;
use crate::config::PortalJwks;
use crate::db::{directory, dormant_jobs, fires, holds, logins, outages, overview, quotas, wake_ups};
use crate::diagnosis::{self, Finding, failed};

pub(super) async fn overdue(deployment: &Deployment) -> Finding {
    let (counts, active) =
        match tokio::try_join!(fires::counts(&deployment.db), wake_ups::find_active(&deployment.db)) {
            Ok(found) => found,
            Err(error) => return failed(error),
        };
    let grace = active.map_or(Duration::ZERO, |active| deployment.config.backends.grace(active.backend));
    diagnosis::overdue(counts.oldest_overdue, grace)
}

pub(super) async fn dead_letters(deployment: &Deployment) -> Finding {
    let states = match fires::counts(&deployment.db).await {
        Ok(counts) => counts.states,
        Err(error) => return failed(error),
    };
    let count = |state| states.iter().find(|(one, _)| *one == state).map_or(0, |(_, count)| *count);
    diagnosis::dead_letters(
        Count::exactly(count(OneShotState::Dead)),
        Count::exactly(count(OneShotState::Stuck)),
    )
}

/// Checks for jobs whose agents have not armed the next fire in time.
pub(super) async fn dormant(deployment: &Deployment) -> Finding {
    match dormant_jobs::counts(&deployment.db).await {
        Ok(counts) => diagnosis::dormant(&counts),
        Err(error) => failed(error),
    }
}

/// Checks for agents whose callback does not answer.
pub(super) async fn unreachable(deployment: &Deployment) -> Finding {
    match outages::withheld(&deployment.db).await {
        Ok(withheld) => diagnosis::unreachable(Count::exactly(withheld.unreachable)),
        Err(error) => failed(error),
    }
}

/// Checks for outbox rows that a backend rejects, or that no replica processes.
pub(super) async fn wake_ups(deployment: &Deployment) -> Finding {
    match wake_ups::untold(&deployment.db).await {
        Ok(untold) => diagnosis::wake_ups(&untold),
        Err(error) => failed(error),
    }
}

pub(super) async fn moving(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    let active = match wake_ups::find_active(db).await {
        Ok(Some(active)) => active,
        Ok(None) => return Finding::ok("no unfinished switch"),
        Err(error) => return failed(error),
    };
    match overview::switch_backlog(db, &active).await {
        Ok(left) => diagnosis::switch(left, active.backend),
        Err(error) => failed(error),
    }
}

pub(super) async fn holds(deployment: &Deployment) -> Finding {
    match tokio::try_join!(holds::list(&deployment.db, None), directory::now(&deployment.db)) {
        Ok((standing, now)) => {
            let holds: Vec<_> = standing.into_iter().map(|one| one.hold).collect();
            diagnosis::holds(&holds, holds.len(), now)
        }
        Err(error) => failed(error),
    }
}

/// Checks for agents and orgs that have nearly used their quota of armed jobs.
pub(super) async fn quotas(deployment: &Deployment) -> Finding {
    match quotas::nearly_used(&deployment.db, None, diagnosis::READ_QUOTAS).await {
        Ok(nearly_used) => diagnosis::quotas(&nearly_used),
        Err(error) => failed(error),
    }
}

/// Checks for logins at the built-in portal that a reused refresh token ended. These agents cannot call until they are
/// enrolled again.
pub(super) async fn logins(deployment: &Deployment) -> Finding {
    if deployment.config.portal.jwks != PortalJwks::Own {
        return Finding::skipped("not applicable: the built-in portal is off");
    }
    match logins::lost(&deployment.db, diagnosis::READ).await {
        Ok(lost) => diagnosis::logins(&lost),
        Err(error) => failed(error),
    }
}

/// Checks for agents whose callback moves back and forth: two homes with one identity cancel each other's jobs.
pub(super) async fn homes(deployment: &Deployment) -> Finding {
    match directory::alternating(&deployment.db, diagnosis::READ).await {
        Ok(alternating) => diagnosis::homes(&alternating),
        Err(error) => failed(error),
    }
}
