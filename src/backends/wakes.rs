//! How a wake-up enters: below any signature check, the same for every backend.

use std::sync::Arc;

use futures::future::try_join_all;
use nas_cron_protocol::BackendName;

use crate::domain::wake_up::Wake;
use crate::metrics;
use crate::scheduler::{Scheduler, WakeError, Woken};

/// Where a backend hands in the wake-ups that it brings.
#[derive(Clone, Debug)]
pub struct Wakes {
    backend: BackendName,
    scheduler: Arc<Scheduler>,
}

impl Wakes {
    /// From `backend` into `scheduler`.
    pub fn new(backend: BackendName, scheduler: Arc<Scheduler>) -> Self {
        Self { backend, scheduler }
    }

    /// Takes in a wake-up. When it returns `Ok` the backend has done its part: the one-shot is durably our own
    /// loop's, whatever happens to this process. When it fails, nothing has changed.
    pub async fn wake(&self, wake: Wake) -> Result<Woken, WakeError> {
        let woken = self.scheduler.wake(wake).await?;
        metrics::woken(self.backend, woken.as_str());
        Ok(woken)
    }

    /// Takes in a batch: one answer each, in order. All of them, or none of those that failed: a batch that failed is
    /// harmless to hand in again.
    pub async fn wake_all(&self, wakes: impl IntoIterator<Item = Wake>) -> Result<Vec<Woken>, WakeError> {
        try_join_all(wakes.into_iter().map(|wake| self.wake(wake))).await
    }
}
