//! How the service ends.
//!
//! ```text
//!   running ──first signal──▶ draining ──drain_delay over──▶ stopping ──work done──▶ exit 0
//!                             /readyz 503                    listeners closed        (or shutdown_timeout over:
//!                             no claims                      in flight finished       what is left is recovered
//!                             hop 1 served on                or released              from its leases)
//!                └──────────── second signal, at any time ────────────▶ exit 128 + its number, at once
//! ```
//!
//! Agents do not retry a failed provision (docs/ARCHITECTURE.md), so a replica serves hop 1 until every load
//! balancer has seen its 503. Parts of the service hold a [`Shutdown`] and wait for the phase that concerns them.

use std::future::Future;
use std::process::ExitCode;

use nas_cron_base::signals::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Stop;

/// Which phase it is, for everyone who must act on it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl Shutdown {
    /// Running.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the end has begun. True while stopping, too.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether listeners are to be closed.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits until the end begins: claim nothing any more. Cancel-safe.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until listeners are to be closed. Cancel-safe.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// The same without a borrow: for a future that is kept.
    pub fn until_stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopping.clone().cancelled_owned()
    }

    /// Begins the end. Done by [`run`] at the first signal; tests and `dev` may begin it themselves.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Closes the listeners. Done by [`run`] when the drain delay is over.
    pub fn stop(&self) {
        self.draining.cancel();
        self.stopping.cancel();
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// The work ended, by itself or because it was asked to.
    Finished(T),
    /// The work was still not done when the shutdown timeout was over. Nothing is lost: what was in flight is
    /// recovered from its leases.
    TimedOut,
    /// A second signal came.
    Forced(Signal),
}

impl<T> Ended<T> {
    /// The process's exit code: 0, or that of the second signal. `of` judges what the work came to.
    pub fn exit_code(self, of: impl FnOnce(T) -> ExitCode) -> ExitCode {
        match self {
            Self::Finished(value) => of(value),
            Self::TimedOut => ExitCode::SUCCESS,
            Self::Forced(signal) => ExitCode::from(signal.exit_code()),
        }
    }
}

/// Runs `work` to its end and leads it through the phases as signals come. The work watches `shutdown`: it ends
/// when its listeners are closed (after [`Shutdown::stopping`]) and what was in flight is finished or released.
///
/// Pure but for time: signals come from [`nas_cron_base::signals::signals`], or from a test.
pub async fn run<T>(
    shutdown: &Shutdown,
    mut signals: mpsc::Receiver<Signal>,
    stop: Stop,
    work: impl Future<Output = T>,
) -> Ended<T> {
    let forced = async {
        let first = next(&mut signals).await;
        tracing::info!(
            signal = first.name(),
            drain_delay = ?stop.drain_delay,
            "draining: not ready, no new claims, agents are served on; a second signal ends at once"
        );
        shutdown.drain();
        next(&mut signals).await
    };
    let timed_out = async {
        shutdown.draining().await;
        tokio::select! {
            () = tokio::time::sleep(stop.drain_delay) => {}
            () = shutdown.stopping() => {}
        }
        tracing::info!(shutdown_timeout = ?stop.shutdown_timeout, "stopping: listeners close, attempts under way are finished");
        shutdown.stop();
        tokio::time::sleep(stop.shutdown_timeout).await;
    };
    tokio::select! {
        biased;
        signal = forced => {
            tracing::warn!(signal = signal.name(), "ended at once by a second signal; leases recover what was in flight");
            Ended::Forced(signal)
        }
        value = work => {
            tracing::info!("stopped");
            Ended::Finished(value)
        }
        () = timed_out => {
            tracing::warn!("the shutdown timeout is over; leases recover what was in flight");
            Ended::TimedOut
        }
    }
}

/// The next signal; never, once nobody can send one.
async fn next(signals: &mut mpsc::Receiver<Signal>) -> Signal {
    match signals.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const STOP: Stop =
        Stop { drain_delay: Duration::from_secs(15), shutdown_timeout: Duration::from_secs(45) };

    struct Service {
        shutdown: Shutdown,
        signals: mpsc::Sender<Signal>,
        ended: tokio::task::JoinHandle<(Ended<&'static str>, Duration)>,
    }

    /// A service whose work takes `tail` from the closing of its listeners on.
    fn service(tail: Duration) -> Service {
        let shutdown = Shutdown::new();
        let (signals, receiver) = mpsc::channel(4);
        let ended = tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                let began = Instant::now();
                let work = async {
                    shutdown.until_stopping().await;
                    tokio::time::sleep(tail).await;
                    "done"
                };
                let ended = run(&shutdown, receiver, STOP, work).await;
                (ended, began.elapsed())
            }
        });
        Service { shutdown, signals, ended }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_drains_then_stops_then_ends() {
        let service = service(Duration::from_secs(2));
        assert!(!service.shutdown.is_draining());
        let began = Instant::now();
        service.signals.send(Signal::Terminate).await.unwrap();
        service.shutdown.draining().await;
        assert!(service.shutdown.is_draining() && !service.shutdown.is_stopping());
        assert_eq!(began.elapsed(), Duration::ZERO);
        service.shutdown.stopping().await;
        assert!(service.shutdown.is_draining() && service.shutdown.is_stopping());
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!(ended, Ended::Finished("done"));
        // tokio's timers are a millisecond coarse.
        assert!((17_000..17_005).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_left_after_the_timeout() {
        let service = service(Duration::from_hours(1));
        service.signals.send(Signal::Interrupt).await.unwrap();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!(ended, Ended::TimedOut);
        assert!((60_000..60_005).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once_while_draining() {
        let service = service(Duration::ZERO);
        service.signals.send(Signal::Terminate).await.unwrap();
        service.shutdown.draining().await;
        service.signals.send(Signal::Interrupt).await.unwrap();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!((ended, took), (Ended::Forced(Signal::Interrupt), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once_while_stopping() {
        let service = service(Duration::from_hours(1));
        service.signals.send(Signal::Terminate).await.unwrap();
        service.shutdown.stopping().await;
        service.signals.send(Signal::Terminate).await.unwrap();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!(ended, Ended::Forced(Signal::Terminate));
        assert!((15_000..15_005).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_by_itself_ends_it() {
        let (_signals, receiver) = mpsc::channel(4);
        let ended = run(&Shutdown::new(), receiver, STOP, async { "port taken" }).await;
        assert_eq!(ended, Ended::Finished("port taken"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_begun_and_shortened_without_a_signal() {
        let service = service(Duration::ZERO);
        service.shutdown.drain();
        tokio::task::yield_now().await;
        service.shutdown.stop();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!((ended, took.as_millis() / 5), (Ended::Finished("done"), 0));
    }

    #[test]
    fn exit_codes_are_those_that_shells_know() {
        assert_eq!((Signal::Interrupt.exit_code(), Signal::Terminate.exit_code()), (130, 143));
        let code = |ended: Ended<u8>| format!("{:?}", ended.exit_code(ExitCode::from));
        assert_eq!(code(Ended::TimedOut), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Ended::Finished(1)), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(Ended::Forced(Signal::Terminate)), format!("{:?}", ExitCode::from(143)));
    }
}
