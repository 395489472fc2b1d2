//! Check of the running replicas.

use super::deployment::Deployment;
use crate::db::replicas;
use crate::diagnosis::{self, Finding, failed};

/// Checks that at least one replica is running: otherwise nothing fires.
pub(super) async fn running(deployment: &Deployment) -> Finding {
    let db = &deployment.db;
    match tokio::try_join!(replicas::list(db), db.signing_keys()) {
        Ok((registered, keys)) => diagnosis::replicas(&registered, !keys.is_empty()),
        Err(error) => failed(error),
    }
}
