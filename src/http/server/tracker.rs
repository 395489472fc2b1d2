//! One connection's phase, told to those who must know: the registry, and the connection's own deadline.

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

/// See the module. Counts its connection as open for as long as it lives.
#[derive(Debug)]
pub(super) struct Tracker {
    id: u64,
    phase: Mutex<Phase>,
    pub(super) handle: Arc<Handle>,
    registry: Arc<Registry>,
    freeze: Arc<Freeze>,
    /// What had been cleared before the last read: a request that begins belongs to it.
    read_after: AtomicU64,
    name: Listener,
    reason: Mutex<Closed>,
    /// It waits for its caller now: the connection's task must look at its deadline, which changed in another task.
    idles: Notify,
}

impl Tracker {
    /// For a connection that was accepted just now.
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
            // Under the lock: the registry learns of changes in their order.
            self.registry.moved(self.id, after);
        }
        changed
    }

    /// Waits until the connection becomes idle. Cancel-safe.
    pub(super) async fn becomes_idle(&self) {
        self.idles.notified().await;
    }

    /// Returns what [`Self::received`] takes. To be called before a read.
    pub(super) fn before_read(&self) -> u64 {
        self.freeze.cleared()
    }

    /// Takes note of bytes that were read. Returns whether they may be used.
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

    /// Takes note of bytes that were written.
    pub(super) fn sent(&self) {
        self.change(Phase::sent);
    }

    /// Takes note that everything was written.
    pub(super) fn flushed(&self) {
        self.change(Phase::flushed);
    }

    /// Begins a request; nothing if the process was frozen after it was read.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool, has_body: bool) -> Option<Exchange> {
        if !self.freeze.is_fresh(self.read_after.load(Ordering::SeqCst)) {
            self.handle.close(Closed::Stale);
            return None;
        }
        let number = self.change(|phase, now| phase.request(is_http2, has_body, now));
        Some(Exchange { number, tracker: Arc::clone(self) })
    }

    /// A handler waits for more of a request's body, or does not wait any more.
    pub(super) fn wants_body(&self, wants: bool) {
        self.change(|phase, _| phase.wants_body(wants));
    }

    /// A request's body is complete, or not wanted any more.
    pub(super) fn body_ended(&self) {
        self.change(|phase, _| phase.body_ended());
    }

    /// When the connection is to be closed, and why, if nothing happens until then.
    pub(super) fn deadline(&self, times: &Times) -> Option<(Instant, Closed)> {
        self.phase.lock().deadline(times)
    }

    /// Whether it is idle in truth: a request may have arrived in the last moment, unnoticed by the runtime.
    pub(super) fn is_idle_in_truth(&self) -> bool {
        let is_idle = !self.handle.has_unread_bytes();
        if !is_idle {
            self.change(Phase::not_idle);
        }
        is_idle
    }

    /// Takes note of why the connection is closed.
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

/// A request under way, from its head to the end of its response, or to its end without one.
#[derive(Debug)]
pub(super) struct Exchange {
    number: Number,
    pub(super) tracker: Arc<Tracker>,
}

impl Exchange {
    /// Its response begins.
    pub(super) fn response(&self) {
        self.tracker.change(|phase, now| phase.response(self.number, now));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.tracker.change(|phase, now| phase.ended(self.number, now));
    }
}
