//! The open connections of a listener, and the choice of the one that makes room for a new one.
//!
//! Near the limit, a connection that waits for its caller is closed. Connections with an incomplete request (mostly
//! silent ones) and idle connections form two queues. The longer queue gives up its oldest connection without unread
//! bytes. Therefore a flood of silent connections does not close those that load balancers keep open, and idle
//! connections do not keep new callers out. If both queues are empty, the oldest response that has been in flight for a
//! while is aborted. A connection whose handler is at work is never closed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::handle::Handle;
use super::phase::{Place, Waits};
use crate::metrics::Closed;

/// Minimum time for which a response has been in flight before it may be aborted.
const SENDING_FOR: Duration = Duration::from_secs(5);

/// Maximum number of connections that are checked for unread bytes in one queue.
const MAX_CHECKED: usize = 32;

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct Registry {
    bound: usize,
    /// The number of connections from which room is made in advance, so that accepting does not wait for a close.
    near: usize,
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Entry>,
    /// Connections that were asked to make room and are not closed yet.
    leaving: usize,
    requests: Queue,
    idle: Queue,
    responses: Queue,
}

/// Connections that wait for the same event, longest-waiting first.
type Queue = BTreeSet<(Instant, u64)>;

#[derive(Debug)]
struct Entry {
    handle: Arc<Handle>,
    /// The event that it waits for; `None` once it was asked to make room.
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

    /// Chooses the connection that makes room.
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

    /// Returns the longest-waiting connection without unread bytes. One with unread bytes is about to be served.
    fn silent(&self, queue: &Queue) -> Option<u64> {
        let is_silent =
            |id: &u64| self.connections.get(id).is_some_and(|entry| !entry.handle.has_unread_bytes());
        queue.iter().take(MAX_CHECKED).map(|(_, id)| *id).find(is_silent)
    }

    /// Asks a connection to make room. Returns false if none can.
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
    /// A registry for at most `bound` connections.
    pub(super) fn new(bound: usize) -> Self {
        let bound = bound.max(1);
        let near = bound - (bound / 16).min(32);
        Self { bound, near, open: Mutex::default(), changed: Notify::new() }
    }

    /// Adds a connection, and returns its number.
    pub(super) fn admit(&self, handle: Arc<Handle>, place: Place) -> u64 {
        let mut open = self.open.lock();
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Entry { handle, place: Some(place) });
        open.put(id, place);
        id
    }

    /// Records that a connection waits for another event.
    pub(super) fn moved(&self, id: u64, place: Place) {
        let mut open = self.open.lock();
        let Some(entry) = open.connections.get_mut(&id) else { return };
        let Some(before) = entry.place.replace(place) else {
            // It was asked to make room.
            entry.place = None;
            return;
        };
        open.take_out(id, before);
        open.put(id, place);
        drop(open);
        self.changed.notify_one();
    }

    /// Removes a connection that is closed.
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

    /// Waits until there is room for an accepted connection. Cancel-safe.
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
            // No event signals that a response has been in flight for `SENDING_FOR`, so check again regularly.
            let _ = tokio::time::timeout(SENDING_FOR / 5, changed).await;
        }
    }

    /// Closes a connection that waits for its caller, if any, because the process is out of descriptors.
    pub(super) fn make_room(&self) {
        self.open.lock().evict(Instant::now());
    }

    /// Returns the handles of all open connections.
    pub(super) fn handles(&self) -> Vec<Arc<Handle>> {
        self.open.lock().connections.values().map(|entry| Arc::clone(&entry.handle)).collect()
    }
}
