//! The right of this replica to make attempts, which it has to renew (docs/ARCHITECTURE.md#a-replica-that-dies).
//!
//! Another replica may take over the attempts of one that has died. It waits [`TAKE_OVER_AFTER`] without a renewal, so a
//! replica that cannot renew, but lives, has to stop its own attempts before: after [`ABORT_AFTER`].

use std::sync::Arc;
use std::time::Duration;

use nas_cron_base::clock::steady;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Time between two renewals while any replica makes attempts. Together with the time that a reconnect takes, an outage of
/// the database of 10 s fits into [`ABORT_AFTER`].
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Time between two renewals while all replicas are idle. The first lease starts a renewal at once.
pub const RENEW_IDLE_EVERY: Duration = Duration::from_secs(10);
/// Time without a renewal after which a replica makes no attempts, counted from when the latest successful one was sent.
pub const ABORT_AFTER: Duration = Duration::from_secs(13);
/// Time for which a replica sees no renewal of another one before it takes over, counted from when it saw the latest.
pub const TAKE_OVER_AFTER: Duration = Duration::from_secs(15);

/// The registration of this process as one replica. Clones share it.
#[derive(Clone, Debug)]
pub struct Membership {
    replica_id: i32,
    /// Time of sending of the latest successful renewal, by [`steady`], which includes the time in suspension.
    renewed: Arc<Mutex<Duration>>,
    /// Cancelled when another replica has declared this one dead.
    ended: CancellationToken,
}

impl Membership {
    /// A registration that was sent at `sent` by [`steady`].
    pub fn new(replica_id: i32, sent: Duration) -> Self {
        Self { replica_id, renewed: Arc::new(Mutex::new(sent)), ended: CancellationToken::new() }
    }

    /// Returns the number of this replica.
    pub fn replica_id(&self) -> i32 {
        self.replica_id
    }

    /// Records a successful renewal that was sent at `sent`.
    pub fn renewed(&self, sent: Duration) {
        let mut renewed = self.renewed.lock();
        *renewed = (*renewed).max(sent);
    }

    /// Ends the membership for good.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Returns true if attempts may be made now.
    pub fn is_valid(&self) -> bool {
        !self.ended.is_cancelled() && !self.left().is_zero()
    }

    /// Waits until attempts may no longer be made. It may be valid again later, after a late renewal that shows that no
    /// other replica has taken over.
    pub async fn lapsed(&self) {
        let unrenewed = async {
            loop {
                let left = self.left();
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left).await;
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = unrenewed => {}
        }
    }

    /// Returns the time until it lapses without another renewal.
    fn left(&self) -> Duration {
        (*self.renewed.lock() + ABORT_AFTER).saturating_sub(steady())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the time of sending of a renewal that is valid for `millis` more.
    fn valid_for(millis: u64) -> Duration {
        steady().saturating_sub(ABORT_AFTER.saturating_sub(Duration::from_millis(millis)))
    }

    #[tokio::test]
    async fn membership_lapses_thirteen_seconds_after_the_latest_renewal_was_sent() {
        let membership = Membership::new(1, steady().saturating_sub(ABORT_AFTER));
        assert!(!membership.is_valid());
        membership.lapsed().await;
        membership.renewed(steady());
        assert!(membership.is_valid(), "renewed late, and not declared dead");
        membership.renewed(steady().saturating_sub(ABORT_AFTER));
        assert!(membership.is_valid(), "an older renewal changes nothing");
    }

    #[tokio::test]
    async fn renewal_while_waiting_defers_the_lapse() {
        let membership = Membership::new(1, valid_for(50));
        let renewing = membership.clone();
        let (lapsed_at, renewed_at) = tokio::join!(
            async {
                membership.lapsed().await;
                steady()
            },
            async {
                tokio::task::yield_now().await;
                let now = steady();
                renewing.renewed(valid_for(100));
                now
            }
        );
        assert!(lapsed_at >= renewed_at + Duration::from_millis(100));
    }

    #[tokio::test]
    async fn ended_membership_stays_ended() {
        let membership = Membership::new(1, steady());
        membership.end();
        membership.lapsed().await;
        membership.renewed(steady());
        assert!(!membership.is_valid());
    }
}
