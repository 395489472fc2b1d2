//! The consequences of an attempt: a pure function.

use std::time::Duration;

use crate::domain::webhook::{DeliveryState, Outcome, Sent, WebhookEnd};

/// Delay of the first retry. Each further one is four times as long.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Maximum delay of a retry, and maximum `Retry-After` that is respected.
const LONGEST_RETRY: Duration = Duration::from_hours(1);
/// Time for which an event is repeated that the receiver rejects. Then the next event has its turn.
pub const REFUSED_AFTER: Duration = Duration::from_hours(1);
/// Time without an accepted event after which a webhook fails.
pub const FAILED_AFTER: Duration = Duration::from_hours(72);

/// The history before an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Number of failed attempts of the webhook since its latest accepted one.
    pub failures: u32,
    /// Time since the first of them.
    pub failing_for: Duration,
    /// Time since the first attempt of this event.
    pub tried_for: Duration,
}

/// Decides what follows from an attempt. `jitter` is a random number from 0 to 1.
pub fn judge(sent: &Sent, before: Before, jitter: f64) -> Outcome {
    let pending = |next_in, ends| Outcome { state: DeliveryState::Pending, accepted: false, next_in, ends };
    if sent.error.is_none() {
        return Outcome {
            state: DeliveryState::Delivered,
            accepted: true,
            next_in: Duration::ZERO,
            ends: None,
        };
    }
    if sent.status == Some(410) {
        return pending(Duration::ZERO, Some(WebhookEnd::Gone));
    }
    if before.failing_for >= FAILED_AFTER {
        return pending(Duration::ZERO, Some(WebhookEnd::Failing));
    }
    if is_refusal(sent.status) && before.tried_for >= REFUSED_AFTER {
        return Outcome { state: DeliveryState::Refused, ..pending(Duration::ZERO, None) };
    }
    pending(retry_in(before.failures, sent.retry_after, jitter), None)
}

/// True if the receiver works but rejects this event: a repetition hardly helps.
fn is_refusal(status: Option<u16>) -> bool {
    status.is_some_and(|status| (300..500).contains(&status) && !matches!(status, 408 | 425 | 429))
}

/// Returns the delay of the next attempt: exponential, between 80 % and 120 %, at least what the receiver asked for.
fn retry_in(failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let delay = FIRST_RETRY.saturating_mul(4_u32.saturating_pow(failures)).min(LONGEST_RETRY);
    let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY);
    delay.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0)).max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(status: Option<u16>) -> Sent {
        let accepted = status.is_some_and(|status| (200..300).contains(&status));
        Sent {
            started_at: chrono::DateTime::UNIX_EPOCH,
            took: Duration::ZERO,
            status,
            error: (!accepted).then(|| "it failed".to_owned()),
            retry_after: None,
        }
    }

    fn before(failures: u32, failing_for: Duration, tried_for: Duration) -> Before {
        Before { failures, failing_for, tried_for }
    }

    const NEW: Before = Before { failures: 0, failing_for: Duration::ZERO, tried_for: Duration::ZERO };

    #[test]
    fn retries_are_four_times_as_long_each_up_to_an_hour() {
        let delays: Vec<u64> = (0..8).map(|failures| retry_in(failures, None, 0.5).as_secs()).collect();
        assert_eq!(delays, [5, 20, 80, 320, 1280, 3600, 3600, 3600]);
        assert_eq!(retry_in(u32::MAX, None, 1.0), LONGEST_RETRY.mul_f64(1.2));
        assert_eq!(retry_in(0, None, 0.0), Duration::from_secs(4));
    }

    #[test]
    fn retry_after_is_respected_up_to_an_hour() {
        assert_eq!(retry_in(0, Some(Duration::from_secs(90)), 0.5), Duration::from_secs(90));
        assert_eq!(retry_in(0, Some(Duration::from_hours(9)), 0.5), LONGEST_RETRY);
        assert_eq!(retry_in(3, Some(Duration::from_secs(1)), 0.5), Duration::from_secs(320));
    }

    #[test]
    fn accepted_event_is_delivered() {
        for status in [200, 202, 204] {
            let outcome = judge(&sent(Some(status)), before(9, FAILED_AFTER, FAILED_AFTER), 0.5);
            assert!(outcome.accepted && outcome.state == DeliveryState::Delivered && outcome.ends.is_none());
        }
    }

    #[test]
    fn rejected_event_makes_room_for_the_next_one_after_an_hour() {
        for status in [301, 400, 401, 404, 422] {
            let status = Some(status);
            assert_eq!(judge(&sent(status), NEW, 0.5).state, DeliveryState::Pending);
            let outcome = judge(&sent(status), before(7, REFUSED_AFTER, REFUSED_AFTER), 0.5);
            assert_eq!((outcome.state, outcome.next_in), (DeliveryState::Refused, Duration::ZERO));
        }
        // The receiver is down or busy: the order is kept.
        for status in [None, Some(500), Some(503), Some(408), Some(425), Some(429)] {
            let outcome = judge(&sent(status), before(7, REFUSED_AFTER, REFUSED_AFTER), 0.5);
            assert_eq!((outcome.state, outcome.ends), (DeliveryState::Pending, None));
        }
    }

    #[test]
    fn webhook_ends_after_three_days_or_410() {
        let failing = before(70, FAILED_AFTER, FAILED_AFTER);
        for status in [None, Some(500), Some(404)] {
            let outcome = judge(&sent(status), failing, 0.5);
            assert_eq!((outcome.state, outcome.ends), (DeliveryState::Pending, Some(WebhookEnd::Failing)));
        }
        assert_eq!(judge(&sent(Some(410)), NEW, 0.5).ends, Some(WebhookEnd::Gone));
    }
}
