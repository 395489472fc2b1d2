//! Check of the running replicas.

use std::time::Duration;

use chrono::TimeDelta;
use nas_cron_base::terminal::{counted, printable, span};

use super::deployment::Deployment;
use crate::db::replicas::{self, Registered};
use crate::diagnosis::{Finding, failed};

/// Maximum age of the latest renewal of a running replica. An idle one renews its registration every 10 s.
const RUNNING_WITHIN: Duration = Duration::from_secs(30);

/// Checks that at least one replica is running: otherwise nothing fires.
pub(super) async fn running(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    match tokio::try_join!(replicas::list(db), db.signing_keys()) {
        Ok((registered, keys)) => judge(&registered, !keys.is_empty()),
        Err(error) => failed(error),
    }
}

/// `has_run`: a replica has run on this database.
fn judge(registered: &[Registered], has_run: bool) -> Finding {
    let (running, silent): (Vec<_>, Vec<_>) =
        registered.iter().partition(|replica| replica.silent_for <= RUNNING_WITHIN);
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
    Finding::ok(format!(
        "{} running: {}",
        counted(names.len().try_into().unwrap_or(i64::MAX), "replica"),
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    fn replica(host_name: &str, silent_for: u64) -> Registered {
        Registered {
            host_name: host_name.to_owned(),
            version: "0.1.0".to_owned(),
            silent_for: Duration::from_secs(silent_for),
        }
    }

    #[test]
    fn silent_replicas_are_not_running() {
        let found = judge(&[replica("a", 1), replica("b", 30), replica("c", 31)], true);
        assert_eq!((found.status, &*found.found), (Status::Ok, "2 replicas running: a (0.1.0), b (0.1.0)"));
        let found = judge(&[replica("a", 3700), replica("b", 31)], true);
        assert_eq!(
            (found.status, &*found.found),
            (Status::Wrong, "none is running, so nothing fires; the last one, on b, was seen 31 s ago")
        );
        assert_eq!(judge(&[], true).found, "none is running, so nothing fires");
        assert_eq!(judge(&[], false).status, Status::Skipped);
    }
}
