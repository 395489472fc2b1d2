//! The end of a replica: it claims nothing more, gives back what it has not started, and waits for attempts in flight.

use std::time::Duration;

use tracing::{info, warn};

use super::{Scheduler, minutes};
use crate::db::{hints, leases};

/// Maximum wait for a claim that is under way when the drain begins.
const LAST_CLAIM: Duration = Duration::from_secs(5);
/// Maximum time for deleting the registration of this replica when it stops.
const LEAVING_WITHIN: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Stops claiming, and gives back the leases of attempts that have not started, so that other replicas can claim them
    /// at once. Attempts in flight continue.
    pub async fn drain(&self) {
        self.inner.stop.cancel();
        let claims = self.claims_task.lock().take();
        if let Some(mut claims) = claims
            && tokio::time::timeout(LAST_CLAIM, &mut claims).await.is_err()
        {
            warn!(
                "last claim timed out; one-shots that it may have leased are recovered when their leases expire"
            );
            claims.abort();
        }
        self.give_back_held().await;
    }

    /// Gives back every lease that waits for its instant or for a slot.
    async fn give_back_held(&self) {
        let mut leases = self.inner.timer.clear();
        leases.extend(self.inner.dispatch.lock().take_queued());
        if leases.is_empty() {
            return;
        }
        let count = leases.len();
        self.inner.released(count);
        self.inner.watched.forget(&leases);
        match leases::give_back(&self.inner.db, &leases, Duration::ZERO).await {
            Ok(given) => info!(given, "leases given back to the other replicas"),
            Err(error) => warn!(%error, count, "giving leases back failed; they expire by themselves"),
        }
        if let Err(error) = hints::announce(&self.inner.db).await {
            warn!(%error, "notifying the other replicas failed; their next query finds the one-shots");
        }
    }

    /// Waits until all attempts in flight have ended and are recorded, for `within` at most. Returns `false` if attempts
    /// were still in flight then; they are recovered when their leases expire.
    pub async fn finish(&self, within: Duration) -> bool {
        self.drain().await;
        self.inner.attempts.close();
        let ended = tokio::time::timeout(within, self.inner.attempts.wait()).await.is_ok();
        // Leases that were between claim and start when the drain began.
        self.give_back_held().await;
        for task in std::mem::take(&mut *self.tasks.lock()) {
            task.abort();
        }
        // An attempt ends only after its outcome is durable, so the recorder is idle when all have ended.
        if let Some(recorder) = self.recorder_task.lock().take() {
            recorder.abort();
        }
        minutes::last(&self.inner).await;
        self.leave(ended).await;
        ended
    }

    /// Ends the registration of this replica. If attempts are still in flight, it is left to the other replicas: they
    /// declare this one dead, and recover the attempts.
    async fn leave(&self, idle: bool) {
        let Some(mut presence) = self.presence_task.lock().take() else { return };
        if idle {
            self.inner.leaving.cancel();
            if tokio::time::timeout(LEAVING_WITHIN, &mut presence).await.is_ok() {
                return;
            }
        }
        presence.abort();
    }
}
