//! What was acknowledged and what arrived, by one clock.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::fault::Fault;

/// Microseconds since 1970 by the wall clock of this machine, which is the database's, too.
pub(super) fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_micros()).expect("before 294247")
}

/// A one-shot: its job and its instant in microseconds. A job never has the same instant twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OneShot {
    pub(super) job: u32,
    pub(super) due: i64,
}

/// What is known of a one-shot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// When the first 200 of its provision was there.
    pub(super) acknowledged: Option<i64>,
    /// When its first attempt arrived.
    pub(super) first: Option<i64>,
    /// When an agent accepted it.
    pub(super) accepted: Option<i64>,
    /// Attempts that wait for an agent's answer.
    open: u32,
}

/// What should not happen, or not often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An attempt before the instant.
    Early,
    /// An attempt beside another one.
    Overlap,
    /// An attempt after an accepted one: at least once allows it.
    Repeated,
    /// A token whose times are wrong.
    BadToken,
    /// A provision without a 200.
    Failed,
    /// A provision whose connection broke after it was sent.
    Broken,
}

/// A finding, when it was made, and which one-shot or call it is about.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) at: i64,
    pub(super) finding: Finding,
    pub(super) text: String,
}

/// From a fault's begin to the next one's.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) fault: Fault,
    pub(super) begin: i64,
    pub(super) end: i64,
    /// From the end to the first fire and the first 200 of every replica; `None` where that never came.
    pub(super) recovery: Option<Duration>,
}

#[derive(Default)]
struct Pages {
    entries: HashMap<OneShot, Entry>,
    notes: Vec<Note>,
    /// How many of the entries are acknowledged.
    acknowledged: usize,
    /// How many of the entries are accepted.
    accepted: usize,
    /// How many of the entries [`is_missing`] holds for.
    missing: usize,
}

impl Pages {
    /// Changes an entry, and the counts with it: the whole book is too long to be read every second.
    fn change<T>(&mut self, one_shot: OneShot, change: impl FnOnce(&mut Entry) -> T) -> T {
        let entry = self.entries.entry(one_shot).or_default();
        let before = *entry;
        let result = change(entry);
        let steps = |of: fn(&Entry) -> bool| (usize::from(of(&before)), usize::from(of(entry)));
        for (count, (was, is)) in [
            (&mut self.acknowledged, steps(|entry| entry.acknowledged.is_some())),
            (&mut self.accepted, steps(|entry| entry.accepted.is_some())),
            (&mut self.missing, steps(is_missing)),
        ] {
            *count = *count + is - was;
        }
        result
    }
}

/// The ledger of a run.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Pages>);

/// How an attempt was received.
pub(super) struct Arrival {
    /// How many attempts there were before.
    pub(super) is_first: bool,
    /// Whether one of them was accepted.
    pub(super) is_repeated: bool,
}

impl Ledger {
    /// An agent is about to arm it.
    pub(super) fn sent(&self, one_shot: OneShot) {
        self.0.lock().change(one_shot, |_| ());
    }

    pub(super) fn acknowledged(&self, one_shot: OneShot) {
        self.0.lock().change(one_shot, |entry| {
            entry.acknowledged.get_or_insert_with(now);
        });
    }

    /// Writes down an attempt, and what is wrong with it.
    pub(super) fn arrived(&self, one_shot: OneShot) -> Arrival {
        let at = now();
        let pages = &mut *self.0.lock();
        let entry = pages.entries.entry(one_shot).or_default();
        let arrival = Arrival { is_first: entry.first.is_none(), is_repeated: entry.accepted.is_some() };
        entry.first.get_or_insert(at);
        let text = || format!("job {} due {}", one_shot.job, one_shot.due);
        if at < one_shot.due {
            let text = format!("{}: {} µs", text(), one_shot.due - at);
            pages.notes.push(Note { at, finding: Finding::Early, text });
        }
        if entry.open > 0 {
            pages.notes.push(Note { at, finding: Finding::Overlap, text: text() });
        }
        if arrival.is_repeated {
            pages.notes.push(Note { at, finding: Finding::Repeated, text: text() });
        }
        entry.open += 1;
        arrival
    }

    /// The attempt has ended: the agent has answered, or its connection broke.
    pub(super) fn ended(&self, one_shot: OneShot, accepted: bool) {
        self.0.lock().change(one_shot, |entry| {
            entry.open = entry.open.saturating_sub(1);
            if accepted {
                entry.accepted.get_or_insert_with(now);
            }
        });
    }

    /// Whether an agent has accepted it.
    pub(super) fn is_accepted(&self, one_shot: OneShot) -> bool {
        self.0.lock().entries.get(&one_shot).is_some_and(|entry| entry.accepted.is_some())
    }

    pub(super) fn found(&self, at: i64, finding: Finding, text: String) {
        self.0.lock().notes.push(Note { at, finding, text });
    }

    /// Waits until everything acknowledged has been accepted, for `limit` at most.
    pub(super) async fn settled(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline && self.0.lock().missing > 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Every one-shot and every finding, for the report.
    pub(super) fn close(&self) -> (Vec<(OneShot, Entry)>, Vec<Note>) {
        let pages = self.0.lock();
        (pages.entries.iter().map(|(key, entry)| (*key, *entry)).collect(), pages.notes.clone())
    }

    /// A line about it.
    pub(super) fn line(&self) -> String {
        let pages = self.0.lock();
        let of = |finding| pages.notes.iter().filter(|note| note.finding == finding).count();
        format!(
            "{} armed, {} delivered, {} early, {} overlapping, {} failed provisions",
            pages.acknowledged,
            pages.accepted,
            of(Finding::Early),
            of(Finding::Overlap),
            of(Finding::Failed)
        )
    }
}

/// Whether it was promised and has not come.
pub(super) fn is_missing(entry: &Entry) -> bool {
    entry.acknowledged.is_some() && entry.accepted.is_none()
}
