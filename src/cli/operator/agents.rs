//! Operations on agents.

use nas_cron_protocol::{AgentRuntimeId, CallbackUrl, Given, InstanceId, TaskId};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{NO_BODY, Operator, explained};
use crate::cli::directory_error;
use crate::directory::{self, Change, DirectoryError};
use crate::domain::registration::{
    Agent, AgentFilter, AgentPage, EnabledAgent, MovedAgent, Registration, ShownAgent,
};
use crate::identity::registry::{self, IdentityRecord, any_org};
use crate::operations::OperationError;

/// Maximum number of agents per request.
const MAX_PAGE: u32 = 1_000;

#[derive(Deserialize)]
struct Identities {
    identities: Vec<IdentityRecord>,
}

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
                let search = filter.search.as_ref().map(|search| ("search", search.as_str().to_owned()));
                let enabled = filter.enabled.map(|enabled| ("enabled", enabled.to_string()));
                let unreachable = filter.unreachable.then(|| ("unreachable", true.to_string()));
                let after = after.map(|after| ("after", after.to_owned()));
                let limit = Some(("limit", limit.to_string()));
                let given = [org, search, enabled, unreachable, limit, after];
                let query: Vec<_> = given.into_iter().flatten().collect();
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

    /// Registers an agent, or changes its registration.
    pub(in crate::cli) async fn put_agent(
        &self,
        wanted: Registration,
        move_org: bool,
    ) -> anyhow::Result<(Change, Agent)> {
        match self {
            Self::Database(db, _) => {
                directory::register(db, wanted, move_org).await.map_err(directory_error::explained)
            }
            Self::Server(client) => {
                let path = ["agents", wanted.instance_id.as_str()];
                let before = client.find::<Agent>(&path).await?;
                let mut body = json!({ "org_id": wanted.org_id });
                match &wanted.bootstrap_session_id {
                    Given::Keep => {}
                    given => body["bootstrap_session_id"] = json!(given.value()),
                }
                if let Some(callback_url) = &wanted.callback_url {
                    body["callback_url"] = json!(callback_url.as_str());
                }
                if let Some(enabled) = wanted.enabled {
                    body["enabled"] = json!(enabled);
                }
                let query = [("move_org", move_org.to_string())];
                let after: Agent = client.send(Method::PUT, &path, &query, Some(&body)).await?;
                let change = match before {
                    None => Change::Added,
                    Some(before) if before.updated_at == after.updated_at => Change::Unchanged,
                    Some(_) => Change::Updated,
                };
                Ok((change, after))
            }
        }
    }

    /// Removes an agent. Returns the number of its one-shots that were not delivered.
    pub(in crate::cli) async fn remove_agent(&self, agent: &Agent) -> anyhow::Result<i64> {
        let instance_id = InstanceId::stored(agent.instance_id.clone());
        match self {
            Self::Database(db, _) => match directory::remove(db, &instance_id, None).await {
                // Another process has just removed it.
                Err(DirectoryError::Unknown(_)) => Ok(0),
                other => other.map_err(directory_error::explained),
            },
            Self::Server(client) => {
                client.send::<()>(Method::DELETE, &["agents", instance_id.as_str()], &[], NO_BODY).await?;
                Ok(agent.armed + agent.dead)
            }
        }
    }

    /// Sets the callback URL of an agent and of its one-shots.
    pub(in crate::cli) async fn set_callback(
        &self,
        instance_id: &InstanceId,
        callback_url: &CallbackUrl,
    ) -> anyhow::Result<MovedAgent> {
        match self {
            Self::Database(_, on) => {
                on.set_callback(instance_id, callback_url).await.map_err(|error| match error {
                    OperationError::Directory(error) => directory_error::explained(error),
                    other => explained(other),
                })
            }
            Self::Server(client) => {
                let path = ["agents", instance_id.as_str(), "callback"];
                let body = json!({ "callback_url": callback_url.as_str() });
                client.send(Method::PUT, &path, &[], Some(&body)).await
            }
        }
    }

    /// Lists the keys of an agent and their tasks.
    pub(in crate::cli) async fn identities(
        &self,
        instance_id: &InstanceId,
    ) -> anyhow::Result<Vec<IdentityRecord>> {
        match self {
            Self::Database(db, _) => Ok(registry::list(db, any_org(instance_id)).await?),
            Self::Server(client) => {
                let found: Identities =
                    client.get(&["agents", instance_id.as_str(), "identities"], &[]).await?;
                Ok(found.identities)
            }
        }
    }

    /// Revokes a key of an agent. Returns true if it was not revoked before; `None` if the agent does not have it.
    pub(in crate::cli) async fn revoke_identity(
        &self,
        instance_id: &InstanceId,
        id: AgentRuntimeId,
    ) -> anyhow::Result<Option<bool>> {
        match self {
            Self::Database(db, _) => Ok(registry::revoke(db, any_org(instance_id), id).await?),
            Self::Server(client) => {
                let known = self.identities(instance_id).await?;
                let Some(identity) = known.iter().find(|one| one.agent_runtime_id == id) else {
                    return Ok(None);
                };
                let path = ["agents", instance_id.as_str(), "identities", &id.to_string()];
                client.send::<()>(Method::DELETE, &path, &[], NO_BODY).await?;
                Ok(Some(identity.revoked_at.is_none()))
            }
        }
    }

    /// Revokes a task of an agent. Returns true if it was not revoked before; `None` if the agent does not have it.
    pub(in crate::cli) async fn revoke_task(
        &self,
        instance_id: &InstanceId,
        id: TaskId,
    ) -> anyhow::Result<Option<bool>> {
        match self {
            Self::Database(db, _) => Ok(registry::revoke_task(db, any_org(instance_id), None, id).await?),
            Self::Server(client) => {
                let known = self.identities(instance_id).await?;
                let mut tasks =
                    known.iter().flat_map(|one| one.tasks.iter().map(|task| (one.agent_runtime_id, task)));
                let Some((identity, task)) = tasks.find(|(_, task)| task.task_id == id) else {
                    return Ok(None);
                };
                let (identity, id) = (identity.to_string(), id.to_string());
                let path = ["agents", instance_id.as_str(), "identities", &identity, "tasks", &id];
                client.send::<()>(Method::DELETE, &path, &[], NO_BODY).await?;
                Ok(Some(task.revoked_at.is_none()))
            }
        }
    }

    /// Revokes all keys of an agent. Returns the number of those that were not revoked before.
    pub(in crate::cli) async fn revoke_identities(&self, instance_id: &InstanceId) -> anyhow::Result<i64> {
        match self {
            Self::Database(db, _) => Ok(registry::revoke_all(db, any_org(instance_id)).await?),
            Self::Server(_) => {
                let mut revoked = 0;
                for one in self.identities(instance_id).await? {
                    let done = self.revoke_identity(instance_id, one.agent_runtime_id).await?;
                    revoked += i64::from(done == Some(true));
                }
                Ok(revoked)
            }
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
