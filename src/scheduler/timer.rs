//! Waits for instants with a precision well below a millisecond.
//!
//! The runtime's timer has a resolution of one millisecond, which is the whole lateness that a fire may have. One thread
//! sleeps until the next instant by the kernel's clock, and passes on the entries that are due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

/// The waiting entries and their thread. Dropping the timer ends the thread.
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
    /// Starts the thread. The receiver returns the due entries. It never holds more than were added to the timer.
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

    /// Adds entries. Each one is sent to the receiver at its instant, or at once if the instant has passed.
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

    /// Removes all waiting entries.
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
