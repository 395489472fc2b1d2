//! Single flight: one call per key at a time; callers with the same key wait for the same result.
//!
//! A call runs to its end, and caches its result, even if its callers have been cancelled.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

/// Maximum number of waiting callers, and of unfinished calls: a call goes on after its callers have been cancelled.
const MAX_WAITING: usize = 10_000;
/// Maximum number of calls that run at the same time.
const MAX_CALLS: usize = 64;

/// The calls of one kind that are in flight.
pub(super) struct SingleFlight<K, V> {
    under_way: Mutex<HashMap<K, watch::Sender<Option<V>>>>,
    calls: Semaphore,
    waiters: Arc<Semaphore>,
}

/// One caller's wait for a call in flight.
pub(super) struct Flight<V> {
    answer: watch::Receiver<Option<V>>,
    _waiter: OwnedSemaphorePermit,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            waiters: Arc::new(Semaphore::new(MAX_WAITING)),
        })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<Option<V>>>> {
        self.under_way.lock()
    }

    /// Joins the call for `key`, or starts it with `call`. Returns `None` if too many callers are waiting.
    pub(super) fn join<F>(self: &Arc<Self>, key: K, call: impl FnOnce() -> F) -> Option<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let waiter = Arc::clone(&self.waiters).try_acquire_owned().ok()?;
        let mut under_way = self.under_way();
        if let Some(sender) = under_way.get(&key) {
            return Some(Flight { answer: sender.subscribe(), _waiter: waiter });
        }
        if under_way.len() >= MAX_WAITING {
            return None;
        }
        let (sender, flight) = watch::channel(None);
        under_way.insert(key.clone(), sender.clone());
        drop(under_way);
        let (entry, call) = (Entry(Arc::clone(self), key), call());
        tokio::spawn(async move {
            let answer = call.await;
            // In this order: later callers start a new call, and the waiting ones get this result.
            drop(entry);
            sender.send_replace(Some(answer));
        });
        Some(Flight { answer: flight, _waiter: waiter })
    }

    /// True if a caller is waiting for the call for `key`.
    pub(super) fn is_awaited(&self, key: &K) -> bool {
        self.under_way().get(key).is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Waits for one of the [`MAX_CALLS`] permits to run a call.
    pub(super) async fn permit(&self) -> SemaphorePermit<'_> {
        self.calls.acquire().await.expect("the semaphore is never closed")
    }
}

/// Removes a call from the list when dropped, also if it panicked.
struct Entry<K: Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static>(
    Arc<SingleFlight<K, V>>,
    K,
);

impl<K: Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Drop for Entry<K, V> {
    fn drop(&mut self) {
        self.0.under_way().remove(&self.1);
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the result. Returns `None` if there is none by `deadline`.
    pub(super) async fn result(mut self, deadline: Instant) -> Option<V> {
        match timeout_at(deadline, self.answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone(),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_with_the_same_key_share_one_call() {
        let (flights, calls) = (SingleFlight::<u8, usize>::new(), Arc::new(AtomicUsize::new(0)));
        let ask = |key: u8| {
            let calls = Arc::clone(&calls);
            let call = || async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                calls.fetch_add(1, Ordering::SeqCst)
            };
            flights.join(key, call).unwrap().result(soon())
        };
        let answers = join_all((0..200).map(|n| ask(n % 2))).await;
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(answers.iter().all(Option::is_some));
        // The call has ended, so the next caller starts a new one.
        assert_eq!(ask(0).await, Some(2));
        assert!(flights.under_way().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_and_running_calls_are_limited() {
        let flights = SingleFlight::<usize, ()>::new();
        let most = Arc::new(AtomicUsize::new(0));
        let join = |key: usize| {
            let (all, most) = (Arc::clone(&flights), Arc::clone(&most));
            flights.join(key, || async move {
                let _permit = all.permit().await;
                most.fetch_max(MAX_CALLS - all.calls.available_permits(), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            })
        };
        let waiting: Vec<_> = (0..MAX_WAITING).map(|key| join(key).unwrap()).collect();
        assert!(join(0).is_none() && join(MAX_WAITING).is_none(), "every place is taken");
        let results = join_all(waiting.into_iter().map(|flight| flight.result(soon()))).await;
        assert!(results.iter().all(Option::is_some));
        assert_eq!(most.load(Ordering::SeqCst), MAX_CALLS);
        assert!(join(0).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn call_outlives_its_callers_and_a_panic_does_not_block_the_key() {
        let (flights, calls) = (SingleFlight::<u8, ()>::new(), Arc::new(AtomicUsize::new(0)));
        let done = Arc::clone(&calls);
        let flight = flights.join(1, || async move {
            tokio::time::sleep(Duration::from_secs(9)).await;
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert!(flights.is_awaited(&1) && !flights.is_awaited(&2));
        assert_eq!(flight.unwrap().result(soon()).await, None);
        assert!(!flights.is_awaited(&1));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);

        let flight = flights.join(1, || async { panic!("on purpose") });
        assert_eq!(flight.unwrap().result(soon()).await, None);
        assert_eq!(flights.join(1, || async {}).unwrap().result(soon()).await, Some(()));
    }
}
