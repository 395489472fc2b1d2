//! The division of the file descriptor limit of this process.

/// Reserve for everything except connections to callers, agents and the database: standard streams, the runtime,
/// listeners, name lookups, and connections to portals and scheduler backends.
const OTHERS: u64 = 96;
/// Descriptors per attempt in flight: its connection, and an idle one that an earlier attempt left open for reuse.
const PER_ATTEMPT: u64 = 2;
/// Connections that callers get even if fewer attempts fit then.
const CALLERS_FIRST: u64 = 256;
/// Maximum number of callers' connections: more would only cost memory.
const CALLERS_MAX: u64 = 16_384;
/// Maximum number of connections to the metrics listener.
const METRICS_MAX: u64 = 64;
const METRICS_MIN: u64 = 4;
/// Maximum number of connections to a separate listener of the admin API.
const ADMIN_MAX: u64 = 256;

/// Shares of the descriptor limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Descriptors that the process may have open.
    pub limit: u64,
    /// Maximum number of open connections at the public listener.
    pub public_connections: usize,
    /// Maximum number of open connections at the listener of the admin API, if it is separate.
    pub admin_connections: usize,
    /// Maximum number of open connections at the metrics listener.
    pub metrics_connections: usize,
    /// Attempts in flight that fit: `in_flight_max`, or fewer if the limit is too low.
    pub attempts: usize,
    /// The lowest limit at which `in_flight_max` attempts fit.
    pub needed: u64,
}

impl Descriptors {
    /// Divides `soft_limit`. If it is too low, attempts get fewer descriptors first, then callers. A separate listener of
    /// the admin API gets a part of the callers' connections.
    pub fn share(
        soft_limit: u64,
        in_flight_max: usize,
        database_connections: u32,
        has_admin_listener: bool,
    ) -> Self {
        let attempts = in_flight_max as u64 * PER_ATTEMPT;
        let fixed = OTHERS + u64::from(database_connections);
        let free = soft_limit.saturating_sub(fixed);
        let metrics = (free / 16).clamp(METRICS_MIN, METRICS_MAX);
        let rest = free.saturating_sub(metrics);
        let callers = rest.saturating_sub(attempts).max(CALLERS_FIRST.min(rest / 2)).clamp(1, CALLERS_MAX);
        let left = rest.saturating_sub(callers) / PER_ATTEMPT;
        let admin = if has_admin_listener { (callers / 8).clamp(1, ADMIN_MAX) } else { 0 };
        Self {
            limit: soft_limit,
            public_connections: as_count((callers - admin).max(1)),
            admin_connections: as_count(admin),
            metrics_connections: as_count(metrics),
            attempts: as_count(left.clamp(1, in_flight_max as u64)),
            needed: fixed + METRICS_MAX + CALLERS_FIRST + attempts,
        }
    }

    /// Returns the maximum number of requests whose handlers run at the same time. The other connections stay free for
    /// responses that need no wait: probes, the JWKS, and rejections.
    pub const fn requests_at_once(&self) -> usize {
        three_quarters(self.public_connections)
    }

    /// The same at the listener of the admin API.
    pub const fn admin_requests_at_once(&self) -> usize {
        three_quarters(self.admin_connections)
    }

    /// Returns true if `in_flight_max` attempts fit.
    pub const fn fit(&self, in_flight_max: usize) -> bool {
        self.attempts >= in_flight_max
    }
}

const fn three_quarters(count: usize) -> usize {
    let three_quarters = count - count / 4;
    if three_quarters == 0 { 1 } else { three_quarters }
}

fn as_count(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(limit: u64) -> (usize, usize, usize) {
        let shares = Descriptors::share(limit, 1024, 20, false);
        (shares.public_connections, shares.metrics_connections, shares.attempts)
    }

    #[test]
    fn high_limit_has_room_for_everything() {
        assert_eq!(shares(1_048_576), (16_384, 64, 1024));
        assert_eq!(shares(u64::MAX), (16_384, 64, 1024));
        assert_eq!(shares(4_096), (1_868, 64, 1024));
    }

    #[test]
    fn low_limit_is_divided_between_callers_and_attempts() {
        assert_eq!(shares(1_024), (256, 56, 298));
        assert_eq!(shares(512), (186, 24, 93));
        assert_eq!(shares(0), (1, 4, 1));
    }

    #[test]
    fn separate_admin_listener_gets_a_part_of_the_callers_connections() {
        let shares = |limit| Descriptors::share(limit, 1024, 20, true);
        assert_eq!((shares(4_096).public_connections, shares(4_096).admin_connections), (1_635, 233));
        assert_eq!((shares(u64::MAX).public_connections, shares(u64::MAX).admin_connections), (16_128, 256));
        assert_eq!(Descriptors::share(4_096, 1024, 20, false).admin_connections, 0);
    }

    proptest! {
        #[test]
        fn shares_stay_within_the_limit(
            limit in 256_u64..100_000, in_flight in 1_usize..10_000, database in 4_u32..64, admin in proptest::bool::ANY,
        ) {
            let shares = Descriptors::share(limit, in_flight, database, admin);
            let attempts = shares.attempts as u64 * PER_ATTEMPT;
            let callers = (shares.public_connections + shares.admin_connections + shares.metrics_connections) as u64;
            prop_assert!(OTHERS + u64::from(database) + attempts + callers <= limit);
        }

        #[test]
        fn everything_fits_at_the_needed_limit(in_flight in 1_usize..10_000, database in 4_u32..1_000) {
            let needed = Descriptors::share(0, in_flight, database, false).needed;
            prop_assert!(Descriptors::share(needed, in_flight, database, false).fit(in_flight));
        }
    }
}
