//! Batched reads by key: calls that arrive while a statement is in flight share the next one.
//!
//! A single reader does not wait. With a high latency to the database, concurrent readers share a few connections
//! instead of holding one each for a whole round trip.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{DbError, DbResult};

/// Maximum statements in flight, so that one slow statement delays only a part of the readers.
const AT_ONCE: usize = 3;
/// Maximum keys in one statement.
const BATCH: usize = 512;

type Reader<V> = oneshot::Sender<DbResult<Option<V>>>;

/// The reads of one kind that wait or are in flight.
pub(super) struct Batched<K, V>(Mutex<Queue<K, V>>);

struct Queue<K, V> {
    waiting: Vec<(K, Reader<V>)>,
    under_way: usize,
}

impl<K, V> std::fmt::Debug for Batched<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batched")
    }
}

impl<K, V> Default for Batched<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Queue { waiting: Vec::new(), under_way: 0 }))
    }
}

impl<K, V> Batched<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Returns the value of `key`, read by a statement that begins after this call. `read` reads many keys in one
    /// statement; its result lacks keys without a value.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: K,
        read: impl Fn(Vec<K>) -> BoxFuture<'static, DbResult<HashMap<K, V>>> + Send + 'static,
    ) -> DbResult<Option<V>> {
        let (reader, value) = oneshot::channel();
        let starts = {
            let mut queue = self.0.lock();
            queue.waiting.push((key, reader));
            let starts = queue.under_way < AT_ONCE;
            queue.under_way += usize::from(starts);
            starts
        };
        if starts {
            let mut place = Place { of: Arc::clone(self), is_left: false };
            tokio::spawn(async move {
                place.of.run(read).await;
                place.leave();
            });
        }
        value.await.unwrap_or_else(|_| Err(DbError::Unavailable("the read was interrupted".into())))
    }

    async fn run(&self, read: impl Fn(Vec<K>) -> BoxFuture<'static, DbResult<HashMap<K, V>>>) {
        loop {
            let batch: Vec<(K, Reader<V>)> = {
                let mut queue = self.0.lock();
                let count = queue.waiting.len().min(BATCH);
                if count == 0 {
                    // Under the same lock, so that the next caller finds the place free.
                    queue.under_way -= 1;
                    return;
                }
                queue.waiting.drain(..count).collect()
            };
            let keys: HashSet<K> = batch.iter().map(|(key, _)| key.clone()).collect();
            let values = read(keys.into_iter().collect()).await;
            for (key, reader) in batch {
                // The receiver is gone if its request was aborted.
                let _ = reader.send(match &values {
                    Ok(values) => Ok(values.get(&key).cloned()),
                    Err(error) => Err(error.again()),
                });
            }
        }
    }
}

/// A place among the statements in flight. It is also released after a panic, or when the runtime ends.
struct Place<K, V> {
    of: Arc<Batched<K, V>>,
    /// True if [`Batched::run`] has released it.
    is_left: bool,
}

impl<K, V> Place<K, V> {
    fn leave(&mut self) {
        self.is_left = true;
    }
}

impl<K, V> Drop for Place<K, V> {
    fn drop(&mut self) {
        if !self.is_left {
            self.of.0.lock().under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn concurrent_readers_share_a_few_statements() {
        let (batched, statements) = (Arc::new(Batched::<u32, u32>::default()), Arc::new(AtomicUsize::new(0)));
        let get = |key| {
            let (batched, statements) = (Arc::clone(&batched), Arc::clone(&statements));
            async move {
                let read = move |keys: Vec<u32>| {
                    let statements = Arc::clone(&statements);
                    async move {
                        statements.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 10)).collect())
                    }
                    .boxed()
                };
                batched.get(key, read).await.unwrap()
            }
        };
        let values = join_all((0..1_000).map(get)).await;
        for (key, value) in (0_u32..).zip(values) {
            assert_eq!(value, (key % 2 == 0).then_some(key * 10));
        }
        assert!(statements.load(Ordering::SeqCst) <= 6, "{statements:?}");
        assert_eq!(batched.0.lock().under_way, 0);
    }

    #[tokio::test]
    async fn failure_reaches_every_reader_and_the_next_read_works() {
        let batched = Arc::new(Batched::<u32, u32>::default());
        let failing = |_: Vec<u32>| async { Err(DbError::Unavailable("no connection".into())) }.boxed();
        let failed = batched.get(1, failing).await;
        assert!(failed.is_err_and(|error| error.is_transient()));
        let working = |_: Vec<u32>| async { Ok(HashMap::from([(1, 2)])) }.boxed();
        assert_eq!(batched.get(1, working).await.unwrap(), Some(2));
    }
}
