//! Records the use of tasks, which extends their lifetime. This happens after the response, with one statement for many
//! tasks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::TaskId;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::db::Db;
use crate::db::identities::tasks;

/// Maximum number of tasks that wait to be recorded. Further ones are recorded at their next use.
const MAX_WAITING: usize = 4_096;
/// Timeout of one statement.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The tasks that this replica has used since the last statement.
#[derive(Debug, Default)]
pub(super) struct InUse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: HashSet<TaskId>,
    recording: bool,
}

impl InUse {
    /// Records a use. At most one statement per replica is in flight; tasks that are used meanwhile go into the next.
    pub(super) fn note(self: &Arc<Self>, task_id: TaskId, db: &Db, lifetime: Duration) {
        let mut state = self.state();
        if state.waiting.len() < MAX_WAITING {
            state.waiting.insert(task_id);
        }
        if !state.recording {
            state.recording = true;
            tokio::spawn(Recorder(Some(Arc::clone(self))).record(db.clone(), lifetime));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// The task that records uses. When it ends in any way, it clears `recording`, so that the next use starts another.
struct Recorder(Option<Arc<InUse>>);

impl Recorder {
    async fn record(mut self, db: Db, lifetime: Duration) {
        while let Some(tasks) = self.take() {
            let error = match timeout(TIMEOUT, tasks::touch(&db, &tasks, lifetime)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            tracing::debug!(error, "recording the use of tasks failed; retrying at their next use");
        }
    }

    /// Takes the waiting tasks. Returns `None` and clears `recording` if there are none.
    fn take(&mut self) -> Option<Vec<TaskId>> {
        let in_use = self.0.take()?;
        let mut state = in_use.state();
        state.recording = !state.waiting.is_empty();
        let tasks = state.recording.then(|| state.waiting.drain().collect());
        drop(state);
        // Without tasks, `drop` must not clear `recording`: another recorder may have started.
        self.0 = tasks.is_some().then_some(in_use);
        tasks
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(in_use) = &self.0 {
            in_use.state().recording = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::db::DbOptions;

    #[tokio::test]
    async fn hanging_statement_does_not_block_later_ones() {
        // Accepts connections and never responds.
        let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let db = Db::new(&DbOptions {
            url: format!("postgres://nobody@{}/none", hung.local_addr().unwrap()).into(),
            max_connections: 1,
            acquire_timeout: Duration::from_hours(1),
        })
        .unwrap();
        let in_use = Arc::new(InUse::default());
        tokio::time::pause();
        in_use.note(TaskId::fresh(), &db, Duration::from_hours(1));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(in_use.state().recording);
        tokio::time::sleep(TIMEOUT * 2).await;
        assert!(!in_use.state().recording);
    }

    #[test]
    fn aborted_recorder_lets_the_next_one_start() {
        let in_use = Arc::new(InUse::default());
        in_use.state().recording = true;
        in_use.state().waiting.insert(TaskId::fresh());
        let mut recorder = Recorder(Some(Arc::clone(&in_use)));
        assert!(recorder.take().is_some());
        drop(recorder);
        assert!(!in_use.state().recording);
        // A recorder that has ended does not change the state.
        let mut recorder = Recorder(Some(Arc::clone(&in_use)));
        assert!(recorder.take().is_none());
        in_use.state().recording = true;
        drop(recorder);
        assert!(in_use.state().recording);
    }
}
