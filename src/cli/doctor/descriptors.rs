//! Check of the limit of file descriptors.

use super::deployment::Deployment;
use crate::config::Config;
use crate::diagnosis::Finding;
use crate::limits::Descriptors;

/// Checks the hard limit of this process: `serve` raises its own limit to the hard one.
pub(super) async fn descriptors(deployment: &Deployment) -> Finding {
    let Config { fire, database, http, .. } = &deployment.config;
    judge(
        Descriptors::share(
            nas_cron_base::descriptors::hard_limit(),
            fire.in_flight_max,
            database.max_connections,
            http.admin_listen.is_some(),
        ),
        fire.in_flight_max,
    )
}

fn judge(shares: Descriptors, in_flight_max: usize) -> Finding {
    let Descriptors { limit, public_connections, attempts, needed, .. } = shares;
    if shares.fit(in_flight_max) {
        let limit = if limit == u64::MAX { "no limit".to_owned() } else { limit.to_string() };
        return Finding::ok(format!(
            "{limit}: enough for {in_flight_max} concurrent attempts and {public_connections} incoming connections"
        ));
    }
    Finding::warning(
        format!(
            "{limit}: enough for {attempts} concurrent attempts, but NAS_CRON_IN_FLIGHT_MAX is {in_flight_max}"
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
    fn low_limit_is_a_warning_that_names_the_required_limit() {
        let judged = |limit| judge(Descriptors::share(limit, 1_024, 20, false), 1_024);
        let low = judged(1_024);
        assert_eq!(low.status, Status::Warning);
        assert!(low.found.starts_with("1024: enough for 298 concurrent attempts, but"), "{low:?}");
        assert!(low.fix.unwrap().contains("to 2484"));
        assert_eq!(judged(2_484).status, Status::Ok);
        assert_eq!(
            judged(u64::MAX).found,
            "no limit: enough for 1024 concurrent attempts and 16384 incoming connections"
        );
    }
}
