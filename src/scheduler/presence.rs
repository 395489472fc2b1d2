//! Keeps this process registered as a replica, and takes over from replicas that have died
//! (docs/ARCHITECTURE.md#a-replica-that-dies).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nas_cron_base::clock::steady;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::Inner;
use crate::db::DbResult;
use crate::db::replicas::{self, Registration, Seen};
use crate::domain::release::VERSION;
use crate::heartbeat;
use crate::membership::{Membership, RENEW_EVERY, RENEW_IDLE_EVERY, TAKE_OVER_AFTER};
use crate::metrics;

/// Pause after a failed renewal: the database may be restarting.
const AFTER_A_FAULT: Duration = Duration::from_millis(250);

/// The state of leases and attempts on all replicas. While there are some, this one renews often, and notices a silent one
/// soon.
#[derive(Debug, Default)]
pub(super) struct Activity {
    is_busy: AtomicBool,
    began: Notify,
}

impl Activity {
    /// Reports whether there are leases or attempts.
    pub(super) fn set(&self, busy: bool) {
        if busy && !self.is_busy.swap(true, Ordering::SeqCst) {
            self.began.notify_one();
        } else if !busy {
            self.is_busy.store(false, Ordering::SeqCst);
        }
    }

    /// Returns the time to the next renewal.
    fn interval(&self) -> Duration {
        if self.is_busy.load(Ordering::SeqCst) { RENEW_EVERY } else { RENEW_IDLE_EVERY }
    }
}

/// Runs until the scheduler finishes. Registers this replica again when another one has declared it dead.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut others = Others::new(inner.rules.leases.attempt);
    let mut failing = false;
    while !inner.leaving.is_cancelled() {
        match register(&inner).await {
            Ok((registration, membership)) => {
                failing = false;
                // Attempts of an ended membership keep that one.
                *inner.membership.lock() = Some(membership.clone());
                // Due one-shots may have waited for it.
                inner.claim.notify_one();
                keep(&inner, registration, &membership, &mut others).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "registering this replica failed; no attempts start until it succeeds");
                }
                pause(&inner, tokio::time::sleep(AFTER_A_FAULT)).await;
            }
        }
    }
}

/// Returns the name of this machine or container.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

async fn register(inner: &Inner) -> DbResult<(Registration, Membership)> {
    let (host_name, clock_offset) = (host_name(), inner.db_clock.offset().ahead);
    let sent = steady();
    let registration = Registration::new(&inner.beside, &host_name, VERSION, clock_offset).await?;
    let membership = Membership::new(registration.replica_id(), sent);
    info!(replica = membership.replica_id(), "replica registered");
    Ok((registration, membership))
}

/// Renews the registration until another replica has declared this one dead, or the scheduler finishes.
async fn keep(inner: &Inner, mut registration: Registration, membership: &Membership, others: &mut Others) {
    let replica = membership.replica_id();
    let mut failing = false;
    while pause(inner, next_renewal(inner, failing)).await {
        let sent = steady();
        match registration.renew(inner.db_clock.offset().ahead).await {
            Ok(Some(seen)) => {
                membership.renewed(sent);
                if std::mem::take(&mut failing) {
                    info!(replica, "registration of this replica renewed again");
                    inner.claim.notify_one();
                }
                others.saw(&seen, replica, Instant::now());
                take_over(inner, others).await;
            }
            Ok(None) => {
                membership.end();
                warn!(replica, "another replica declared this one dead; its attempts in flight are aborted");
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, replica, "renewing the registration of this replica failed; retrying");
                }
                // The others may have the same trouble: they get the whole time again.
                others.forget();
                // If this fails, so does the next renewal.
                let _ = registration.reconnect(&inner.beside).await;
            }
        }
    }
    if let Err(error) = registration.leave().await {
        warn!(%error, replica, "leaving failed; the other replicas find out");
    }
}

/// Waits until the next renewal: at once when activity begins, and soon after a failure.
async fn next_renewal(inner: &Inner, failing: bool) {
    if failing {
        tokio::time::sleep(AFTER_A_FAULT).await;
    } else {
        tokio::select! {
            () = tokio::time::sleep(inner.activity.interval()) => {}
            () = inner.activity.began.notified() => {}
        }
    }
}

/// Waits. Returns `false` if the scheduler finishes.
async fn pause(inner: &Inner, wait: impl Future<Output = ()>) -> bool {
    heartbeat::rest(inner.leaving.run_until_cancelled(wait)).await.is_some()
}

