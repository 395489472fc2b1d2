//! The ledger of acknowledged provisions and fires, by one clock.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::fault::Fault;

/// Returns the microseconds since 1970, by the wall clock of this machine, which is also the database's.
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

/// The record of a one-shot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// Time of the first 200 to its provision.
    pub(super) acknowledged: Option<i64>,
    /// Arrival time of its first attempt.
    pub(super) first: Option<i64>,
    /// Time at which an agent accepted it.
    pub(super) accepted: Option<i64>,
    /// Number of attempts in flight.
    open: u32,
}

/// An event that must not happen, or only rarely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An attempt before its instant.
    Early,
    /// An attempt that overlaps another one.
    Overlap,
    /// An attempt after an accepted one, which at-least-once delivery allows.
    Repeated,
    /// A token with invalid times or an invalid signature.
    BadToken,
    /// A token that was signed with a key that the service does not publish, as far as an agent can see.
    UnknownKey,
    /// A provision without a 200.
    Failed,
    /// A provision whose connection broke after it was sent.
    Broken,
}

/// A finding, with its time and a description of the one-shot or call.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) at: i64,
    pub(super) finding: Finding,
    pub(super) text: String,
}

/// The time from the begin of a fault to the begin of the next one.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) fault: Fault,
    pub(super) begin: i64,
    pub(super) end: i64,
    /// Time from the end of the fault until every replica has fired and provisioned; `None` if one never did.
    pub(super) recovery: Option<Duration>,
}

#[derive(Default)]
struct Records {
    entries: HashMap<OneShot, Entry>,
    notes: Vec<Note>,
    /// Number of acknowledged entries.
    acknowledged: usize,
    /// Number of accepted entries.
    accepted: usize,
    /// Number of missing entries ([`is_missing`]).
    missing: usize,
}

impl Records {
    /// Changes an entry and the counts. Counting all entries every second would take too long.
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
pub(super) struct Ledger(Mutex<Records>);

/// An attempt, compared with earlier ones.
pub(super) struct Arrival {
    /// True if no earlier attempt has arrived.
    pub(super) is_first: bool,
    /// True if an earlier attempt was accepted.
    pub(super) is_repeated: bool,
}

impl Ledger {
    /// Records that an agent is about to arm a one-shot.
    pub(super) fn sent(&self, one_shot: OneShot) {
        self.0.lock().change(one_shot, |_| ());
    }

    pub(super) fn acknowledged(&self, one_shot: OneShot) {
        self.0.lock().change(one_shot, |entry| {
            entry.acknowledged.get_or_insert_with(now);
        });
    }

    /// Records an attempt and its findings.
    pub(super) fn arrived(&self, one_shot: OneShot) -> Arrival {
        let at = now();
        let records = &mut *self.0.lock();
        // Agents announce what they arm: an unknown one-shot was accepted so long ago that it was removed.
        let settled = Entry { first: Some(at), accepted: Some(at), ..Entry::default() };
        let entry = records.entries.entry(one_shot).or_insert(settled);
        let arrival = Arrival { is_first: entry.first.is_none(), is_repeated: entry.accepted.is_some() };
        entry.first.get_or_insert(at);
        let text = || format!("job {} due {}", one_shot.job, one_shot.due);
        if at < one_shot.due {
            let text = format!("{}: {} µs", text(), one_shot.due - at);
            records.notes.push(Note { at, finding: Finding::Early, text });
        }
        if entry.open > 0 {
            records.notes.push(Note { at, finding: Finding::Overlap, text: text() });
        }
        if arrival.is_repeated {
            records.notes.push(Note { at, finding: Finding::Repeated, text: text() });
        }
        entry.open += 1;
        arrival
    }

    /// Records the end of an attempt: the agent has responded, or its connection broke.
    pub(super) fn ended(&self, one_shot: OneShot, accepted: bool) {
        self.0.lock().change(one_shot, |entry| {
            entry.open = entry.open.saturating_sub(1);
            if accepted {
                entry.accepted.get_or_insert_with(now);
            }
        });
    }

    /// True if an agent has accepted the one-shot, which has to be one that was announced.
    pub(super) fn is_accepted(&self, one_shot: OneShot) -> bool {
        self.0.lock().entries.get(&one_shot).is_none_or(|entry| entry.accepted.is_some())
    }

    /// Removes and returns the one-shots that were accepted before `before`, in microseconds, so that the ledger of a long
    /// run stays small. A later attempt of one of them still counts as repeated.
    pub(super) fn settle(&self, before: i64) -> Vec<(OneShot, Entry)> {
        let is_settled =
            |entry: &Entry| entry.open == 0 && entry.accepted.is_some_and(|accepted| accepted < before);
        self.0.lock().entries.extract_if(|_, entry| is_settled(entry)).collect()
    }

    pub(super) fn found(&self, at: i64, finding: Finding, text: String) {
        self.0.lock().notes.push(Note { at, finding, text });
    }

    /// Waits up to `limit` until all acknowledged one-shots have been accepted.
    pub(super) async fn settled(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline && self.0.lock().missing > 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Returns all one-shots and findings, for the report.
    pub(super) fn close(&self) -> (Vec<(OneShot, Entry)>, Vec<Note>) {
        let records = self.0.lock();
        (records.entries.iter().map(|(key, entry)| (*key, *entry)).collect(), records.notes.clone())
    }

    /// Removes the findings of a kind whose time is excused, and returns their number.
    pub(super) fn excuse(&self, finding: Finding, excused: impl Fn(i64) -> bool) -> usize {
        self.0.lock().notes.extract_if(.., |note| note.finding == finding && excused(note.at)).count()
    }

    /// Returns the number of one-shots that agents accepted.
    pub(super) fn delivered(&self) -> usize {
        self.0.lock().accepted
    }

    /// Returns a progress line.
    pub(super) fn line(&self) -> String {
        let records = self.0.lock();
        let of = |finding| records.notes.iter().filter(|note| note.finding == finding).count();
        format!(
            "{} armed, {} delivered, {} early, {} overlapping, {} failed provisions",
            records.acknowledged,
            records.accepted,
            of(Finding::Early),
            of(Finding::Overlap),
            of(Finding::Failed)
        )
    }
}

/// True if the one-shot was acknowledged and not accepted.
pub(super) fn is_missing(entry: &Entry) -> bool {
    entry.acknowledged.is_some() && entry.accepted.is_none()
}
