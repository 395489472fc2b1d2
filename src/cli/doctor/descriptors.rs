//! The check of the descriptor limit.

use super::deployment::Deployment;
use crate::diagnosis::Finding;
use crate::limits::{self, Descriptors};

/// Looks at the limit that holds here: `serve` raises its own to the hard one.
pub(super) async fn descriptors(deployment: &Deployment) -> Finding {
    let (fire, database) = (&deployment.config.fire, &deployment.config.database);
    judge(
        Descriptors::share(limits::hard_limit(), fire.in_flight_max, database.max_connections),
        fire.in_flight_max,
    )
}

fn judge(shares: Descriptors, in_flight_max: usize) -> Finding {
    let Descriptors { limit, public_connections, attempts, needed, .. } = shares;
    if shares.fit(in_flight_max) {
        let limit = if limit == u64::MAX { "no limit".to_owned() } else { limit.to_string() };
        return Finding::ok(format!(
            "{limit}: {in_flight_max} attempts and {public_connections} callers' connections at once"
        ));
    }
    Finding::warning(
        format!(
            "{limit}: {attempts} attempts at once fit beside everything else, and NAS_CRON_IN_FLIGHT_MAX is {in_flight_max}"
        ),
        format!(
            "raise the hard limit to {needed} (`ulimit -Hn`, LimitNOFILE of systemd, ulimits of a container), or lower NAS_CRON_IN_FLIGHT_MAX"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn a_limit_that_is_too_low_is_a_warning_that_names_the_one_needed() {
        let judged = |limit| judge(Descriptors::share(limit, 1_024, 20), 1_024);
        let low = judged(1_024);
        assert_eq!(low.status, Status::Warning);
        assert!(low.found.starts_with("1024: 298 attempts"), "{low:?}");
        assert!(low.fix.unwrap().contains("to 2484"));
        assert_eq!(judged(2_484).status, Status::Ok);
        assert_eq!(judged(u64::MAX).found, "no limit: 1024 attempts and 16384 callers' connections at once");
    }
}
