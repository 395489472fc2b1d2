//! Single flight: one call per key at a time; callers with the same key wait for the same answer.
//!
//! A call runs to its end, and its answer is remembered where it belongs, whether or not anybody still waits for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

/// How many may wait, and how many different questions may be under way or wait for their turn: what everybody who waits
/// has left behind goes on.
const MOST: usize = 10_000;
/// How many calls are made at once.
const AT_ONCE: usize = 64;

/// The calls of one kind that are under way.
pub(super) struct SingleFlight<K, V> {
    under_way: Mutex<HashMap<K, watch::Sender<Option<V>>>>,
    at_once: Semaphore,
    seats: Arc<Semaphore>,
}

/// A call under way, and a seat in it.
pub(super) struct Flight<V> {
    answer: watch::Receiver<Option<V>>,
    _seat: OwnedSemaphorePermit,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
            seats: Arc::new(Semaphore::new(MOST)),
        })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<Option<V>>>> {
        self.under_way.lock()
    }

    /// Takes a seat in the call for `key`, which `call` begins where there is none. `None`: too many wait.
    pub(super) fn join<F>(self: &Arc<Self>, key: K, call: impl FnOnce() -> F) -> Option<Flight<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let mut under_way = self.under_way();
        if let Some(landing) = under_way.get(&key) {
            return Some(Flight { answer: landing.subscribe(), _seat: seat });
        }
        if under_way.len() >= MOST {
            return None;
        }
        let (landing, flight) = watch::channel(None);
        under_way.insert(key.clone(), landing.clone());
        drop(under_way);
        let (entry, call) = (Entry(Arc::clone(self), key), call());
        tokio::spawn(async move {
            let answer = call.await;
            // Whoever comes now begins anew; whoever was on board has the answer.
            drop(entry);
            landing.send_replace(Some(answer));
        });
        Some(Flight { answer: flight, _seat: seat })
    }

    /// Whether anybody still waits for the call for `key`.
    pub(super) fn is_awaited(&self, key: &K) -> bool {
        self.under_way().get(key).is_some_and(|landing| landing.receiver_count() > 0)
    }

    /// A turn to call: only so many do at once.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.at_once.acquire().await.expect("it is never closed")
    }
}

/// Takes a call off the list, also when it panicked.
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
    /// What came of it, `None` if that is not known by `deadline`.
    pub(super) async fn landed(mut self, deadline: Instant) -> Option<V> {
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
    async fn those_who_ask_the_same_share_one_call_and_others_have_their_own() {
        let (flights, calls) = (SingleFlight::<u8, usize>::new(), Arc::new(AtomicUsize::new(0)));
        let ask = |key: u8| {
            let calls = Arc::clone(&calls);
            let call = || async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                calls.fetch_add(1, Ordering::SeqCst)
            };
            flights.join(key, call).unwrap().landed(soon())
        };
        let answers = join_all((0..200).map(|n| ask(n % 2))).await;
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(answers.iter().all(Option::is_some));
        // It is over: the next one begins anew.
        assert_eq!(ask(0).await, Some(2));
        assert!(flights.under_way().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_only_so_many_call_at_once() {
        let flights = SingleFlight::<usize, ()>::new();
        let most = Arc::new(AtomicUsize::new(0));
        let board = |key: usize| {
            let (all, most) = (Arc::clone(&flights), Arc::clone(&most));
            flights.join(key, || async move {
                let _turn = all.turn().await;
                most.fetch_max(AT_ONCE - all.at_once.available_permits(), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            })
        };
        let boarded: Vec<_> = (0..MOST).map(|key| board(key).unwrap()).collect();
        assert!(board(0).is_none() && board(MOST).is_none(), "every seat is taken");
        let landed = join_all(boarded.into_iter().map(|flight| flight.landed(soon()))).await;
        assert!(landed.iter().all(Option::is_some));
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
        assert!(board(0).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_without_those_who_waited_and_a_panic_blocks_nobody() {
        let (flights, calls) = (SingleFlight::<u8, ()>::new(), Arc::new(AtomicUsize::new(0)));
        let done = Arc::clone(&calls);
        let flight = flights.join(1, || async move {
            tokio::time::sleep(Duration::from_secs(9)).await;
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert!(flights.is_awaited(&1) && !flights.is_awaited(&2));
        assert_eq!(flight.unwrap().landed(soon()).await, None);
        assert!(!flights.is_awaited(&1));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);

        let flight = flights.join(1, || async { panic!("on purpose") });
        assert_eq!(flight.unwrap().landed(soon()).await, None);
        assert_eq!(flights.join(1, || async {}).unwrap().landed(soon()).await, Some(()));
    }
}
