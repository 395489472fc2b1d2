//! The phases of a shutdown.
//!
//! ```text
//!   running ──first signal──▶ draining ──after drain_delay──▶ stopping ──work done──▶ exit 0
//!                             /readyz 503                     listeners closed        (also after shutdown_timeout:
//!                             no claims                       attempts in flight       attempts still in flight are
//!                             agent API still served          finish                   recovered from their leases)
//!                └──────────── second signal, at any time ────────────▶ exit 128 + its number, at once
//! ```
//!
//! Agents do not retry a failed provision (docs/ARCHITECTURE.md), so a draining replica serves the agent API until every
//! load balancer has seen its 503. Parts of the service hold a [`Shutdown`] and wait for the phases that concern them.

use std::future::Future;
use std::process::ExitCode;

use nas_cron_base::signals::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Stop;

/// The current phase. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl Shutdown {
    /// Returns a shutdown in the phase "running".
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns true while draining or stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Returns true while stopping: listeners must close.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits until draining begins: claims must stop. Cancel-safe.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until stopping begins: listeners must close. Cancel-safe.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Like [`Self::stopping`], but returns a future that borrows nothing.
    pub fn until_stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopping.clone().cancelled_owned()
    }

    /// Starts draining. [`run`] does this at the first signal; tests and `dev` call it themselves.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Starts stopping. [`run`] does this after the drain delay.
    pub fn stop(&self) {
        self.draining.cancel();
        self.stopping.cancel();
    }
}

/// The way in which the work ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// The work finished, by itself or because of the shutdown.
    Finished(T),
    /// The work was not finished at the shutdown timeout. Nothing is lost: attempts in flight are recovered from their
    /// leases.
    TimedOut,
    /// A second signal arrived.
    Forced(Signal),
}

impl<T> Ended<T> {
    /// Returns the process's exit code: 128 plus the number of the second signal, 0 after a timeout, and otherwise `of`
    /// applied to the work's result.
    pub fn exit_code(self, of: impl FnOnce(T) -> ExitCode) -> ExitCode {
        match self {
            Self::Finished(value) => of(value),
            Self::TimedOut => ExitCode::SUCCESS,
            Self::Forced(signal) => ExitCode::from(signal.exit_code()),
        }
    }
}

/// Runs `work` to its end, and changes the phase when signals arrive and times run out. The work watches `shutdown`: it
/// ends when its listeners are closed (after [`Shutdown::stopping`]) and all attempts in flight are finished or released.
///
/// Signals come from [`nas_cron_base::signals::signals`], or from a test.
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
            "signal received, draining: readiness fails, claims stop, requests are still served; a second signal \
             stops at once"
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
        tracing::info!(
            shutdown_timeout = ?stop.shutdown_timeout,
            "drain finished, stopping: listeners close, attempts in flight finish"
        );
        shutdown.stop();
        tokio::time::sleep(stop.shutdown_timeout).await;
    };
    tokio::select! {
        biased;
        signal = forced => {
            tracing::warn!(
                signal = signal.name(),
                "second signal received, stopped at once; attempts in flight are recovered from their leases"
            );
            Ended::Forced(signal)
        }
        value = work => {
            tracing::info!("service stopped");
            Ended::Finished(value)
        }
        () = timed_out => {
            tracing::warn!("shutdown timed out; attempts in flight are recovered from their leases");
            Ended::TimedOut
        }
    }
}

/// Returns the next signal. Never returns once no sender is left.
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

    /// A service whose work takes `tail` after its listeners close.
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
    async fn first_signal_drains_then_stops_then_ends() {
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
    async fn endless_work_is_abandoned_at_the_timeout() {
        let service = service(Duration::from_hours(1));
        service.signals.send(Signal::Interrupt).await.unwrap();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!(ended, Ended::TimedOut);
        assert!((60_000..60_005).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn second_signal_ends_at_once_while_draining() {
        let service = service(Duration::ZERO);
        service.signals.send(Signal::Terminate).await.unwrap();
        service.shutdown.draining().await;
        service.signals.send(Signal::Interrupt).await.unwrap();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!((ended, took), (Ended::Forced(Signal::Interrupt), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn second_signal_ends_at_once_while_stopping() {
        let service = service(Duration::from_hours(1));
        service.signals.send(Signal::Terminate).await.unwrap();
        service.shutdown.stopping().await;
        service.signals.send(Signal::Terminate).await.unwrap();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!(ended, Ended::Forced(Signal::Terminate));
        assert!((15_000..15_005).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn run_ends_when_its_work_ends() {
        let (_signals, receiver) = mpsc::channel(4);
        let ended = run(&Shutdown::new(), receiver, STOP, async { "port taken" }).await;
        assert_eq!(ended, Ended::Finished("port taken"));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_starts_and_skips_the_drain_delay_without_a_signal() {
        let service = service(Duration::ZERO);
        service.shutdown.drain();
        tokio::task::yield_now().await;
        service.shutdown.stop();
        let (ended, took) = service.ended.await.unwrap();
        assert_eq!((ended, took.as_millis() / 5), (Ended::Finished("done"), 0));
    }

    #[test]
    fn exit_codes_follow_the_shell_convention() {
        assert_eq!((Signal::Interrupt.exit_code(), Signal::Terminate.exit_code()), (130, 143));
        let code = |ended: Ended<u8>| format!("{:?}", ended.exit_code(ExitCode::from));
        assert_eq!(code(Ended::TimedOut), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Ended::Finished(1)), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(Ended::Forced(Signal::Terminate)), format!("{:?}", ExitCode::from(143)));
    }
}
