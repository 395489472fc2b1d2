//! Which tasks are in use: recorded, and renewed, behind the answers, many in one statement.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::TaskId;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::db::Db;
use crate::db::identities::tasks;

/// Tasks that wait to be recorded. What is beyond that is left to its next use.
const WAITING: usize = 4_096;
/// How long one statement may take.
const LIMIT: Duration = Duration::from_secs(10);

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
            tokio::spawn(Recorder(Some(Arc::clone(self))).record(db.clone(), lifetime));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// Whoever records. However it ends, the next use finds nobody recording: none would be renewed any more.
struct Recorder(Option<Arc<InUse>>);

impl Recorder {
    async fn record(mut self, db: Db, lifetime: Duration) {
        while let Some(tasks) = self.take() {
            let error = match timeout(LIMIT, tasks::touch(&db, &tasks, lifetime)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(late) => late.to_string(),
            };
            tracing::debug!(error, "the use of tasks was not recorded; their next use will be");
        }
    }

    /// What waits; `None` when that is nothing, and then nobody is recording any more.
    fn take(&mut self) -> Option<Vec<TaskId>> {
        let in_use = self.0.take()?;
        let mut state = in_use.state();
        state.recording = !state.waiting.is_empty();
        let tasks = state.recording.then(|| state.waiting.drain().collect());
        drop(state);
        // At the end there is nothing left to put right: somebody else may have begun.
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
    async fn a_statement_that_hangs_holds_up_no_later_one() {
        // It takes connections, and never says a word.
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
        tokio::time::sleep(LIMIT * 2).await;
        assert!(!in_use.state().recording);
    }

    #[test]
    fn a_recorder_that_breaks_leaves_the_place_to_the_next() {
        let in_use = Arc::new(InUse::default());
        in_use.state().recording = true;
        in_use.state().waiting.insert(TaskId::fresh());
        let mut recorder = Recorder(Some(Arc::clone(&in_use)));
        assert!(recorder.take().is_some());
        drop(recorder);
        assert!(!in_use.state().recording);
        // One that has ended touches nothing any more.
        let mut recorder = Recorder(Some(Arc::clone(&in_use)));
        assert!(recorder.take().is_none());
        in_use.state().recording = true;
        drop(recorder);
        assert!(in_use.state().recording);
    }
}
