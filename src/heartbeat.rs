//! Supervision of the loops that must never stop.
//!
//! A supervised loop is either at work or at rest. At work it beats with every step: each end of a statement is a beat,
//! in time or not, so a database that is down stops no heart. At rest it waits for something to do, for however long.
//! A loop that is at work and has not beaten for a minute hangs, and `/healthz` says so. A loop that panics is started
//! again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::error;

use crate::metrics::{self, PanicPlace};

/// A loop at work that has not beaten for this long has stopped. Longer than any statement may take.
const STOPPED_AFTER: Duration = Duration::from_mins(1);
/// Before a loop that panicked is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The heart of the loop that this task runs.
    static HEART: Arc<Heart>;
}

/// One loop's heart.
#[derive(Debug)]
struct Heart {
    name: &'static str,
    state: Mutex<State>,
    /// The log says that it has stopped.
    is_told: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At work since its last beat.
    Beat(Instant),
    /// Waiting for something to do.
    Rest,
    /// It panicked and cannot be started again.
    Dead,
}

impl Heart {
    fn set(&self, state: State) {
        *self.state.lock() = state;
    }

    fn has_stopped(&self) -> bool {
        match *self.state.lock() {
            State::Beat(last) => last.elapsed() > STOPPED_AFTER,
            State::Rest => false,
            State::Dead => true,
        }
    }
}

/// One beat of the loop that this task runs. Does nothing elsewhere, and while the loop rests.
pub fn beat() {
    let _ = HEART.try_with(|heart| {
        let mut state = heart.state.lock();
        if matches!(*state, State::Beat(_)) {
            *state = State::Beat(Instant::now());
        }
    });
}

/// Waits for something to do: meanwhile the loop that this task runs rests.
pub async fn rest<T>(wait: impl Future<Output = T>) -> T {
    /// Back at work, also when the wait is abandoned.
    struct Awake(Option<Arc<Heart>>);
    impl Drop for Awake {
        fn drop(&mut self) {
            if let Some(heart) = &self.0 {
                heart.set(State::Beat(Instant::now()));
            }
        }
    }
    let awake = Awake(HEART.try_with(Arc::clone).ok());
    if let Some(heart) = &awake.0 {
        heart.set(State::Rest);
    }
    wait.await
}

/// The supervised loops of this process.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Arc<Heart>>>>);

impl Heartbeats {
    /// No loop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` as a loop called `name`, and starts it again when it panics. It ends when `work` returns or the task is
    /// aborted.
    pub fn supervise<W>(&self, name: &'static str, work: impl Fn() -> W + Send + 'static) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, async move {
            while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
                panicked(name);
                rest(tokio::time::sleep(RESTART_PAUSE)).await;
            }
        })
    }

    /// Runs `work`, which can be started only once, as a loop called `name`. When it panics its heart has stopped for good.
    pub fn watch(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn(name, async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                panicked(name);
                let _ = HEART.try_with(|heart| heart.set(State::Dead));
                std::future::pending::<()>().await;
            }
        })
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let heart = Arc::new(Heart {
            name,
            state: Mutex::new(State::Beat(Instant::now())),
            is_told: AtomicBool::new(false),
        });
        self.0.lock().push(Arc::clone(&heart));
        let ended = Ended { heart: Arc::clone(&heart), hearts: self.clone() };
        tokio::spawn(HEART.scope(heart, async move {
            let _ended = ended;
            work.await;
        }))
    }

    /// The names of the loops that have stopped, in the order in which they were started. Each is logged once.
    pub fn stopped(&self) -> Vec<&'static str> {
        let hearts = self.0.lock();
        let stopped = hearts.iter().filter(|heart| {
            let has_stopped = heart.has_stopped();
            if heart.is_told.swap(has_stopped, Ordering::Relaxed) != has_stopped && has_stopped {
                error!(name = heart.name, "a background loop has stopped: the process has to be restarted");
            }
            has_stopped
        });
        stopped.map(|heart| heart.name).collect()
    }
}

/// Forgets a loop that has ended on purpose.
struct Ended {
    heart: Arc<Heart>,
    hearts: Heartbeats,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.hearts.0.lock().retain(|heart| !Arc::ptr_eq(heart, &self.heart));
    }
}

fn panicked(name: &str) {
    metrics::panicked(PanicPlace::Background);
    error!(name, "a background loop panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    /// Makes the loop's last beat as old as that.
    fn age(hearts: &Heartbeats, age: Duration) {
        for heart in hearts.0.lock().iter() {
            let mut state = heart.state.lock();
            if let State::Beat(last) = &mut *state {
                *last = last.checked_sub(age).expect("a machine that has been up for minutes");
            }
        }
    }

    #[tokio::test]
    async fn a_loop_that_hangs_at_work_has_stopped_and_one_that_rests_has_not() {
        let hearts = Heartbeats::new();
        let (hang, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let task = hearts.supervise("looks", {
            let (hang, go) = (Arc::clone(&hang), Arc::clone(&go));
            move || {
                let (hang, go) = (Arc::clone(&hang), Arc::clone(&go));
                async move {
                    rest(go.notified()).await;
                    hang.notified().await;
                    beat();
                    rest(std::future::pending::<()>()).await;
                }
            }
        });
        tokio::task::yield_now().await;
        age(&hearts, STOPPED_AFTER * 2);
        assert!(hearts.stopped().is_empty(), "it rests");
        go.notify_one();
        tokio::task::yield_now().await;
        assert!(hearts.stopped().is_empty(), "it has just begun to work");
        age(&hearts, STOPPED_AFTER * 2);
        assert_eq!(hearts.stopped(), ["looks"]);
        hang.notify_one();
        tokio::task::yield_now().await;
        assert!(hearts.stopped().is_empty(), "it rests again");
        task.abort();
        let _ = task.await;
        assert!(hearts.0.lock().is_empty(), "what was ended on purpose is no concern any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_is_started_again() {
        let (hearts, starts) = (Heartbeats::new(), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&starts);
        let task = hearts.supervise("stumbles", move || {
            let starts = Arc::clone(&counted);
            async move {
                assert!(starts.fetch_add(1, Ordering::SeqCst) >= 2, "not yet");
            }
        });
        task.await.expect("it ends by itself in the end");
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_loop_that_cannot_be_started_again_is_dead_after_a_panic() {
        let hearts = Heartbeats::new();
        let task = hearts.watch("fragile", async { panic!("broken") });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hearts.stopped(), ["fragile"]);
        task.abort();
    }
}
