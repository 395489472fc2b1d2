//! Instants as agents write them, and how long a test waits.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How long a test waits for an event that must come: longer than anything takes on a machine that is busy with
/// other work. Only a test that fails waits this long.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The wall clock.
pub fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().expect("after 1970"))
}

/// `millis` from now, to the microsecond, as Python's `isoformat()` writes it in the agent's own zone.
pub fn fire_at(millis: i64) -> String {
    let zone = chrono::FixedOffset::east_opt(5 * 3600 + 45 * 60).expect("a zone");
    (now() + TimeDelta::milliseconds(millis))
        .with_timezone(&zone)
        .format("%Y-%m-%dT%H:%M:%S%.6f%:z")
        .to_string()
}

/// What a `fire_at` means.
pub fn instant(fire_at: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(fire_at).expect("RFC 3339").to_utc()
}

/// How late `at` is after `fire_at`, in milliseconds; negative when it is early.
pub fn lateness_ms(fire_at: &str, at: DateTime<Utc>) -> f64 {
    (at - instant(fire_at)).as_seconds_f64() * 1e3
}
