//! Findings about scheduler backends and their outboxes.

use nas_cron_base::terminal::{counted, printable, shortened};
use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::SwitchBacklog;

use super::Finding;
use crate::domain::active_backend::Untold;

/// Reports outbox rows that a backend rejects, or that no replica processes.
pub fn wake_ups(untold: &[Untold]) -> Finding {
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

/// Reports a switch to the backend `to` that is unfinished.
pub fn switch(left: SwitchBacklog, to: BackendName) -> Finding {
    if left.is_empty() {
        return Finding::ok("no unfinished switch");
    }
    let SwitchBacklog { to_move, to_tell, to_take_back } = left;
    Finding::warning(
        format!(
            "switch to {to} is unfinished: {} to move, {} to arm, {to_take_back} to cancel",
            to_move.of("one-shot"),
            to_tell.of("wake-up")
        ),
        format!("the running replicas complete it; `nas-cron backend switch {to}` completes it now"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn unprocessed_outbox_rows_differ_from_rejected_ones() {
        let untold = |last_error: Option<&str>| Untold {
            backend: BackendName::Nats,
            count: 2,
            last_error: last_error.map(str::to_owned),
        };
        let refused = wake_ups(&[untold(Some("did not answer in\ntime"))]);
        assert_eq!(
            refused.found,
            "nats: 2 wake-ups pending in the outbox; last error: did not answer in time"
        );
        assert!(refused.fix.unwrap().starts_with("fix the backend; replicas keep retrying"));
        let unprocessed = wake_ups(&[untold(None)]);
        assert_eq!(unprocessed.found, "nats: 2 wake-ups pending in the outbox for more than a minute");
        assert!(unprocessed.fix.unwrap().starts_with("check that a replica"));
        assert_eq!(wake_ups(&[]).status, Status::Ok);
    }
}
