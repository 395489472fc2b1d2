//! Early retries: an agent that calls is awake, so its waiting retries are pulled forward.

use std::sync::Arc;
use std::time::Duration;

use nas_cron_base::clock::Clock;

use super::Scheduler;
use crate::db::outages;
use crate::domain::agent_instance::AgentInstance;

/// Minimum time between two pulls of one instance's waiting retries (docs/contract.md#retries).
const PULL_INTERVAL: Duration = Duration::from_mins(1);

impl Scheduler {
    /// Pulls the waiting retries of a calling instance forward, unless that happened less than a minute ago. Runs in the
    /// background, so that the agent's request does not wait for it.
    pub fn awake(&self, instance: &AgentInstance) {
        if instance.callback_url.is_none() {
            // It has had no one-shot until this call.
            return;
        }
        let now = self.inner.db_clock.now();
        let lately =
            instance.pulled_at.is_some_and(|at| (now - at).to_std().unwrap_or_default() < PULL_INTERVAL);
        if lately {
            return;
        }
        let (inner, instance_id) = (Arc::clone(&self.inner), instance.instance_id.clone());
        tokio::spawn(async move {
            match outages::pull_retries(&inner.beside, &instance_id, PULL_INTERVAL).await {
                Ok(0) => {}
                Ok(pulled) => {
                    tracing::info!(agent.id = %instance_id, pulled, "agent called; its waiting retries pulled forward");
                    inner.look();
                }
                Err(error) => {
                    tracing::debug!(%error, "pulling retries forward failed; the agent's next call repeats it");
                }
            }
        });
    }
}
