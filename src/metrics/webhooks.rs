//! Events, and their delivery to webhooks.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::domain::event::EventType;

const EVENTS: &str = "nas_cron_events_total";
const ATTEMPTS: &str = "nas_cron_webhook_attempts_total";
const PENDING: &str = "nas_cron_webhook_pending_deliveries";
const FAILED: &str = "nas_cron_failed_webhooks";

/// The results of attempts.
const RESULTS: [&str; 4] = ["delivered", "failed", "refused", "gone"];

pub(super) fn describe() {
    describe_counter!(EVENTS, "Events created, by type. One event reports any number of facts");
    describe_counter!(
        ATTEMPTS,
        "Attempts to deliver an event to a webhook, by outcome: delivered, failed (repeated later), refused (not repeated), \
         gone (the webhook was disabled)"
    );
    describe_gauge!(PENDING, "Deliveries of events that wait for their webhook, at most 10000");
    describe_gauge!(FAILED, "Webhooks that failed, because they accepted nothing for three days");
    for kind in EventType::WORDS {
        counter!(EVENTS, "type" => *kind).increment(0);
    }
    for result in RESULTS {
        counter!(ATTEMPTS, "outcome" => result).increment(0);
    }
}

/// Records an event that was created.
pub fn event_made(kind: &str) {
    counter!(EVENTS, "type" => kind.to_owned()).increment(1);
}

/// Records an attempt to deliver an event: one of `delivered`, `failed`, `refused` and `gone`.
pub fn webhook_attempted(outcome: &'static str) {
    counter!(ATTEMPTS, "outcome" => outcome).increment(1);
}

/// Sets the number of deliveries that wait, and of webhooks that failed.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub fn set_webhooks(pending: i64, failed: i64) {
    gauge!(PENDING).set(pending as f64);
    gauge!(FAILED).set(failed as f64);
}
