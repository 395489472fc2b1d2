//! A circuit breaker for an endpoint: after a failure, callers with a cached response use it without waiting.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::fetch_error::FetchError;

/// Time for which the circuit stays open after a failure.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// Maximum wait for a response if a stale cached one may be used instead.
pub(super) const FALLBACK_WAIT: Duration = Duration::from_secs(2);

/// Returns the pause before a retry, with jitter, so that callers that failed together do not retry together.
pub(super) fn pause() -> Duration {
    Duration::from_millis(rand::random_range(500..=1_000))
}

/// Open after a failed call, closed after a successful one.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    /// The endpoint, for the log.
    endpoint: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    /// Time of the next probe while the circuit is open.
    next_probe: Option<Instant>,
}

impl CircuitBreaker {
    pub(super) fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), state: Mutex::default() }
    }

    /// True if the last call failed less than [`OPEN_FOR`] ago.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.open_until.is_some_and(|until| Instant::now() < until)
    }

    /// True if a caller with a cached response may call: always while the circuit is closed, and once per [`OPEN_FOR`]
    /// while it is open.
    pub(super) fn may_probe(&self) -> bool {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.open_until.is_none_or(|until| now >= until) {
            return true;
        }
        let is_due = state.next_probe.is_none_or(|next| now >= next);
        if is_due {
            state.next_probe = Some(now + OPEN_FOR);
        }
        is_due
    }

    /// Records the result of a call.
    pub(super) fn record<T>(&self, response: &Result<T, FetchError>) {
        let mut state = self.state.lock();
        let Err(error) = response else {
            if state.failures > 0 {
                tracing::info!(endpoint = self.endpoint, failures = state.failures, "endpoint recovered");
            }
            *state = State::default();
            return;
        };
        state.failures = state.failures.saturating_add(1);
        state.open_until = Some(Instant::now() + OPEN_FOR);
        // Log the failures number 1, 2, 4, 8, … in a row.
        if state.failures.is_power_of_two() {
            let failures = state.failures;
            tracing::warn!(endpoint = self.endpoint, %error, failures, "endpoint call failed; until it recovers, only cached responses are used");
        }
    }
}
