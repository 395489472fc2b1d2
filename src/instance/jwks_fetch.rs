//! What a fetch of a JWKS is: the function that makes it, what it brings, and how often it is made.

use std::time::Duration;

use futures::future::BoxFuture;

use super::fetch_error::FetchError;
use super::key_set::KeySet;

/// Bounds on fetching. The contract's by default.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// From the beginning of one answered fetch to that of the next.
    pub spacing: Duration,
    /// From the end of a fetch that nobody answered to the next.
    pub retry: Duration,
    /// A set is refreshed no sooner than this, whatever its `max-age`.
    pub min_age: Duration,
    /// A set is refreshed no later than this.
    pub max_age: Duration,
    /// How many requests may wait for a fetch at once. All wait for the same one and cost a parked task each.
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

/// What a fetch brought.
#[derive(Debug)]
pub(super) struct Fetched {
    /// At least one usable key.
    pub(super) keys: KeySet,
    /// How long the answer may be cached, where it says so.
    pub(super) max_age: Option<Duration>,
}

/// Makes one fetch.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Fetched, FetchError>> + Send + Sync>;
