//! The interface of a JWKS fetch: its function, result and limits.

use std::time::Duration;

use futures::future::BoxFuture;

use super::fetch_error::FetchError;
use super::key_set::KeySet;

/// Limits on fetching. The defaults are those of the contract.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Minimum time between the starts of two fetches, if the first got a response.
    pub spacing: Duration,
    /// Time from the end of a fetch without a response to the next.
    pub retry: Duration,
    /// Minimum time between refreshes, whatever the `max-age`.
    pub min_age: Duration,
    /// Maximum time between refreshes.
    pub max_age: Duration,
    /// Maximum number of requests that wait for a fetch. All wait for the same fetch; each costs a parked task.
    pub waiters: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            spacing: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            min_age: Duration::from_mins(1),
            max_age: Duration::from_hours(1),
            waiters: 10_000,
        }
    }
}

/// The result of a fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    /// At least one usable key.
    pub(super) keys: KeySet,
    /// The response's `max-age`, if it has one.
    pub(super) max_age: Option<Duration>,
}

/// Runs one fetch.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Fetched, FetchError>> + Send + Sync>;
