//! Tracks the phase of one connection, and informs the registry and the connection's task of changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::freeze::Freeze;
use super::handle::Handle;
use super::phase::{Number, Phase, Place, Times, Waits};
use super::registry::Registry;
use crate::metrics::{self, Closed, Listener};

/// Tracks one connection. The connection counts as open until its tracker is dropped.
#[derive(Debug)]
pub(super) struct Tracker {
    id: u64,
    phase: Mutex<Phase>,
    pub(super) handle: Arc<Handle>,
    registry: Arc<Registry>,
    freeze: Arc<Freeze>,
    /// Number of freezes that had been cleared before the last read. A request that begins was part of that read.
    read_after: AtomicU64,
    name: Listener,
    reason: Mutex<Closed>,
    /// Wakes the connection's task when the connection becomes idle in another task, because its deadline has changed.
    idles: Notify,
}

impl Tracker {
    /// Starts to track a connection that was just accepted.
    pub(super) fn new(
        handle: Arc<Handle>,
        registry: Arc<Registry>,
        freeze: Arc<Freeze>,
        name: Listener,
    ) -> Self {
        let phase = Phase::new(Instant::now());
        let id = registry.admit(Arc::clone(&handle), phase.place());
        let read_after = AtomicU64::new(freeze.cleared());
        metrics::connection_opened(name);
        let (phase, reason) = (Mutex::new(phase), Mutex::new(Closed::Ended));
        Self { id, phase, handle, registry, freeze, read_after, name, reason, idles: Notify::new() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Phase, Instant) -> T) -> T {
        let mut phase = self.phase.lock();
        let before = phase.place();
        let changed = change(&mut phase, Instant::now());
        let after: Place = phase.place();
        if after != before {
            if after.waits == Waits::Idle {
                self.idles.notify_one();
            }
            // Under the lock, so that the registry receives changes in order.
            self.registry.moved(self.id, after);
        }
        changed
    }

    /// Waits until the connection becomes idle. Cancel-safe.
    pub(super) async fn becomes_idle(&self) {
        self.idles.notified().await;
    }

    /// Returns the argument of [`Self::received`]. Call it before a read.
    pub(super) fn before_read(&self) -> u64 {
        self.freeze.cleared()
    }

    /// Records that bytes were read. Returns true if they may be used.
    pub(super) fn received(&self, before: u64) -> bool {
        if self.handle.is_closing() {
            return false;
        }
        if !self.freeze.is_fresh(before) {
            self.handle.close(Closed::Stale);
            return false;
        }
        self.read_after.store(before, Ordering::SeqCst);
        self.change(Phase::received);
        true
    }

    /// Records that bytes were written.
    pub(super) fn sent(&self) {
        self.change(Phase::sent);
    }

    /// Records that all bytes were written.
    pub(super) fn flushed(&self) {
        self.change(Phase::flushed);
    }

    /// Begins a request. Returns `None` if the process was frozen after the request was read.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool, has_body: bool) -> Option<Exchange> {
        if !self.freeze.is_fresh(self.read_after.load(Ordering::SeqCst)) {
            self.handle.close(Closed::Stale);
            return None;
        }
        let number = self.change(|phase, now| phase.request(is_http2, has_body, now));
        Some(Exchange { number, tracker: Arc::clone(self) })
    }

    /// Records that a handler starts or stops waiting for more of a request's body.
    pub(super) fn wants_body(&self, wants: bool) {
        self.change(|phase, _| phase.wants_body(wants));
    }

    /// Records that a request's body is complete or dropped.
    pub(super) fn body_ended(&self) {
        self.change(|phase, _| phase.body_ended());
    }

    /// Returns the time at which to close the connection if nothing happens before, and the reason.
    pub(super) fn deadline(&self, times: &Times) -> Option<(Instant, Closed)> {
        self.phase.lock().deadline(times)
    }

    /// True if the connection is still idle. Checks the socket, because the runtime may not have noticed a new request.
    pub(super) fn is_really_idle(&self) -> bool {
        let is_idle = !self.handle.has_unread_bytes();
        if !is_idle {
            self.change(Phase::not_idle);
        }
        is_idle
    }

    /// Records the reason why the connection is closed.
    pub(super) fn closes(&self, reason: Closed) {
        *self.reason.lock() = reason;
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.registry.remove(self.id);
        metrics::connection_closed(self.name, *self.reason.lock());
    }
}

/// A request in flight: from its head to the end of its response, or until it is dropped without one.
#[derive(Debug)]
pub(super) struct Exchange {
    number: Number,
    pub(super) tracker: Arc<Tracker>,
}

impl Exchange {
    /// Records that the response begins.
    pub(super) fn response(&self) {
        self.tracker.change(|phase, now| phase.response(self.number, now));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.tracker.change(|phase, now| phase.ended(self.number, now));
    }
}
