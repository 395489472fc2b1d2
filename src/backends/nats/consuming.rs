//! From our hands into the loop: a wake-up is acknowledged as soon as whatever it found is durable, and never
//! dropped before.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nas_cron_protocol::{BackendName, InstanceId, JobId, ScheduleId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::pulling::{BATCH, Hands, Held};
use super::{Nats, stream};
use crate::backends::{BackendError, WakeBody};
use crate::domain::wake_up::Wake;
use crate::metrics;
use crate::scheduler::Woken;

/// Batches that are handed in at once.
const AT_ONCE: usize = 4;

/// Between two tries of the same thing: the first wait, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Pulls and hands in until `stop`, and then until what is in hand is done with.
pub(super) async fn run<F, Fut, E>(nats: &Nats, wake: F, stop: CancellationToken)
where
    F: Fn(Vec<Wake>) -> Fut + Sync,
    Fut: Future<Output = Result<Vec<Woken>, E>> + Send,
    E: Display + Send,
{
    let hands = Hands::empty();
    // Bounded by the room in our hands.
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
    // The last acknowledgements are on their way when this returns.
    let _ = timeout(nats.options.timeout, nats.connection.client().flush()).await;
}

/// Sets up and pulls, again and again: after a restart, without a leader, when somebody deleted the stream.
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
                    info!("wake-ups come from NATS again");
                    said.clear();
                }
                match hands.pull(&nats.connection, &consumer, &out, stop).await {
                    Ok(()) => return,
                    Err(problem) => {
                        // It went well for a while: what ended it is news, and may be over.
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
            debug!(%problem, "no wake-ups from NATS");
        } else {
            warn!(%problem, "no wake-ups from NATS; trying again");
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

/// What the batches share.
struct Taking<'a> {
    nats: &'a Nats,
    stop: &'a CancellationToken,
    /// The last batch could not be handed in.
    failing: AtomicBool,
    /// Messages that were no wake-ups.
    unreadable: AtomicU64,
}

impl Taking<'_> {
    /// Hands one batch in, until it is taken or we stop.
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
                        info!("wake-ups are taken in again");
                    }
                    // Whatever was found is durably our own loop's, or over.
                    // Without an answer: not acknowledged, and so it comes again.
                    answers.extend(held.drain(..).zip(woken.iter().map(|_| AckKind::Ack)));
                }
                Err(error) => {
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        warn!(%error, "wake-ups cannot be taken in; they are kept and tried again");
                    }
                    if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        // For another replica, now.
                        answers.extend(held.drain(..).map(|one| (one, AckKind::Nak(None))));
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
        let telling = async {
            for (one, answer) in &answers {
                // Not told: it comes again, and is then found to be under way or over.
                if let Err(error) = one.message.ack_with(*answer).await {
                    debug!(%error, "a wake-up was not acknowledged");
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
                "a message from NATS is no wake-up of ours: dropped, and so are others like it"
            );
        }
    }
}

fn read(payload: &[u8]) -> Option<Wake> {
    let body: WakeBody = serde_json::from_slice(payload).ok()?;
    Some(Wake {
        instance_id: InstanceId::new(body.instance_id).ok()?,
        job_id: JobId::new(body.job_id).ok()?,
        schedule_id: ScheduleId(Uuid::from_str(&body.schedule_id).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_wake_up_is_not_read() {
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
