//! Supervision of the background loops.
//!
//! A supervised loop is either working or resting. While it works, the end of every SQL statement counts as a heartbeat,
//! even if the statement failed or timed out: an outage of the database must not make loops look stopped. A resting loop
//! waits for work and needs no heartbeat. `/healthz` fails when a working loop had no heartbeat for a minute. A loop that
//! panics is restarted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::error;

use crate::metrics::{self, PanicPlace};

/// Maximum time without a heartbeat while a loop works; after it the loop counts as stopped. Longer than any statement
/// may take.
const STOPPED_AFTER: Duration = Duration::from_mins(1);
/// Delay before a loop that panicked is restarted.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The heart of the loop that this task runs.
    static HEART: Arc<Heart>;
}

/// The heartbeat state of one loop.
#[derive(Debug)]
struct Heart {
    name: &'static str,
    state: Mutex<State>,
    /// True once the loop's stop has been logged.
    is_logged: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The loop works; its last heartbeat was at this time.
    Beat(Instant),
    /// The loop waits for work.
    Rest,
    /// The loop panicked and cannot be restarted.
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

/// Records a heartbeat of the loop that this task runs. Does nothing outside a supervised loop, or while the loop rests.
pub fn beat() {
    let _ = HEART.try_with(|heart| {
        let mut state = heart.state.lock();
        if matches!(*state, State::Beat(_)) {
            *state = State::Beat(Instant::now());
        }
    });
}

/// Awaits `wait`. Until it is ready, the loop that this task runs counts as resting.
pub async fn rest<T>(wait: impl Future<Output = T>) -> T {
    /// Sets the state back to working, also when the wait is cancelled.
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
    /// Returns a registry without loops.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` as a loop called `name`, and restarts it when it panics. The loop ends when `work` returns or the task
    /// is aborted.
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

    /// Runs `work`, which can start only once, as a loop called `name`. When it panics, the loop counts as stopped until
    /// the process ends.
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
            is_logged: AtomicBool::new(false),
        });
        self.0.lock().push(Arc::clone(&heart));
        let ended = Ended { heart: Arc::clone(&heart), hearts: self.clone() };
        tokio::spawn(HEART.scope(heart, async move {
            let _ended = ended;
            work.await;
        }))
    }

    /// Returns the names of the stopped loops, in the order of their start. Logs each one once.
    pub fn stopped(&self) -> Vec<&'static str> {
        let hearts = self.0.lock();
        let stopped = hearts.iter().filter(|heart| {
            let has_stopped = heart.has_stopped();
            if heart.is_logged.swap(has_stopped, Ordering::Relaxed) != has_stopped && has_stopped {
                error!(name = heart.name, "background loop stopped; restart the process");
            }
            has_stopped
        });
        stopped.map(|heart| heart.name).collect()
    }
}

/// Removes its loop from the registry when dropped: the loop ended on purpose.
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
    error!(name, "background loop panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    /// Sets the time of each working loop's last heartbeat back by `age`.
    fn age(hearts: &Heartbeats, age: Duration) {
        for heart in hearts.0.lock().iter() {
            let mut state = heart.state.lock();
            if let State::Beat(last) = &mut *state {
                *last = last.checked_sub(age).expect("a machine that has been up for minutes");
            }
        }
    }

    #[tokio::test]
    async fn hanging_loop_counts_as_stopped_and_resting_loop_does_not() {
        let hearts = Heartbeats::new();
        let (hang, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let task = hearts.supervise("claims", {
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
        assert_eq!(hearts.stopped(), ["claims"]);
        hang.notify_one();
        tokio::task::yield_now().await;
        assert!(hearts.stopped().is_empty(), "it rests again");
        task.abort();
        let _ = task.await;
        assert!(hearts.0.lock().is_empty(), "a loop that ended on purpose is not supervised any more");
    }

    #[tokio::test(start_paused = true)]
    async fn panicked_loop_is_restarted() {
        let (hearts, starts) = (Heartbeats::new(), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&starts);
        let task = hearts.supervise("panics twice", move || {
            let starts = Arc::clone(&counted);
            async move {
                assert!(starts.fetch_add(1, Ordering::SeqCst) >= 2, "not yet");
            }
        });
        task.await.expect("the third run returns");
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn loop_that_cannot_restart_counts_as_stopped_after_a_panic() {
        let hearts = Heartbeats::new();
        let task = hearts.watch("fragile", async { panic!("broken") });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hearts.stopped(), ["fragile"]);
        task.abort();
    }
}
