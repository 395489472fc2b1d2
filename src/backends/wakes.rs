//! The entry point for wake-ups. It is the same for every backend, and comes after any signature check.

use std::sync::Arc;

use futures::future::try_join_all;
use nas_cron_protocol::BackendName;

use crate::domain::wake_up::Wake;
use crate::metrics;
use crate::scheduler::{Scheduler, WakeError, Woken};

/// The entry point for the wake-ups of one backend.
#[derive(Clone, Debug)]
pub struct Wakes {
    backend: BackendName,
    scheduler: Arc<Scheduler>,
}

impl Wakes {
    /// Creates the entry point from `backend` into `scheduler`.
    pub fn new(backend: BackendName, scheduler: Arc<Scheduler>) -> Self {
        Self { backend, scheduler }
    }

    /// Processes a wake-up. After `Ok` the backend is no longer needed: the one-shot belongs durably to the built-in
    /// loop, even if this process dies. After an error, nothing has changed.
    pub async fn wake(&self, wake: Wake) -> Result<Woken, WakeError> {
        let woken = self.scheduler.wake(wake).await?;
        metrics::wake_up_received(self.backend, woken.as_str());
        Ok(woken)
    }

    /// Processes a batch. Returns one result per wake-up, in order, or the first error. It is harmless to repeat a
    /// batch that failed.
    pub async fn wake_all(&self, wakes: impl IntoIterator<Item = Wake>) -> Result<Vec<Woken>, WakeError> {
        try_join_all(wakes.into_iter().map(|wake| self.wake(wake))).await
    }
}
