//! From the server into our hands. What is in hand is kept from others by progress acknowledgements.

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

/// The most that one pull brings.
pub(super) const BATCH: usize = 500;

/// The most that one replica has in hand.
pub(super) const ROOM: usize = 4 * BATCH;

/// How long a pull stays open. Nothing can arrive after its end, so it is also what a stop waits for.
const PULL: Duration = Duration::from_secs(1);

/// How much later than that its end may be told.
const TOLD: Duration = Duration::from_secs(1);

/// A wake-up in hand. Dropping it makes room, and ends its progress.
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

/// All that this replica has in hand.
#[derive(Debug)]
pub(super) struct Hands {
    room: Arc<Semaphore>,
    taken: AtomicU64,
    /// By number: where the server hears about it, and since when we have it.
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

    /// Tells the server again and again that what is in hand is worked on. Never ends.
    pub(super) async fn progress(&self, connection: &Connection, ack_wait: Duration) {
        // Two such words may be lost.
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
                    // Not told: then another replica gets it too, which is harmless.
                    let _ = connection.client().publish(reply, AckKind::Progress.into()).await;
                }
            };
            // While the connection is away nobody listens, and there is another round.
            let _ = timeout(pause, telling).await;
        }
    }

    /// Pulls into `out` until `stop` or an error (in the server's words). What came is in `out` then, and nothing
    /// is on its way any more.
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
                // A pull that waits for a connection would be answered when nobody listens to it any more.
                connection.connected().await;
                self.find_room().await
            };
            let Some(mut room) = stop.run_until_cancelled(beginning).await else { return Ok(()) };
            changes.mark_unchanged();
            let begin = consumer.batch().max_messages(room.num_permits()).expires(PULL).messages();
            let mut pulled = timeout(TOLD, begin)
                .await
                .map_err(|_| "the connection takes nothing".to_owned())?
                .map_err(|error| error.to_string())?;
            let end = Instant::now() + PULL + TOLD;
            let mut hold = |message: Message| {
                if let Some(one) = room.split(1) {
                    // The receiver goes after us.
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
                    // Whoever had our request is gone, and its end will not be told.
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

    /// Waits for room, and takes up to a batch of it.
    async fn find_room(&self) -> OwnedSemaphorePermit {
        let open = "nobody closes the semaphore";
        let mut room = Arc::clone(&self.room).acquire_owned().await.expect(open);
        let more = self.room.available_permits().min(BATCH - 1);
        // Only this task takes room, so that what was there still is.
        if let Ok(more) = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
            room.merge(more);
        }
        room
    }
}
