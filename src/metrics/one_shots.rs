//! One-shots by state, and the reasons why some are not fired.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use nas_cron_protocol::{DeadReason, OneShotState, ParkReason};

use crate::domain::dormancy::DormantReason;
use crate::domain::hold::Withheld;
use crate::domain::one_shot::{DueKind, OneShotCounts};

const ONE_SHOTS: &str = "nas_cron_one_shots";
const PARKED: &str = "nas_cron_parked_one_shots";
const DUE: &str = "nas_cron_due_one_shots";
const OLDEST_OVERDUE: &str = "nas_cron_oldest_overdue_seconds";
const DEAD_LETTERS: &str = "nas_cron_dead_letters";
const EXPIRED: &str = "nas_cron_one_shots_expired_total";
const DORMANT: &str = "nas_cron_dormant_jobs";
const HOLDS: &str = "nas_cron_holds";
const WITHHELD: &str = "nas_cron_withheld_instances";

pub(super) fn describe() {
    describe_gauge!(ONE_SHOTS, "One-shots by state");
    describe_gauge!(
        PARKED,
        "One-shots that came due but are not attempted, by reason: hold (of the service, an org or an instance, or because \
         the instance is disabled or denied), unreachable"
    );
    describe_gauge!(
        DUE,
        "One-shots that are due and not in flight, by kind: punctual, armed_late (armed after their instant), released \
         (after a hold, an outage or a redrive), again (retries and second fires); only punctual ones can be late"
    );
    describe_gauge!(
        OLDEST_OVERDUE,
        Unit::Seconds,
        "Age of the oldest overdue first attempt, 0 if none is overdue. Excludes one-shots that were armed after their \
         instant, parked or redriven, and retries and second fires (see nas_cron_due_one_shots and \
         nas_cron_parked_one_shots)"
    );
    describe_gauge!(
        DEAD_LETTERS,
        "Dead letters that were not yet redriven or superseded, by reason: budget_spent (the retry budget), expired (their \
         not_after has passed)"
    );
    describe_counter!(EXPIRED, "One-shots that became dead letters because their not_after has passed");
    counter!(EXPIRED).increment(0);
    describe_gauge!(
        DORMANT,
        "Jobs whose agents have not armed the next fire in time, by reason: silent (unknown), gateway_stopped, withheld \
         (disabled, denied or on hold); at most 10,000 are counted"
    );
    describe_gauge!(HOLDS, "Active holds, by scope: all (the whole service), org, instance");
    describe_gauge!(
        WITHHELD,
        "Instances whose fires are withheld, by reason: unreachable (one one-shot probes the instance), disabled (by an \
         operator), denied (by the portal)"
    );
}

/// Sets the gauges of one-shots. A state, kind or reason missing from `counts` is set to 0.
pub fn set_one_shots(counts: &OneShotCounts) {
    for state in OneShotState::ALL {
        gauge!(ONE_SHOTS, "state" => state.as_str()).set(sum(&counts.states, state));
    }
    for reason in ParkReason::ALL {
        gauge!(PARKED, "reason" => reason.as_str()).set(sum(&counts.parked, reason));
    }
    for kind in DueKind::ALL {
        gauge!(DUE, "kind" => kind.as_str()).set(sum(&counts.due, kind));
    }
    gauge!(OLDEST_OVERDUE).set(counts.oldest_overdue);
    for reason in DeadReason::ALL {
        gauge!(DEAD_LETTERS, "reason" => reason.as_str()).set(sum(&counts.dead_letters, reason));
    }
}

/// Sets the gauge of dormant jobs. A reason missing from `counts` is set to 0.
pub fn set_dormant(counts: &[(DormantReason, i64)]) {
    for reason in DormantReason::ALL {
        gauge!(DORMANT, "reason" => reason.as_str()).set(sum(counts, reason));
    }
}

/// Counts one-shots that have expired.
pub fn expired(count: u64) {
    counter!(EXPIRED).increment(count);
}

/// Sets the gauges of holds and withheld instances.
pub fn set_withheld(withheld: &Withheld) {
    for (scope, count) in &withheld.holds {
        gauge!(HOLDS, "scope" => scope.as_str()).set(as_f64(*count));
    }
    let Withheld { unreachable, disabled, denied, .. } = *withheld;
    for (reason, count) in [("unreachable", unreachable), ("disabled", disabled), ("denied", denied)] {
        gauge!(WITHHELD, "reason" => reason).set(as_f64(count));
    }
}

fn sum<T: PartialEq>(counts: &[(T, i64)], of: &T) -> f64 {
    as_f64(counts.iter().filter(|one| one.0 == *of).map(|one| one.1).sum())
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
fn as_f64(count: i64) -> f64 {
    count as f64
}
