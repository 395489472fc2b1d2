//! Delivery attempts and their leases.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::labels::status_class;
use crate::domain::{Deferral, FireOutcome};

const FIRES: &str = "nas_cron_fires_total";
const ATTEMPTS_DEFERRED: &str = "nas_cron_attempts_deferred_total";
const FIRE_LATENESS: &str = "nas_cron_fire_lateness_seconds";
const ATTEMPT_DURATION: &str = "nas_cron_fire_attempt_duration_seconds";
const LEASES_LOST: &str = "nas_cron_leases_lost_total";
const RECOVERED: &str = "nas_cron_one_shots_recovered_total";
const DEAD_REPLICAS: &str = "nas_cron_dead_replicas_total";
const IN_FLIGHT: &str = "nas_cron_attempts_in_flight";
const IN_FLIGHT_MAX: &str = "nas_cron_attempts_in_flight_max";
const DATABASE_CLOCK_OFFSET: &str = "nas_cron_database_clock_offset_seconds";
/// Seconds, from well below normal lateness to a long outage.
const LATENESS_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0, 3600.0,
];
/// Seconds, from a running agent nearby to one that boots until the deadline.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// Buckets of the histograms.
pub(super) const BUCKETS: &[(&str, &[f64])] =
    &[(FIRE_LATENESS, LATENESS_BUCKETS), (ATTEMPT_DURATION, ATTEMPT_BUCKETS)];

pub(super) fn describe() {
    describe_counter!(
        FIRES,
        "Delivery attempts whose end is recorded, by outcome: delivered, gone, dropped (the agent's gateway is stopped), duplicate (refused by \
         the agent), failed, lost (the replica did not record the outcome in time)"
    );
    describe_counter!(
        ATTEMPTS_DEFERRED,
        "Delivery attempts that nas-cron deferred because of a shortage of its own, by reason; the agent was not called, and \
         they do not count as attempts"
    );
    describe_histogram!(
        FIRE_LATENESS,
        Unit::Seconds,
        "Time from the instant at which a one-shot could have been fired to the start of its first attempt. Excludes \
         one-shots that were armed after their instant, parked or redriven, and retries and second fires (see \
         nas_cron_due_one_shots and nas_cron_parked_one_shots)"
    );
    describe_histogram!(
        ATTEMPT_DURATION,
        Unit::Seconds,
        "Duration of a delivery attempt, by class of the response status"
    );
    describe_counter!(LEASES_LOST, "Attempts whose lease had been taken by another claim when they ended");
    describe_counter!(RECOVERED, "One-shots recovered from expired leases");
    describe_counter!(DEAD_REPLICAS, "Replicas that this one declared dead, to recover their attempts");
    describe_gauge!(IN_FLIGHT, "Delivery attempts in flight in this replica");
    describe_gauge!(IN_FLIGHT_MAX, "Maximum number of delivery attempts in flight in this replica");
    describe_gauge!(DATABASE_CLOCK_OFFSET, Unit::Seconds, "Database clock minus this replica's clock");
    counter!(LEASES_LOST).increment(0);
    counter!(RECOVERED).increment(0);
    counter!(DEAD_REPLICAS).increment(0);
    gauge!(IN_FLIGHT).set(0.0);
    for reason in Deferral::ALL {
        counter!(ATTEMPTS_DEFERRED, "reason" => reason.as_str()).increment(0);
    }
    for outcome in FireOutcome::ALL {
        counter!(FIRES, "outcome" => outcome.as_str()).increment(0);
    }
}

/// Records the end of an attempt whose outcome is durable: its outcome, the response status (`None` without a response) and its duration.
pub fn fire_ended(outcome: FireOutcome, status: Option<u16>, took: Duration) {
    counter!(FIRES, "outcome" => outcome.as_str()).increment(1);
    histogram!(ATTEMPT_DURATION, "status_class" => status_class(status)).record(took);
}

/// Records attempts that nas-cron deferred because of a shortage of its own.
pub fn attempts_deferred(reason: Deferral, count: u64) {
    counter!(ATTEMPTS_DEFERRED, "reason" => reason.as_str()).increment(count);
}

/// Records the start of a one-shot's first attempt, `lateness` after it could have been fired.
pub fn fire_started(lateness: Duration) {
    histogram!(FIRE_LATENESS).record(lateness);
}

/// Records attempts whose outcome is unknown because their replica died or stalled.
pub fn fires_lost(count: u64) {
    counter!(FIRES, "outcome" => FireOutcome::Lost.as_str()).increment(count);
}

/// Records attempts that ended after another claim had taken their lease.
pub fn leases_lost(count: u64) {
    counter!(LEASES_LOST).increment(count);
}

/// Records one-shots that were recovered from expired leases.
pub fn recovered(count: u64) {
    counter!(RECOVERED).increment(count);
}

/// Records a replica that this one declared dead.
pub fn replica_died() {
    counter!(DEAD_REPLICAS).increment(1);
}

/// Sets the maximum number of attempts in flight in this replica.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub fn set_in_flight_max(max: usize) {
    gauge!(IN_FLIGHT_MAX).set(max as f64);
}

/// Sets the database clock minus this replica's clock, in seconds.
pub fn set_db_clock_offset(seconds: f64) {
    gauge!(DATABASE_CLOCK_OFFSET).set(seconds);
}

/// Guard that counts one attempt in flight until it is dropped.
#[derive(Debug)]
#[must_use = "counts only until it is dropped"]
pub struct InFlight(());

impl InFlight {
    /// Counts one more attempt in flight.
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
