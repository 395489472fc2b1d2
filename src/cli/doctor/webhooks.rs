//! The check of webhooks: those that fail, and secrets that cannot be read.

use super::deployment::Deployment;
use crate::db::webhooks;
use crate::diagnosis::{self, Finding, failed};

/// Checks for webhooks that fail or are about to.
pub(super) async fn webhooks(deployment: &Deployment) -> Finding {
    match webhooks::failing(&deployment.db, None, diagnosis::READ_WEBHOOKS).await {
        Ok((all, failing)) => diagnosis::webhooks(all, &failing, deployment.config.keys.encryption.is_some()),
        Err(error) => failed(error),
    }
}
