//! Waits for instants, to a fraction of a millisecond.
//!
//! The runtime's own timer counts in whole milliseconds, which is as much as a fire may be late altogether.
//! One thread sleeps until the next instant by the kernel's clock and hands over what has become due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

/// What waits, and the thread that watches over it. Dropping it ends the thread.
#[derive(Debug)]
pub struct Timer<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    sequence: u64,
    closed: bool,
}

impl<T: Send + 'static> Timer<T> {
    /// Starts the thread. What is due comes out of the receiver; how much can be in it is bounded by how much
    /// is put into the timer.
    pub fn start() -> std::io::Result<(Self, mpsc::UnboundedReceiver<T>)> {
        let (due, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { waiting: BTreeMap::new(), sequence: 0, closed: false }),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("timer".to_owned()).spawn(move || watched.watch(&due))?;
        Ok((Self { shared }, receiver))
    }

    /// Hands `entries` over at their instants; what is due already, at once.
    pub fn add(&self, entries: impl IntoIterator<Item = (Instant, T)>) {
        let mut state = self.shared.state.lock();
        for (at, entry) in entries {
            state.sequence += 1;
            let sequence = state.sequence;
            state.waiting.insert((at, sequence), entry);
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Takes everything out that still waits.
    pub fn clear(&self) -> Vec<T> {
        std::mem::take(&mut self.shared.state.lock().waiting).into_values().collect()
    }
}

impl<T> Drop for Timer<T> {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl<T> Shared<T> {
    fn watch(&self, due: &mpsc::UnboundedSender<T>) {
        let mut state = self.state.lock();
        while !state.closed {
            let now = Instant::now();
            while let Some(first) = state.waiting.first_entry().filter(|first| first.key().0 <= now) {
                if due.send(first.remove()).is_err() {
                    return;
                }
            }
            let next = state.waiting.first_key_value().map(|((at, _), _)| *at);
            match next {
                None => self.changed.wait(&mut state),
                Some(at) => {
                    self.changed.wait_until(&mut state, at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn due_entries_come_in_order_and_never_early() {
        let (timer, mut due) = Timer::start().unwrap();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        timer.add([(at(30), 3), (at(10), 1), (at(10), 2)]);
        timer.add([(at(0), 0)]);
        for expected in 0..4 {
            assert_eq!(due.recv().await, Some(expected));
            assert!(start.elapsed() >= Duration::from_millis([0, 10, 10, 30][expected]));
        }
        timer.add([(at(60_000), 9)]);
        assert_eq!(timer.clear(), vec![9]);
        drop(timer);
        assert_eq!(due.recv().await, None, "the thread has ended");
    }
}
