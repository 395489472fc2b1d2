//! How an endpoint has done lately: whether it is worth waiting for, and what is said of it in the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::portal_jwks::FetchError;

/// After a failure nobody who can do without it waits for it for so long.
const REST: Duration = Duration::from_secs(5);

/// How long an answer is waited for where there is an older one that may be used instead.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before asking again what was not answered: spread, so that those who failed together do not come
/// back together.
pub(super) fn pause() -> Duration {
    Duration::from_millis(rand::random_range(500..=1_000))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Standing {
    /// What it is, for the log.
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

impl Standing {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), lately: Mutex::default() }
    }

    /// Whether its last call failed, a moment ago.
    pub(super) fn is_away(&self) -> bool {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether it may be asked by somebody who can do without the answer: while it is away, one in so long may.
    pub(super) fn may_be_tried(&self) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Takes note of how a call ended.
    pub(super) fn note<T>(&self, answer: &Result<T, FetchError>) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
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
