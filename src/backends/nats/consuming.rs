//! Passes received wake-ups to the scheduler. A wake-up is acknowledged once its result is durable, and never dropped
//! before.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nas_cron_protocol::BackendName;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::pulling::{BATCH, Hands, Held};
use super::{Nats, stream};
use crate::backends::{BackendError, WakeBody};
use crate::domain::wake_up::Wake;
use crate::metrics;
use crate::scheduler::Woken;

/// Maximum batches that are passed on concurrently.
const AT_ONCE: usize = 4;

/// Back-off between two tries: the first pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Pulls wake-ups and passes them on until `stop`, then processes those that were received.
pub(super) async fn run<F, Fut, E>(nats: &Nats, wake: F, stop: CancellationToken)
where
    F: Fn(Vec<Wake>) -> Fut + Sync,
    Fut: Future<Output = Result<Vec<Woken>, E>> + Send,
    E: Display + Send,
{
    let hands = Hands::empty();
    // Bounded by the room in `hands`.
    let (out, mut held) = mpsc::unbounded_channel();
    let taking = Taking { nats, stop: &stop, failing: AtomicBool::new(false), unreadable: AtomicU64::new(0) };
    let handing_in = async {
        let mut batches = FuturesUnordered::new();
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                came = held.recv_many(&mut batch, BATCH), if batches.len() < AT_ONCE => match came {
                    0 => break,
                    _ => batches.push(taking.take_in(batch, &wake)),
                },
                Some(()) = batches.next() => {}
            }
        }
        while batches.next().await.is_some() {}
    };
    let pulling = Box::pin(pull_for_ever(nats, &hands, out, &stop));
    tokio::select! {
        // `pulling` drops its end of the channel, which ends `handing_in`.
        _ = futures::future::join(pulling, handing_in) => {}
        () = hands.progress(&nats.connection, nats.options.ack_wait) => {}
    }
    // Sends the last acknowledgements.
    let _ = timeout(nats.options.timeout, nats.connection.client().flush()).await;
}

/// Sets up the stream and pulls from it. Starts over after every error: a restart, a missing leader, a deleted stream.
async fn pull_for_ever(
    nats: &Nats,
    hands: &Arc<Hands>,
    out: mpsc::UnboundedSender<Held>,
    stop: &CancellationToken,
) {
    let mut pause = PAUSES.0;
    let mut said = String::new();
    loop {
        let pulling = async {
            nats.connection.connected().await;
            nats.schedules.doubt();
            let consumer = set_up(nats).await.map_err(|error| error.to_string())?;
            Ok((consumer, tokio::time::Instant::now()))
        };
        let consumer: Result<_, String> = match stop.run_until_cancelled(pulling).await {
            None => return,
            Some(consumer) => consumer,
        };
        let problem = match consumer {
            Err(problem) => problem,
            Ok((consumer, since)) => {
                if !said.is_empty() {
                    info!("receiving wake-ups from NATS again");
                    said.clear();
                }
                match hands.pull(&nats.connection, &consumer, &out, stop).await {
                    Ok(()) => return,
                    Err(problem) => {
                        // Pulling worked for a while: this is a new problem, and it may be short.
                        if since.elapsed() > PAUSES.1 {
                            pause = PAUSES.0;
                        }
                        problem
                    }
                }
            }
        };
        metrics::backend_called(BackendName::Nats, "listen", "failed", 1);
        if problem == said {
            debug!(%problem, "receiving wake-ups from NATS failed");
        } else {
            warn!(%problem, "receiving wake-ups from NATS failed; retrying");
            said = problem;
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn set_up(
    nats: &Nats,
) -> Result<
    async_nats::jetstream::consumer::Consumer<async_nats::jetstream::consumer::pull::Config>,
    BackendError,
> {
    let jetstream = nats.schedules.ready(&nats.connection, &nats.options).await?;
    stream::consumer(jetstream, &nats.options).await
}

/// State that the batches share.
struct Taking<'a> {
    nats: &'a Nats,
    stop: &'a CancellationToken,
    /// True if passing on the last batch failed.
    failing: AtomicBool,
    /// Number of messages that were not valid wake-ups.
    unreadable: AtomicU64,
}

impl Taking<'_> {
    /// Passes one batch on; retries until it succeeds or `stop` is cancelled.
    async fn take_in<F, Fut, E>(&self, batch: Vec<Held>, wake: &F)
    where
        F: Fn(Vec<Wake>) -> Fut,
        Fut: Future<Output = Result<Vec<Woken>, E>>,
        E: Display,
    {
        let (mut held, mut wakes, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for one in batch {
            if let Some(wake) = read(&one.message.payload) {
                wakes.push(wake);
                held.push(one);
            } else {
                self.unreadable();
                answers.push((one, AckKind::Term));
            }
        }
        let mut pause = PAUSES.0;
        while !held.is_empty() {
            match wake(wakes.clone()).await {
                Ok(woken) => {
                    if self.failing.swap(false, Ordering::Relaxed) {
                        info!("storing wake-ups from NATS succeeds again");
                    }
                    // Each one-shot now belongs durably to the built-in loop, or has ended. A message without a
                    // result is not acknowledged, and the server delivers it again.
                    answers.extend(held.drain(..).zip(woken.iter().map(|_| AckKind::Ack)));
                }
                Err(error) => {
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        warn!(%error, "storing wake-ups from NATS failed; retrying");
                    }
                    if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        // Redelivered to another replica at once.
                        answers.extend(held.drain(..).map(|one| (one, AckKind::Nak(None))));
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
        let telling = async {
            for (one, answer) in &answers {
                // An unacknowledged wake-up is delivered again, and then finds its one-shot in flight or ended.
                if let Err(error) = one.message.ack_with(*answer).await {
                    debug!(%error, "acknowledging a wake-up failed");
                }
            }
        };
        let _ = timeout(self.nats.options.timeout, telling).await;
    }

    fn unreadable(&self) {
        let before = self.unreadable.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            warn!(
                subject = self.nats.options.wake_subject(),
                "invalid wake-up message from NATS dropped; further ones are dropped without a log line"
            );
        }
    }
}

fn read(payload: &[u8]) -> Option<Wake> {
    let body: WakeBody = nas_cron_protocol::json::from_slice(payload).ok()?;
    Wake::try_from(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_wake_up_is_rejected() {
        let good = r#"{"instance_id":"i","job_id":"j","schedule_id":"0190a5e4-7c1e-7000-8000-000000000000","fire_at":"x"}"#;
        assert!(read(good.as_bytes()).is_some());
        for bad in [
            "",
            "{}",
            "null",
            "\u{0}",
            &good.replace("0190a5e4", "not-hex"),
            &good.replace(r#""i""#, r#""""#),
        ] {
            assert!(read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
