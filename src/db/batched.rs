//! Batched statements: questions that arrive while statements are in flight share the next one.
//!
//! A single question does not wait. With a high latency to the database, or many questions at once, they share a few
//! statements and connections instead of taking one each for a whole round trip and a whole commit.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{DbError, DbResult};

/// Maximum statements in flight: one executes while another one's commit is written. With more of them, each has fewer
/// questions, and most of the cost of a small statement is its start.
const AT_ONCE: usize = 2;
/// Maximum questions in one statement.
const BATCH: usize = 512;

/// Receives the answer to one question. It is closed if the request that asked was aborted.
type Asker<A> = oneshot::Sender<DbResult<A>>;

/// The turn of questions that need no order.
pub(super) type NoTurn = std::convert::Infallible;

/// The questions of one kind that wait or are in flight. Their number is that of the requests that ask them.
pub(super) struct Batched<Q, A, T = NoTurn> {
    queue: Mutex<Queue<Q, A, T>>,
    /// Questions with the same turn are answered one after the other, in order of arrival.
    turn: fn(&Q) -> Option<T>,
    /// Notified when turns have ended.
    ended: Notify,
}

struct Queue<Q, A, T> {
    waiting: Vec<(Q, Asker<A>)>,
    under_way: usize,
    /// The turns of the questions in flight.
    turns: HashSet<T>,
}

impl<Q, A, T> std::fmt::Debug for Batched<Q, A, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batched")
    }
}

impl<Q, A> Default for Batched<Q, A> {
    fn default() -> Self {
        Self::in_turns(|_| None)
    }
}

impl<Q, A, T> Batched<Q, A, T> {
    /// Questions for which `turn` returns the same value are never in flight together.
    pub(super) fn in_turns(turn: fn(&Q) -> Option<T>) -> Self {
        let queue = Queue { waiting: Vec::new(), under_way: 0, turns: HashSet::new() };
        Self { queue: Mutex::new(queue), turn, ended: Notify::new() }
    }
}

impl<Q, A, T> Batched<Q, A, T>
where
    Q: Send + 'static,
    A: Send + 'static,
    T: Clone + Eq + Hash + Send + 'static,
{
    /// Returns the answer to `question`, from a statement that begins after this call. `answer` answers many questions in
    /// their order.
    ///
    /// A question whose caller stops waiting is not sent any more. Once it is in flight, it is only aborted if all callers
    /// of its statement have stopped waiting.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: Q,
        answer: impl Fn(Vec<Q>) -> BoxFuture<'static, Vec<DbResult<A>>> + Send + 'static,
    ) -> DbResult<A> {
        let (asker, answered) = oneshot::channel();
        let starts = {
            let mut queue = self.queue.lock();
            queue.waiting.push((question, asker));
            let starts = queue.under_way < AT_ONCE;
            queue.under_way += usize::from(starts);
            starts
        };
        if starts {
            let place = Place { of: Arc::clone(self), turns: Vec::new(), is_left: false };
            tokio::spawn(place.run(answer));
        }
        answered.await.unwrap_or_else(|_| Err(DbError::Unavailable("the statement was interrupted".into())))
    }

    /// Waits until no question of this turn is in flight.
    pub(super) async fn settled(&self, turn: &T) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on, no end is missed.
            ended.as_mut().enable();
            if !self.queue.lock().turns.contains(turn) {
                return;
            }
            ended.await;
        }
    }
}

/// A place among the statements in flight. It is also released after a panic, or when the runtime ends.
struct Place<Q, A, T: Eq + Hash> {
    of: Arc<Batched<Q, A, T>>,
    /// The turns of its statement.
    turns: Vec<T>,
    /// True if [`Place::next`] has released it.
    is_left: bool,
}

impl<Q, A, T> Place<Q, A, T>
where
    T: Clone + Eq + Hash,
{
    async fn run(mut self, answer: impl Fn(Vec<Q>) -> BoxFuture<'static, Vec<DbResult<A>>>) {
        while let Some(batch) = self.next() {
            let (questions, mut askers): (Vec<Q>, Vec<Asker<A>>) = batch.into_iter().unzip();
            let answers = tokio::select! {
                biased;
                answers = answer(questions) => answers,
                () = all_closed(&mut askers) => Vec::new(),
            };
            self.end_turns();
            for (asker, answer) in askers.into_iter().zip(answers) {
                let _ = asker.send(answer);
            }
        }
    }

    /// Takes the questions of the next statement. Leaves the place if there are none.
    fn next(&mut self) -> Option<Vec<(Q, Asker<A>)>> {
        let queue = &mut *self.of.queue.lock();
        let mut batch = Vec::with_capacity(queue.waiting.len().min(BATCH));
        for (question, asker) in std::mem::take(&mut queue.waiting) {
            if asker.is_closed() {
                continue;
            }
            let turn = (self.of.turn)(&question);
            let waits = batch.len() == BATCH || turn.as_ref().is_some_and(|turn| queue.turns.contains(turn));
            if waits {
                queue.waiting.push((question, asker));
                continue;
            }
            if let Some(turn) = turn {
                queue.turns.insert(turn.clone());
                self.turns.push(turn);
            }
            batch.push((question, asker));
        }
        if batch.is_empty() {
            // Under the same lock, so that the next caller finds the place free. Questions that wait for a turn are taken
            // by the place that ends it.
            queue.under_way -= 1;
            self.is_left = true;
            return None;
        }
        Some(batch)
    }
}

impl<Q, A, T: Eq + Hash> Place<Q, A, T> {
    fn end_turns(&mut self) {
        if !self.turns.is_empty() {
            let mut queue = self.of.queue.lock();
            for turn in self.turns.drain(..) {
                queue.turns.remove(&turn);
            }
            self.of.ended.notify_waiters();
        }
    }
}

impl<Q, A, T: Eq + Hash> Drop for Place<Q, A, T> {
    fn drop(&mut self) {
        self.end_turns();
        if !self.is_left {
            self.of.queue.lock().under_way -= 1;
        }
    }
}

/// Waits until all callers have stopped waiting.
async fn all_closed<A>(askers: &mut [Asker<A>]) {
    for asker in askers {
        asker.closed().await;
    }
}

/// Answers reads by key. `read` reads many keys in one statement; its result lacks keys without a value.
pub(super) async fn read_all<K, V, F>(
    keys: Vec<K>,
    read: impl FnOnce(Vec<K>) -> F + Send,
) -> Vec<DbResult<Option<V>>>
where
    K: Clone + Eq + Hash + Send,
    V: Clone,
    F: Future<Output = DbResult<HashMap<K, V>>> + Send,
{
    let distinct: HashSet<K> = keys.iter().cloned().collect();
    let values = read(distinct.into_iter().collect()).await;
    keys.iter()
        .map(|key| match &values {
            Ok(values) => Ok(values.get(key).cloned()),
            Err(error) => Err(error.again()),
        })
        .collect()
}

#[cfg(test)]
mod tests;
