//! Findings about the running replicas.

use std::time::Duration;

use chrono::TimeDelta;
use nas_cron_base::terminal::{counted, printable, span};

use super::Finding;
use crate::domain::clock_sample::TOLERATED_OFFSET;
use crate::domain::replica::Registered;

/// Maximum age of the latest renewal of a running replica. An idle one renews its registration every 10 s.
const RUNNING_WITHIN: Duration = Duration::from_secs(30);

/// Reports whether a replica is running: otherwise nothing fires. `has_run`: one has run on this database.
pub fn replicas(registered: &[Registered], has_run: bool) -> Finding {
    let (running, silent): (Vec<_>, Vec<_>) = registered.iter().partition(|replica| is_running(replica));
    if running.is_empty() {
        if !has_run {
            return Finding::skipped("none has run on this database yet");
        }
        let last = silent.iter().min_by_key(|replica| replica.silent_for).map(|replica| {
            let since = span(TimeDelta::from_std(replica.silent_for).unwrap_or(TimeDelta::MAX));
            format!("; the last one, on {}, was seen {since} ago", printable(&replica.host_name))
        });
        return Finding::wrong(
            format!("none is running, so nothing fires{}", last.unwrap_or_default()),
            "start `nas-cron serve` with these settings, and look at its log if it ends",
        );
    }
    let names: Vec<_> =
        running.iter().map(|r| format!("{} ({})", printable(&r.host_name), r.version)).collect();
    let found = format!(
        "{} running: {}",
        counted(names.len().try_into().unwrap_or(i64::MAX), "replica"),
        names.join(", ")
    );
    let wrong: Vec<_> = running.iter().filter_map(|replica| wrong_clock(replica)).collect();
    if wrong.is_empty() {
        return Finding::ok(found);
    }
    Finding::warning(
        format!(
            "{found}\n{}; fires and tokens use the database's clock, log lines use the replica's",
            wrong.join("\n")
        ),
        "synchronise all clocks with NTP; the metric nas_cron_database_clock_offset_seconds shows the offset",
    )
}

/// Describes the clock of a replica that differs much from the database's.
fn wrong_clock(replica: &Registered) -> Option<String> {
    let offset = replica.clock_offset.filter(|offset| offset.abs() > TOLERATED_OFFSET)?;
    let direction = if offset < TimeDelta::zero() { "behind" } else { "ahead of" };
    Some(format!(
        "the database's clock is {} {direction} that of {}",
        span(offset),
        printable(&replica.host_name)
    ))
}

/// Returns true if the replica has renewed its registration lately.
pub fn is_running(replica: &Registered) -> bool {
    replica.silent_for <= RUNNING_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    use crate::diagnosis::Status;

    fn replica(host_name: &str, silent_for: u64) -> Registered {
        Registered {
            host_name: host_name.to_owned(),
            replica_id: 1,
            version: "0.1.0".to_owned(),
            started_at: DateTime::UNIX_EPOCH,
            clock_offset: None,
            silent_for: Duration::from_secs(silent_for),
        }
    }

    #[test]
    fn silent_replicas_are_not_running() {
        let found = replicas(&[replica("a", 1), replica("b", 30), replica("c", 31)], true);
        assert_eq!((found.status, &*found.found), (Status::Ok, "2 replicas running: a (0.1.0), b (0.1.0)"));
        let found = replicas(&[replica("a", 3700), replica("b", 31)], true);
        assert_eq!(
            (found.status, &*found.found),
            (Status::Wrong, "none is running, so nothing fires; the last one, on b, was seen 31 s ago")
        );
        assert_eq!(replicas(&[], true).found, "none is running, so nothing fires");
        assert_eq!(replicas(&[], false).status, Status::Skipped);
    }

    #[test]
    fn wrong_clock_of_a_running_replica_is_a_warning() {
        let with = |host_name, silent_for, seconds| Registered {
            clock_offset: Some(TimeDelta::seconds(seconds)),
            ..replica(host_name, silent_for)
        };
        let right = [with("a", 1, 5), with("b", 1, -5), with("c", 31, 90)];
        assert_eq!(replicas(&right, true).status, Status::Ok);
        let found = replicas(&[with("a", 1, 90), with("b", 1, -6)], true);
        assert_eq!(found.status, Status::Warning);
        insta::assert_snapshot!(found.found, @r"
        2 replicas running: a (0.1.0), b (0.1.0)
        the database's clock is 1 min 30 s ahead of that of a
        the database's clock is 6 s behind that of b; fires and tokens use the database's clock, log lines use the replica's
        ");
    }
}
