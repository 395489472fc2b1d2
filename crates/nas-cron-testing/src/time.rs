//! Instants in the format of agents, and the timeout of tests.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Maximum time that a test waits for an event: longer than an event takes on a busy machine. Only a failing test waits
/// this long.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Returns the time of the wall clock.
pub fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().expect("after 1970"))
}

/// Returns the instant `millis` from now, to the microsecond, in the format of Python's `isoformat()` and the agent's
/// time zone.
pub fn fire_at(millis: i64) -> String {
    let zone = chrono::FixedOffset::east_opt(5 * 3600 + 45 * 60).expect("a zone");
    (now() + TimeDelta::milliseconds(millis))
        .with_timezone(&zone)
        .format("%Y-%m-%dT%H:%M:%S%.6f%:z")
        .to_string()
}

/// Parses a `fire_at`.
pub fn instant(fire_at: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(fire_at).expect("RFC 3339").to_utc()
}

/// Returns the lateness of `at`, in milliseconds; negative if it is early.
pub fn lateness_ms(fire_at: &str, at: DateTime<Utc>) -> f64 {
    (at - instant(fire_at)).as_seconds_f64() * 1e3
}
