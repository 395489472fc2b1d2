//! An agent that calls is awake: its waiting retries need not wait out their back-off.

use std::sync::Arc;
use std::time::Duration;

use nas_cron_base::clock::Clock;

use super::Scheduler;
use crate::db::outages;
use crate::domain::agent_instance::AgentInstance;

/// How often a calling agent's waiting retries are pulled forward, per instance (docs/contract.md#retries).
const PULL_INTERVAL: Duration = Duration::from_mins(1);

impl Scheduler {
    /// Pulls the waiting retries of a calling instance forward, unless that was done lately. Returns at once: it is not
    /// what the agent came for.
    pub fn awake(&self, instance: &AgentInstance) {
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
                    tracing::info!(agent.id = %instance_id, pulled, "the agent is awake: its retries come soon");
                    inner.look();
                }
                Err(error) => tracing::debug!(%error, "retries were not pulled; the agent's next call will"),
            }
        });
    }
}
