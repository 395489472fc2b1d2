//! How a wake-up enters: below any signature check, the same for every backend.

use std::sync::Arc;

use crate::db::DbResult;
use crate::scheduler::{Scheduler, Wake, Woken};

/// Where a backend hands in the wake-ups that it brings.
#[derive(Clone, Debug)]
pub struct Wakes {
    scheduler: Arc<Scheduler>,
}

impl Wakes {
    /// Into this scheduler.
    pub fn new(scheduler: Arc<Scheduler>) -> Self {
        Self { scheduler }
    }

    /// Takes in a batch: one answer per wake-up, in order. When it returns, what was [taken](Woken::Taken) is
    /// durably our own loop's, whatever happens to this process: the engine has done its part.
    ///
    /// Fails when the database is away, and then nothing was taken.
    pub async fn wake(&self, wakes: &[Wake]) -> DbResult<Vec<Woken>> {
        self.scheduler.wake(wakes).await
    }
}
