//! Finds dormant jobs: their fires were delivered, and their agents have not armed the next one in time.
//!
//! Once a minute, one replica examines the deliveries that ended some minutes ago. Most jobs were armed again by then, and
//! cost one look at their primary key. For the others, the fire that their history lets expect is stored, and checked when
//! it should have come (docs/ARCHITECTURE.md#dormant-jobs).

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::db::rearms::{self, DormantCursor};
use crate::db::{Db, DbResult};
use crate::domain::dormancy::{AwaitedRearm, Dormancy, DormancyChange, Examined};
use crate::domain::recurrence::expectation;
use crate::heartbeat;

/// Average time between rounds, with jitter so that replicas spread.
const PERIOD: Duration = Duration::from_mins(1);
/// Time from a delivery until it is examined. Agents arm the next fire when the job has run, and no check is due within ten
/// minutes.
const SETTLED: Duration = Duration::from_mins(5);
/// Deliveries of one statement: of this time, and at most this many.
const WINDOW: Duration = Duration::from_secs(30);
const DELIVERIES: i64 = 5_000;
/// Longest window, after windows without deliveries.
const EMPTY_WINDOW: Duration = Duration::from_hours(2);
/// Maximum number of windows in one round, after a time without replicas. The next round continues.
const WINDOWS: u32 = 200;
/// Maximum number of dormant jobs that are checked in one round.
const DORMANT: i64 = 5_000;
/// Maximum number of consecutive statements that check awaited re-arms. The next round continues.
const CHECKS: u32 = 100;

/// Runs until `stop`.
pub(super) async fn run(db: Db, stop: CancellationToken) {
    let (db, mut cursor) = (db.patient(), None);
    loop {
        if let Err(error) = round(&db, &mut cursor).await {
            warn!(%error, "looking for dormant jobs failed; retrying in the next round");
        }
        let pause = PERIOD.mul_f64(rand::random_range(0.75..1.25));
        if heartbeat::rest(stop.run_until_cancelled(tokio::time::sleep(pause))).await.is_none() {
            return;
        }
    }
}

/// Examines the deliveries since the last round of any replica, and checks what is due. `cursor` is the dormant job after
/// which the check of dormant jobs continues.
pub async fn round(db: &Db, cursor: &mut Option<DormantCursor>) -> DbResult<()> {
    let mut window = WINDOW;
    for number in 0..WINDOWS {
        let Some(examined) = rearms::examine(db, SETTLED, window, DELIVERIES).await? else {
            if window == WINDOW {
                break;
            }
            window = WINDOW;
            continue;
        };
        // A replica that examines also checks the dormant jobs, so that not every replica does. It does so before: a job that
        // was armed and delivered again is then reported as back.
        if number == 0 {
            let (next, changes) = rearms::check_dormant(db, cursor.as_ref(), DORMANT).await?;
            *cursor = next;
            report(&changes);
        }
        rearms::store(db, &examined, &awaited(&examined)).await?;
        heartbeat::beat();
        window = if examined.read == 0 { (window * 2).min(EMPTY_WINDOW) } else { WINDOW };
    }
    for _ in 0..CHECKS {
        let (checked, dormant) = rearms::check_awaited(db).await?;
        report(&dormant);
        heartbeat::beat();
        if checked < rearms::CHECKED {
            break;
        }
    }
    Ok(())
}

/// Returns the re-arms to await.
fn awaited(examined: &Examined) -> Vec<AwaitedRearm<'_>> {
    let all = examined.unanswered.iter();
    all.filter_map(|of| Some(AwaitedRearm { of, expectation: expectation(&of.arms, of.delivered_at)? }))
        .collect()
}

fn report(changes: &[Dormancy]) {
    for one in changes {
        let Dormancy { instance_id, job_id, schedule_id, expected_at, recurrence, .. } = one;
        match one.change {
            DormancyChange::Dormant => warn!(
                agent.id = %instance_id, job.id = %job_id, schedule.id = %schedule_id, %expected_at, %recurrence,
                "job became dormant, its agent has not armed the next fire"
            ),
            DormancyChange::Back => {
                info!(agent.id = %instance_id, job.id = %job_id, "dormant job was armed again");
            }
            DormancyChange::Closed => {
                info!(agent.id = %instance_id, job.id = %job_id, "dormant job counted as finished");
            }
        }
    }
}
