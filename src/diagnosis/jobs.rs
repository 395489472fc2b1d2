//! Findings about jobs: overdue ones, dead letters, dormant ones, and holds.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::terminal::{counted, printable, shortened, span};
use nas_cron_protocol::admin_api::Count;

use super::Finding;
use crate::domain::dormancy::DormantReason;
use crate::domain::hold::{self, Hold};

/// Delay after which an unattempted one-shot is reported, in addition to the grace period of the active backend.
const OVERDUE: Duration = Duration::from_secs(30);
/// Maximum number of holds that are named.
const NAMED_HOLDS: usize = 5;
/// Number of holds to read: one more than are named shows that there are more.
pub const READ_HOLDS: i64 = 6;

/// Judges the age of the oldest overdue one-shot. `grace` is the grace period of the active backend.
pub fn overdue(oldest: Duration, grace: Duration) -> Finding {
    // Younger ones are just being claimed.
    if oldest < Duration::from_secs(1) {
        return Finding::ok("nothing");
    }
    let since = span(TimeDelta::from_std(oldest).unwrap_or(TimeDelta::MAX));
    if oldest <= OVERDUE + grace {
        return Finding::ok(format!("{since} at most, within the grace period"));
    }
    Finding::wrong(
        format!("the oldest one-shot has been due for {since} without an attempt"),
        "check that `nas-cron serve` is running and that /readyz returns 200; `nas-cron jobs list --overdue` lists them",
    )
}

/// Reports dead letters and stuck one-shots.
pub fn dead_letters(dead: Count, stuck: Count) -> Finding {
    if dead.count + stuck.count == 0 {
        return Finding::ok("none");
    }
    Finding::warning(
        format!("{}, {stuck} stuck: these jobs do not run", dead.of("dead letter")),
        "`nas-cron jobs list --state dead,stuck` shows the errors; `nas-cron jobs redrive --all` fires all dead letters again",
    )
}

/// Reports jobs whose agents have not armed the next fire in time.
pub fn dormant(counts: &[(DormantReason, i64)]) -> Finding {
    let count = |reason| counts.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count);
    let on_purpose = count(DormantReason::GatewayStopped) + count(DormantReason::Withheld);
    let stopped = if on_purpose > 0 {
        format!("; {} stopped on purpose", counted(on_purpose, "further job"))
    } else {
        String::new()
    };
    match count(DormantReason::Silent) {
        0 if on_purpose == 0 => Finding::ok("none"),
        0 => Finding::ok(format!("{} stopped on purpose", counted(on_purpose, "job"))),
        silent => Finding::warning(
            format!(
                "{}: accepted by their agents, and not armed again in time{stopped}",
                counted(silent, "job")
            ),
            "`nas-cron jobs list --state dormant` lists them; repair their agents, then `nas-cron jobs nudge INSTANCE_ID JOB_ID` \
             fires a job once more; `nas-cron jobs dismiss INSTANCE_ID JOB_ID` if one has finished",
        ),
    }
}

/// Reports what is on hold: the first holds, and the number of all.
pub fn holds(holds: &[Hold], count: usize, now: DateTime<Utc>) -> Finding {
    if holds.is_empty() {
        return Finding::ok("none");
    }
    let line = |hold: &Hold| {
        let what = hold::named(hold.scope, &hold.scope_id, hold.job_id.as_deref());
        let reason = hold.reason.as_ref().map(|reason| format!(": {}", shortened(&printable(reason), 100)));
        format!("{what} has been on hold for {}{}", span(now - hold.created_at), reason.unwrap_or_default())
    };
    let mut lines: Vec<_> = holds.iter().take(NAMED_HOLDS).map(line).collect();
    if count > lines.len() {
        lines.push(format!("and {} more", count - lines.len()));
    }
    Finding::warning(
        lines.join("\n"),
        "`nas-cron hold list` shows the parked one-shots; `nas-cron release --instance INSTANCE_ID`, `--org` or `--all` ends a \
         hold",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn overdue_is_wrong_after_the_grace_period() {
        let grace = Duration::from_secs(5);
        for (oldest, status) in
            [(0, Status::Ok), (900, Status::Ok), (34_900, Status::Ok), (35_100, Status::Wrong)]
        {
            assert_eq!(overdue(Duration::from_millis(oldest), grace).status, status, "{oldest}");
        }
        assert_eq!(overdue(Duration::MAX, grace).status, Status::Wrong);
    }

    #[test]
    fn silent_jobs_are_a_warning_and_stopped_ones_are_not() {
        let (silent, stopped) = ((DormantReason::Silent, 1), (DormantReason::GatewayStopped, 2));
        assert_eq!(dormant(&[]).found, "none");
        let on_purpose = dormant(&[stopped, (DormantReason::Withheld, 1)]);
        assert_eq!((on_purpose.status, on_purpose.found.as_str()), (Status::Ok, "3 jobs stopped on purpose"));
        let both = dormant(&[silent, stopped]);
        assert_eq!(both.status, Status::Warning);
        assert_eq!(
            both.found,
            "1 job: accepted by their agents, and not armed again in time; 2 further jobs stopped on purpose"
        );
    }

    #[test]
    fn dead_letters_that_were_not_all_counted_are_that_many_or_more() {
        let of = |count| Count::up_to(count, 100);
        assert_eq!(dead_letters(of(0), of(0)).found, "none");
        assert_eq!(dead_letters(of(1), of(2)).found, "1 dead letter, 2 stuck: these jobs do not run");
        assert_eq!(
            dead_letters(of(100), of(0)).found,
            "100 or more dead letters, 0 stuck: these jobs do not run"
        );
    }

    #[test]
    fn holds_are_named_up_to_a_limit() {
        use crate::domain::HoldScope;

        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let hold = |scope, scope_id: String| Hold {
            scope,
            scope_id,
            job_id: None,
            reason: Some("maintenance".to_owned()),
            created_at: now - TimeDelta::minutes(5),
        };
        let one = holds(&[hold(HoldScope::All, String::new())], 1, now);
        assert_eq!(one.found, "the whole service has been on hold for 5 min: maintenance");
        let many: Vec<_> = (0..7).map(|n| hold(HoldScope::Org, n.to_string())).collect();
        assert!(holds(&many[..6], 7, now).found.ends_with("\nand 2 more"));
    }
}
