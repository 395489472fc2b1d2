//! Receives wake-ups from the server. Progress acknowledgements keep the server from redelivering those in hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures::{FutureExt, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connecting::Connection;

/// Maximum wake-ups in one pull.
pub(super) const BATCH: usize = 500;

/// Maximum wake-ups that one replica has in hand.
pub(super) const ROOM: usize = 4 * BATCH;

/// Duration of a pull request. Nothing arrives after its end, so a stop waits at most this long.
const PULL: Duration = Duration::from_secs(1);

/// Maximum delay of the server's message that a pull has ended. Also the timeout for sending a pull request.
const END_DELAY: Duration = Duration::from_secs(1);

/// A wake-up in hand. Dropping it makes room, and ends its progress acknowledgements.
pub(super) struct Held {
    pub(super) message: Message,
    hands: Arc<Hands>,
    number: u64,
    _room: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hands.replies().remove(&self.number);
    }
}

/// The wake-ups that this replica has in hand: received, and not acknowledged yet.
#[derive(Debug)]
pub(super) struct Hands {
    room: Arc<Semaphore>,
    taken: AtomicU64,
    /// By number: the subject for acknowledgements, and the time of arrival.
    replies: Mutex<HashMap<u64, (Subject, Instant)>>,
}

impl Hands {
    pub(super) fn empty() -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(ROOM)),
            taken: AtomicU64::new(0),
            replies: Mutex::new(HashMap::new()),
        })
    }

    fn replies(&self) -> MutexGuard<'_, HashMap<u64, (Subject, Instant)>> {
        self.replies.lock()
    }

    fn take(self: &Arc<Self>, message: Message, room: OwnedSemaphorePermit) -> Held {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = &message.reply {
            self.replies().insert(number, (reply.clone(), Instant::now()));
        }
        Held { message, hands: Arc::clone(self), number, _room: room }
    }

    /// Sends progress acknowledgements for the wake-ups in hand. Never returns.
    pub(super) async fn progress(&self, connection: &Connection, ack_wait: Duration) {
        // Two acknowledgements in a row may be lost.
        let pause = ack_wait / 4;
        loop {
            tokio::time::sleep(pause).await;
            let old: Vec<Subject> = self
                .replies()
                .values()
                .filter(|(_, since)| since.elapsed() >= pause)
                .map(|(reply, _)| reply.clone())
                .collect();
            let telling = async {
                for reply in old {
                    // If this fails, another replica gets the wake-up too, which is harmless.
                    let _ = connection.client().publish(reply, AckKind::Progress.into()).await;
                }
            };
            // Publishing blocks without a connection; the next round tries again.
            let _ = timeout(pause, telling).await;
        }
    }

    /// Pulls into `out` until `stop`, or until an error, which is returned as text. By then, everything that was
    /// received is in `out`, and no pull request is open.
    pub(super) async fn pull(
        self: &Arc<Self>,
        connection: &Connection,
        consumer: &Consumer<pull::Config>,
        out: &mpsc::UnboundedSender<Held>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let mut changes = connection.changes();
        loop {
            let beginning = async {
                // A pull request that waited for a connection could be answered after its end.
                connection.connected().await;
                self.find_room().await
            };
            let Some(mut room) = stop.run_until_cancelled(beginning).await else { return Ok(()) };
            changes.mark_unchanged();
            let begin = consumer.batch().max_messages(room.num_permits()).expires(PULL).messages();
            let mut pulled = timeout(END_DELAY, begin)
                .await
                .map_err(|_| "sending the pull request timed out".to_owned())?
                .map_err(|error| error.to_string())?;
            let end = Instant::now() + PULL + END_DELAY;
            let mut hold = |message: Message| {
                if let Some(one) = room.split(1) {
                    // The receiver outlives this task.
                    let _ = out.send(self.take(message, one));
                }
            };
            let ended = loop {
                tokio::select! {
                    message = pulled.next() => match message {
                        Some(Ok(message)) => hold(message),
                        Some(Err(error)) => break Err(error.to_string()),
                        None => break Ok(()),
                    },
                    // The server that had the request is gone, and will not report its end.
                    _ = changes.changed() => break Ok(()),
                    () = sleep_until(end) => break Ok(()),
                }
            };
            while let Some(Some(Ok(message))) = pulled.next().now_or_never() {
                hold(message);
            }
            ended?;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Waits for room, and reserves it for up to one batch.
    async fn find_room(&self) -> OwnedSemaphorePermit {
        let open = "the semaphore is never closed";
        let mut room = Arc::clone(&self.room).acquire_owned().await.expect(open);
        let more = self.room.available_permits().min(BATCH - 1);
        // Only this task takes room, so the permits counted above are still available.
        if let Ok(more) = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
            room.merge(more);
        }
        room
    }
}
