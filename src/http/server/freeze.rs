//! A process that was frozen (stopped, or starved) serves nothing that waited meanwhile.
//!
//! Whoever notices the freeze first clears: it closes what is in the backlog, and every connection with unread bytes.
//! An accept and a read are good only if everything was cleared before their system call and no freeze was noticed
//! until after it. So it does not matter which thread runs first, nor where in its code a thread was stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::heartbeat::Heartbeat;
use super::registry::Registry;
use crate::metrics::{self, Closed, Listener};

const BEAT_EVERY: Duration = Duration::from_secs(1);
/// More than a backlog holds: callers that keep coming do not keep the clearing going.
const BACKLOG_MAX: u64 = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Freeze {
    heartbeat: Heartbeat,
    /// How many freezes have been cleared after.
    cleared: AtomicU64,
    listener: Weak<TcpListener>,
    registry: Arc<Registry>,
    name: Listener,
}

impl Freeze {
    pub(super) fn new(listener: &Arc<TcpListener>, registry: Arc<Registry>, name: Listener) -> Self {
        let listener = Arc::downgrade(listener);
        Self { heartbeat: Heartbeat::new(), cleared: AtomicU64::new(0), listener, registry, name }
    }

    /// Returns what [`Self::is_fresh`] compares with. To be called before what it judges.
    pub(super) fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::SeqCst)
    }

    /// Whether the process has run ever since `cleared` was read, so that what came in since has not waited.
    pub(super) fn is_fresh(&self, cleared: u64) -> bool {
        self.beat() == cleared
    }

    /// Beats until it is aborted.
    pub(super) async fn beat_on(&self) {
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beat();
        }
    }

    /// Beats, clears if this is the first beat after a freeze, and returns the number of freezes so far.
    fn beat(&self) -> u64 {
        let beat = self.heartbeat.beat();
        if let Some(frozen_for) = beat.frozen_for {
            let (queued, unread) = (self.clear_backlog(), self.clear_unread());
            self.cleared.fetch_max(beat.freezes, Ordering::SeqCst);
            warn!(
                listener = self.name.as_str(),
                ?frozen_for,
                queued,
                unread,
                "the process did not run for a while: requests that waited meanwhile were dropped"
            );
        }
        beat.freezes
    }

    fn clear_backlog(&self) -> u64 {
        let Some(listener) = self.listener.upgrade() else { return 0 };
        let mut count = 0;
        for _ in 0..BACKLOG_MAX {
            match rustix::net::accept(&*listener) {
                Ok(_) => count += 1,
                Err(Errno::WOULDBLOCK) => break,
                // Without descriptors nothing can be taken out: what is open makes room, or the rest waits on.
                Err(Errno::MFILE | Errno::NFILE) => {
                    self.registry.make_room();
                    break;
                }
                // One caller's own end.
                Err(_) => {}
            }
        }
        metrics::backlog_closed(self.name, count);
        count
    }

    fn clear_unread(&self) -> usize {
        let unread = self.registry.handles().into_iter().filter(|handle| handle.has_unread_bytes());
        unread.inspect(|handle| handle.close(Closed::Stale)).count()
    }
}
