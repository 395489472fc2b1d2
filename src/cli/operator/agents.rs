//! Operations on agents.

use nas_cron_protocol::InstanceId;
use reqwest::Method;

use super::{Operator, explained};
use crate::domain::registration::{AgentFilter, AgentPage, EnabledAgent, ShownAgent};

/// Maximum number of agents per request.
const MAX_PAGE: u32 = 1_000;

impl Operator {
    /// Lists a page of agents.
    pub(in crate::cli) async fn agents(
        &self,
        filter: &AgentFilter,
        limit: u32,
        after: Option<&str>,
    ) -> anyhow::Result<AgentPage> {
        let limit = limit.min(MAX_PAGE);
        match self {
            Self::Database(_, on) => on.agents(filter, limit, after).await.map_err(explained),
            Self::Server(client) => {
                let org = filter.org_id.as_ref().map(|org_id| ("org_id", org_id.to_string()));
                let enabled = filter.enabled.map(|enabled| ("enabled", enabled.to_string()));
                let after = after.map(|after| ("after", after.to_owned()));
                let limit = Some(("limit", limit.to_string()));
                let query: Vec<_> = [org, enabled, limit, after].into_iter().flatten().collect();
                client.get(&["agents"], &query).await
            }
        }
    }

    /// Shows an agent.
    pub(in crate::cli) async fn agent(&self, instance_id: &InstanceId) -> anyhow::Result<ShownAgent> {
        match self {
            Self::Database(_, on) => on.agent(instance_id).await.map_err(explained),
            Self::Server(client) => client.get(&["agents", instance_id.as_str()], &[]).await,
        }
    }

    /// Enables or disables an agent.
    pub(in crate::cli) async fn set_enabled(
        &self,
        instance_id: &InstanceId,
        enabled: bool,
    ) -> anyhow::Result<EnabledAgent> {
        match self {
            Self::Database(_, on) => on.set_enabled(instance_id, enabled).await.map_err(explained),
            Self::Server(client) => {
                let verb = if enabled { "enable" } else { "disable" };
                client.send(Method::POST, &["agents", instance_id.as_str(), verb], &[], None::<&()>).await
            }
        }
    }
}
