//! Drops requests that arrived while the process was frozen (stopped, or starved of CPU time).
//!
//! The thread that detects a freeze first clears: it closes the connections in the backlog, and every connection with
//! unread bytes. The result of an accept or a read is used only if all freezes so far were cleared before the system
//! call, and no freeze was detected until after it. Therefore it does not matter which thread runs first, nor where a
//! thread was stopped.

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

const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of connections that one clearing closes: more than a backlog holds, so that new callers cannot
/// prolong it.
const BACKLOG_MAX: u64 = 65_536;

/// Detects freezes of the process, and clears after them.
#[derive(Debug)]
pub(super) struct Freeze {
    heartbeat: Heartbeat,
    /// Number of freezes that have been cleared.
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

    /// Returns the number of cleared freezes, for [`Self::is_fresh`]. Call it before the system call to check.
    pub(super) fn cleared(&self) -> u64 {
        self.cleared.load(Ordering::SeqCst)
    }

    /// True if the process has not been frozen since `cleared` was read.
    pub(super) fn is_fresh(&self, cleared: u64) -> bool {
        self.beat() == cleared
    }

    /// Beats regularly until it is aborted.
    pub(super) async fn beat_on(&self) {
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beat();
        }
    }

    /// Beats, clears if this is the first beat after a freeze, and returns the number of freezes.
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
                "process was frozen; requests that arrived meanwhile were dropped"
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
                // Accepting needs a descriptor: close an open connection to free one, or leave the rest queued.
                Err(Errno::MFILE | Errno::NFILE) => {
                    self.registry.make_room();
                    break;
                }
                // Only this connection failed.
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
