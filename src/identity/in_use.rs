//! Which tasks are in use: recorded, and renewed, behind the answers, many in one statement.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::db::Db;
use crate::db::identities::tasks;
use crate::domain::TaskId;

/// Tasks that wait to be recorded. What is beyond that is left to its next use.
const WAITING: usize = 4_096;

/// The tasks of this replica that were used since the last statement.
#[derive(Debug, Default)]
pub(super) struct InUse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: HashSet<TaskId>,
    recording: bool,
}

impl InUse {
    /// Notes a use. At most one statement of a replica is under way; what comes meanwhile goes into the next.
    pub(super) fn note(self: &Arc<Self>, task_id: TaskId, db: &Db, lifetime: Duration) {
        let mut state = self.state();
        if state.waiting.len() < WAITING {
            state.waiting.insert(task_id);
        }
        if !state.recording {
            state.recording = true;
            tokio::spawn(Arc::clone(self).record(db.clone(), lifetime));
        }
    }

    async fn record(self: Arc<Self>, db: Db, lifetime: Duration) {
        while let Some(tasks) = self.take() {
            if let Err(error) = tasks::touch(&db, &tasks, lifetime).await {
                tracing::debug!(%error, "the use of tasks was not recorded; their next use will be");
            }
        }
    }

    /// What waits; `None` when that is nothing, and then nobody is recording any more.
    fn take(&self) -> Option<Vec<TaskId>> {
        let mut state = self.state();
        state.recording = !state.waiting.is_empty();
        state.recording.then(|| state.waiting.drain().collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