/// Takes over from the replicas that have died.
async fn take_over(inner: &Inner, others: &mut Others) {
    for (seen, session_must_be_gone) in others.silent(Instant::now()) {
        match replicas::declare_dead(&inner.beside, seen, session_must_be_gone).await {
            Ok(Some(leases)) => {
                warn!(
                    replica = seen.replica_id,
                    attempts = leases,
                    "replica declared dead; its attempts are recovered"
                );
                metrics::replica_died();
                inner.claim.notify_one();
            }
            // Its session still exists: it is stopped or cut off, and its leases end by themselves. Or it is back.
            Ok(None) => {}
            Err(error) => {
                warn!(%error, replica = seen.replica_id, "declaring a replica dead failed; retrying");
            }
        }
    }
}

/// The renewals of the other replicas, as they were seen here.
#[derive(Debug)]
struct Others {
    /// Number of renewals per replica, and the time at which that number was seen first.
    seen: HashMap<i32, (i64, Instant)>,
    /// Length of an attempt's lease.
    attempt_lease: Duration,
}

impl Others {
    fn new(attempt_lease: Duration) -> Self {
        Self { seen: HashMap::new(), attempt_lease }
    }

    /// Notes the rows that a statement returned, which has ended at `now`.
    fn saw(&mut self, rows: &[Seen], own: i32, now: Instant) {
        self.seen = rows
            .iter()
            .filter(|row| row.replica_id != own)
            .map(|row| {
                let before = self.seen.get(&row.replica_id).filter(|(renewals, _)| *renewals == row.renewals);
                (row.replica_id, before.copied().unwrap_or((row.renewals, now)))
            })
            .collect();
    }

    /// Forgets all renewals.
    fn forget(&mut self) {
        self.seen.clear();
    }

    /// Returns the replicas without a renewal for [`TAKE_OVER_AFTER`], and whether their session must be gone, too. The
    /// session does not matter any more when every lease of the replica has ended by itself.
    fn silent(&self, now: Instant) -> Vec<(Seen, bool)> {
        let silent = self.seen.iter().filter_map(|(&replica_id, &(renewals, since))| {
            let silence = now - since;
            let must_be_gone = silence < TAKE_OVER_AFTER + self.attempt_lease;
            (silence >= TAKE_OVER_AFTER).then_some((Seen { replica_id, renewals }, must_be_gone))
        });
        silent.collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LEASE: Duration = Duration::from_secs(40);

    #[tokio::test]
    async fn activity_starts_a_renewal_once_and_shortens_the_interval_while_it_lasts() {
        let activity = Activity::default();
        assert_eq!(activity.interval(), RENEW_IDLE_EVERY);
        activity.set(true);
        activity.set(true);
        activity.began.notified().await;
        assert_eq!(activity.began.notified().now_or_never(), None, "one renewal");
        assert_eq!(activity.interval(), RENEW_EVERY);
        activity.set(false);
        assert_eq!(activity.interval(), RENEW_IDLE_EVERY);
        activity.set(true);
        activity.began.notified().await;
    }

    fn row(replica_id: i32, renewals: i64) -> Seen {
        Seen { replica_id, renewals }
    }

    #[test]
    fn replica_is_silent_fifteen_seconds_after_its_latest_renewal_was_seen() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut others = Others::new(LEASE);
        others.saw(&[row(1, 7), row(2, 3)], 1, at(0));
        others.saw(&[row(1, 8), row(2, 4)], 1, at(10));
        others.saw(&[row(1, 9), row(2, 4)], 1, at(24));
        assert_eq!(others.silent(at(24)), [], "the own row does not count, and the other was renewed");
        assert_eq!(others.silent(at(25)), [(row(2, 4), true)]);
        others.saw(&[row(1, 10), row(2, 3)], 1, at(26));
        assert_eq!(others.silent(at(26)), [], "a database that lost a renewal starts the count again");
        assert_eq!(others.silent(at(26 + 54)), [(row(2, 3), true)]);
        assert_eq!(others.silent(at(26 + 55)), [(row(2, 3), false)], "all its leases have ended");
        others.saw(&[row(1, 11)], 1, at(90));
        assert_eq!(others.silent(at(200)), [], "it has left");
    }

    #[test]
    fn replica_that_had_no_contact_itself_starts_to_count_again() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut others = Others::new(LEASE);
        others.saw(&[row(2, 4)], 1, at(0));
        others.forget();
        others.saw(&[row(2, 4)], 1, at(20));
        assert_eq!(others.silent(at(34)), []);
        assert_eq!(others.silent(at(35)), [(row(2, 4), true)]);
    }
}
