//! A circuit breaker for an endpoint: after a failure, callers that can do without an answer stop waiting for one.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::fetch_error::FetchError;

/// How long the circuit stays open after a failure.
const REST: Duration = Duration::from_secs(5);

/// How long an answer is waited for where there is an older one that may be used instead.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before asking again what was not answered: spread, so that those who failed together do not come
/// back together.
pub(super) fn pause() -> Duration {
    Duration::from_millis(rand::random_range(500..=1_000))
}

/// Open after a failed call, closed after a successful one.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    /// The endpoint, for the log.
    what: String,
    lately: Mutex<Lately>,
}

#[derive(Debug, Default)]
struct Lately {
    failures: u32,
    rests_until: Option<Instant>,
    /// Until when nobody else asks who can do without the answer.
    tried_until: Option<Instant>,
}

impl CircuitBreaker {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), lately: Mutex::default() }
    }

    /// Returns whether the last call failed less than [`REST`] ago.
    pub(super) fn is_open(&self) -> bool {
        let lately = self.lately.lock();
        lately.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns whether a caller that can do without the answer may call: while the circuit is open, one per [`REST`].
    pub(super) fn may_probe(&self) -> bool {
        let mut lately = self.lately.lock();
        let now = Instant::now();
        if lately.rests_until.is_none_or(|until| now >= until) {
            return true;
        }
        let free = lately.tried_until.is_none_or(|until| now >= until);
        if free {
            lately.tried_until = Some(now + REST);
        }
        free
    }

    /// Records how a call ended.
    pub(super) fn record<T>(&self, answer: &Result<T, FetchError>) {
        let mut lately = self.lately.lock();
        let Err(error) = answer else {
            if lately.failures > 0 {
                tracing::info!(endpoint = self.what, failures = lately.failures, "it answers again");
            }
            *lately = Lately::default();
            return;
        };
        lately.failures = lately.failures.saturating_add(1);
        lately.rests_until = Some(Instant::now() + REST);
        // The first of a row, then ever more rarely.
        if lately.failures.is_power_of_two() {
            let failures = lately.failures;
            tracing::warn!(endpoint = self.what, %error, failures, "it could not be asked: what is remembered is used");
        }
    }
}
