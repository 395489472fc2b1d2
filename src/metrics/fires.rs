//! Attempts, and the leases that they stand on.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::labels::status_class;
use crate::domain::{Deferral, FireOutcome};

const FIRES: &str = "nas_cron_fires_total";
const FIRES_PUT_OFF: &str = "nas_cron_fires_put_off_total";
const FIRE_LATENESS: &str = "nas_cron_fire_lateness_seconds";
const FIRE_ATTEMPT: &str = "nas_cron_fire_attempt_seconds";
const LEASE_LOST: &str = "nas_cron_lease_lost_total";
const RECOVERED: &str = "nas_cron_recovered_total";
const IN_FLIGHT: &str = "nas_cron_in_flight";
const DB_CLOCK_OFFSET: &str = "nas_cron_db_clock_offset_seconds";
/// From well below a good lateness to an outage, in seconds.
const LATENESS_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0, 3600.0,
];
/// From a warm agent next door to one that boots until the deadline, in seconds.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// The buckets of the histograms.
pub(super) const BUCKETS: &[(&str, &[f64])] =
    &[(FIRE_LATENESS, LATENESS_BUCKETS), (FIRE_ATTEMPT, ATTEMPT_BUCKETS)];

pub(super) fn describe() {
    describe_counter!(
        FIRES,
        "Attempts that ended, by how: delivered, gone, failed, lost (its replica did not record its end in time)"
    );
    describe_counter!(
        FIRES_PUT_OFF,
        "Attempts that were put off because this service was short of something, by reason; the agent has no part in \
         them, and they are not counted as attempts"
    );
    describe_histogram!(
        FIRE_LATENESS,
        Unit::Seconds,
        "From the moment at which a one-shot could have been fired to the start of its first attempt. Left out: what was \
         armed after its instant, parked since or redriven, retries and second fires (see nas_cron_due_one_shots and \
         nas_cron_parked_one_shots)"
    );
    describe_histogram!(
        FIRE_ATTEMPT,
        Unit::Seconds,
        "Length of an attempt, by the class of the agent's status"
    );
    describe_counter!(LEASE_LOST, "Attempts whose lease another claim had taken when they ended");
    describe_counter!(RECOVERED, "One-shots taken over from leases that expired");
    describe_gauge!(IN_FLIGHT, "Attempts under way in this replica");
    describe_gauge!(DB_CLOCK_OFFSET, Unit::Seconds, "The database's clock minus this replica's");
    counter!(LEASE_LOST).increment(0);
    counter!(RECOVERED).increment(0);
    gauge!(IN_FLIGHT).set(0.0);
    for reason in Deferral::ALL {
        counter!(FIRES_PUT_OFF, "reason" => reason.as_str()).increment(0);
    }
    for outcome in FireOutcome::ALL.iter().filter(|outcome| **outcome != FireOutcome::Started) {
        counter!(FIRES, "outcome" => outcome.as_str()).increment(0);
    }
}

/// An attempt ended: how, with which status of the agent (`None`: no answer), after how long.
pub fn fire_ended(outcome: FireOutcome, status: Option<u16>, took: Duration) {
    counter!(FIRES, "outcome" => outcome.as_str()).increment(1);
    histogram!(FIRE_ATTEMPT, "status_class" => status_class(status)).record(took);
}

/// Attempts were put off by our own fault.
pub fn attempts_deferred(reason: Deferral, count: u64) {
    counter!(FIRES_PUT_OFF, "reason" => reason.as_str()).increment(count);
}

/// The first attempt of a fire started that long after it could have.
pub fn fire_started(lateness: Duration) {
    histogram!(FIRE_LATENESS).record(lateness);
}

/// Attempts whose end nobody saw, as their replica is gone.
pub fn fires_lost(count: u64) {
    counter!(FIRES, "outcome" => FireOutcome::Lost.as_str()).increment(count);
}

/// Attempts ended whose lease another claim holds.
pub fn leases_lost(count: u64) {
    counter!(LEASE_LOST).increment(count);
}

/// One-shots were taken over from expired leases.
pub fn recovered(count: u64) {
    counter!(RECOVERED).increment(count);
}

/// The database's clock minus ours, in seconds.
pub fn set_db_clock_offset(seconds: f64) {
    gauge!(DB_CLOCK_OFFSET).set(seconds);
}

/// Counts one attempt under way for as long as it lives.
#[derive(Debug)]
#[must_use = "counts only while it lives"]
pub struct InFlight(());

impl InFlight {
    /// One more.
    pub fn begin() -> Self {
        gauge!(IN_FLIGHT).increment(1.0);
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT).decrement(1.0);
    }
}
