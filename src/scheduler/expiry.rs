//! Ends one-shots whose `not_after` has passed (`docs/contract.md#not_after`).
//!
//! The confirmation starts no attempt after that instant. This makes the one-shot a visible dead letter soon afterwards,
//! also while it is parked.

use tracing::warn;

use crate::db::{Db, DbResult, expiry};
use crate::metrics;

/// Ends at most `limit` one-shots, and logs each. Returns their number.
pub(super) async fn expire(db: &Db, limit: u16) -> DbResult<usize> {
    let expired = expiry::expire(db, i64::from(limit)).await?;
    metrics::expired(expired.len() as u64);
    for one in &expired {
        warn!(
            agent.id = %one.instance_id, job.id = %one.job_id, schedule.id = %one.schedule_id, attempts = one.attempts,
            "one-shot expired, its not_after has passed"
        );
    }
    Ok(expired.len())
}
