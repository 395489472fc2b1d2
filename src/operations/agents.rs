//! Agents: list, show, enable, disable, and set the callback URL.

use nas_cron_protocol::{CallbackUrl, InstanceId};

use super::{OperationResult, Operations};
use crate::db::{agent_contact, agent_search, logins};
use crate::directory;
use crate::domain::agent_contact::AgentContact;
use crate::domain::registration::{AgentFilter, AgentPage, EnabledAgent, MovedAgent, ShownAgent};

impl Operations {
    /// Lists at most `limit` agents after `after`, ordered by ID.
    pub async fn agents(
        &self,
        filter: &AgentFilter,
        limit: u32,
        after: Option<&str>,
    ) -> OperationResult<AgentPage> {
        let filter = AgentFilter { within: self.org().cloned(), ..filter.clone() };
        let page = directory::list(&self.db, &filter, after, limit).await?;
        let more_callbacks = match filter.search.as_ref().filter(|_| agent_search::is_wide(&filter)) {
            Some(search) => agent_search::has_more_callbacks(&self.db, search).await?,
            None => false,
        };
        Ok(AgentPage { agents: page.items, more_callbacks, next: page.next })
    }

    /// Finds an agent, and its last login at the built-in portal.
    pub async fn agent(&self, instance_id: &InstanceId) -> OperationResult<ShownAgent> {
        let agent = directory::find_within(&self.db, instance_id, self.org()).await?;
        let login = logins::last(&self.db, instance_id).await?;
        let quota = Some(agent.quota(self.default_quotas));
        Ok(ShownAgent { agent, login, quota })
    }

    /// Returns the contact between an agent and the service.
    pub async fn agent_contact(&self, instance_id: &InstanceId) -> OperationResult<AgentContact> {
        directory::find_within(&self.db, instance_id, self.org()).await?;
        Ok(agent_contact::of_agent(&self.db, instance_id).await?)
    }

    /// Sets the callback URL of an agent and of all its one-shots.
    pub async fn set_callback(
        &self,
        instance_id: &InstanceId,
        callback_url: &CallbackUrl,
    ) -> OperationResult<MovedAgent> {
        directory::find_within(&self.db, instance_id, self.org()).await?;
        let moved = directory::set_callback(&self.db, instance_id, callback_url).await?;
        let (instance_id, callback_url) = (instance_id.to_string(), callback_url.as_str().to_owned());
        Ok(MovedAgent { instance_id, callback_url, moved })
    }

    /// Enables or disables an agent. The fires of a disabled agent are held, and its calls are refused.
    pub async fn set_enabled(
        &self,
        instance_id: &InstanceId,
        enabled: bool,
    ) -> OperationResult<EnabledAgent> {
        let before = directory::find_within(&self.db, instance_id, self.org()).await?;
        let changed = directory::set_enabled(&self.db, instance_id, enabled).await?;
        let agent = directory::find_within(&self.db, instance_id, self.org()).await?;
        let released = if agent.on_hold { 0 } else { (before.parked - agent.parked).max(0) };
        Ok(EnabledAgent { changed, released, agent })
    }
}
