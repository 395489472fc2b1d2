//! Sessions with plans from the start, so that the first callers after a deployment do not wait for them.

use std::time::Duration;

use futures::future::join_all;

use super::{Db, instances, provisions};
use crate::domain::arm_rules::ArmRules;

/// Sessions that many concurrent provisions use.
const SESSIONS: usize = 6;
/// Executions after which a session keeps a plan instead of making another one.
const EXECUTIONS: usize = 6;
/// Time after which the callers do better without it.
const AT_MOST: Duration = Duration::from_secs(5);

/// Opens sessions, and executes the statements of a provision on each, with nothing to provision. A service without agents
/// has no callers to wait for them. Failures have no effect: a session plans what it has not planned yet.
pub async fn warm_up(db: Db, rules: ArmRules) {
    let rounds = async {
        if !instances::exist(&db).await.unwrap_or(true) {
            return;
        }
        for _ in 0..EXECUTIONS {
            // At the same time, so that each takes a session of its own.
            join_all((0..SESSIONS).map(|_| async {
                let _ = instances::read_nothing(&db).await;
                let _ = provisions::provision_nothing(&db, &rules).await;
            }))
            .await;
        }
    };
    let _ = tokio::time::timeout(AT_MOST, rounds).await;
}
