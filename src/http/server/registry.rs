//! The open connections of a listener, and which of them makes room for a new one.
//!
//! Near the bound a connection is closed that waits for its caller. Those that wait for a request's rest (silent ones
//! above all) and idle ones are two queues, and the longer one gives up the oldest connection that has sent nothing
//! new. So a flood of silent connections does not close those that load balancers keep, and idle ones do not keep a new
//! caller from sending its request. Where there is neither, a response that is not taken for a while ends. A handler
//! at work is never disturbed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::handle::Handle;
use super::phase::{Place, Waits};
use crate::metrics::Closed;

/// A response that is being sent for less than this is not disturbed.
const SENDING_FOR: Duration = Duration::from_secs(5);

/// That many are looked at before none is found that sends nothing.
const LOOKED_AT: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Registry {
    bound: usize,
    /// From here on room is made ahead, so that accepting does not wait for a close.
    near: usize,
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Entry>,
    /// Told to make room, and not closed yet.
    leaving: usize,
    requests: Queue,
    idle: Queue,
    responses: Queue,
}

/// Connections that wait for the same, the one that waits longest first.
type Queue = BTreeSet<(Instant, u64)>;

#[derive(Debug)]
struct Entry {
    handle: Arc<Handle>,
    /// Where it stands; nothing once it is told to make room.
    place: Option<Place>,
}

impl Open {
    fn queue(&mut self, waits: Waits) -> Option<&mut Queue> {
        match waits {
            Waits::Request => Some(&mut self.requests),
            Waits::Idle => Some(&mut self.idle),
            Waits::Response => Some(&mut self.responses),
            Waits::Handler => None,
        }
    }

    fn put(&mut self, id: u64, place: Place) {
        if let Some(queue) = self.queue(place.waits) {
            queue.insert((place.since, id));
        }
    }

    fn take_out(&mut self, id: u64, place: Place) {
        if let Some(queue) = self.queue(place.waits) {
            queue.remove(&(place.since, id));
        }
    }

    /// The connection that makes room.
    fn victim(&self, now: Instant) -> Option<u64> {
        let by_size = if self.requests.len() > self.idle.len() {
            [&self.requests, &self.idle]
        } else {
            [&self.idle, &self.requests]
        };
        let slowest = || {
            let slowest = self.responses.first();
            slowest.filter(|(since, _)| now.saturating_duration_since(*since) > SENDING_FOR)
        };
        by_size.into_iter().find_map(|queue| self.silent(queue)).or_else(|| slowest().map(|(_, id)| *id))
    }

    /// The one that waits longest and has sent nothing that is still to be read: what has will be served at once.
    fn silent(&self, queue: &Queue) -> Option<u64> {
        let is_silent =
            |id: &u64| self.connections.get(id).is_some_and(|entry| !entry.handle.has_unread_bytes());
        queue.iter().take(LOOKED_AT).map(|(_, id)| *id).find(is_silent)
    }

    /// Tells a connection to make room, if there is one to be told.
    fn evict(&mut self, now: Instant) -> bool {
        let Some(id) = self.victim(now) else { return false };
        let Some(entry) = self.connections.get_mut(&id) else { return false };
        let (handle, place) = (Arc::clone(&entry.handle), entry.place.take());
        if let Some(place) = place {
            self.take_out(id, place);
        }
        self.leaving += 1;
        handle.close(Closed::Displaced);
        true
    }
}

impl Registry {
    /// For that many connections.
    pub(super) fn new(bound: usize) -> Self {
        let bound = bound.max(1);
        let near = bound - (bound / 16).min(32);
        Self { bound, near, open: Mutex::default(), changed: Notify::new() }
    }

    /// Takes in a connection, and returns its number.
    pub(super) fn admit(&self, handle: Arc<Handle>, place: Place) -> u64 {
        let mut open = self.open.lock();
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Entry { handle, place: Some(place) });
        open.put(id, place);
        id
    }

    /// A connection waits for something else now.
    pub(super) fn moved(&self, id: u64, place: Place) {
        let mut open = self.open.lock();
        let Some(entry) = open.connections.get_mut(&id) else { return };
        let Some(before) = entry.place.replace(place) else {
            // It is leaving.
            entry.place = None;
            return;
        };
        open.take_out(id, before);
        open.put(id, place);
        drop(open);
        self.changed.notify_one();
    }

    /// A connection is closed.
    pub(super) fn remove(&self, id: u64) {
        let mut open = self.open.lock();
        match open.connections.remove(&id) {
            Some(Entry { place: Some(place), .. }) => open.take_out(id, place),
            Some(Entry { place: None, .. }) => open.leaving -= 1,
            None => {}
        }
        drop(open);
        self.changed.notify_one();
    }

    /// Waits until there is room for one that was accepted. Cancel-safe.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            let wait = {
                let mut open = self.open.lock();
                if open.connections.len() - open.leaving >= self.near {
                    open.evict(Instant::now());
                }
                open.connections.len() >= self.bound
            };
            if !wait {
                return;
            }
            // By itself nothing changes when a response has been under way for long enough.
            let _ = tokio::time::timeout(SENDING_FOR / 5, changed).await;
        }
    }

    /// Closes a connection, if there is one that waits for its caller: the process is short of descriptors.
    pub(super) fn make_room(&self) {
        self.open.lock().evict(Instant::now());
    }

    /// All that are open.
    pub(super) fn handles(&self) -> Vec<Arc<Handle>> {
        self.open.lock().connections.values().map(|entry| Arc::clone(&entry.handle)).collect()
    }
}
