//! Orgs, and the deletion of everything of an org or an instance.

use std::time::{Duration, Instant};

use nas_cron_base::terminal::counted;
use nas_cron_protocol::admin_api::{DeletionCount, DeletionReport, Org, OrgPage};
use nas_cron_protocol::{InstanceId, InvalidField, OrgId};

use super::{OperationError, OperationResult, Operations, cursor};
use crate::db::{directory as instances, orgs};
use crate::directory::{self, again};

/// Maximum number of orgs of a page.
pub const MAX_ORGS: u32 = 200;
/// Number of instances that one statement deletes.
const INSTANCES: i64 = 50;
/// Number of attempts that one statement deletes.
const ATTEMPTS: i64 = 5_000;
/// Number of events that one statement deletes.
const EVENTS: i64 = 1_000;
/// Time after which a request stops and leaves the rest to the next one.
const LONG: Duration = Duration::from_secs(4);

/// The subject of a deletion.
#[derive(Clone, Debug)]
pub enum DeletionOf {
    /// An org with all its agents.
    Org(OrgId),
    /// One agent.
    Instance(InstanceId),
}

impl Operations {
    /// Lists at most `limit` orgs with agents, which is at most [`MAX_ORGS`], after the cursor `after`.
    pub async fn orgs(&self, limit: u32, after: Option<&str>) -> OperationResult<OrgPage> {
        let of = cursor::fingerprint(&"orgs");
        let after = after.map(|after| cursor::decode::<OrgId>(&of, after)).transpose()?;
        let limit = limit.min(MAX_ORGS);
        let mut found = orgs::list(&self.db, self.org(), after.as_ref(), i64::from(limit) + 1).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|last| cursor::encode(&of, &last.org_id));
        Ok(OrgPage { orgs: found, next })
    }

    /// Counts the agents and jobs of an org.
    pub async fn find_org(&self, org_id: &OrgId) -> OperationResult<Org> {
        let found = if self.sees(org_id.as_str()) { orgs::find(&self.db, org_id).await? } else { None };
        found.ok_or_else(|| unknown(org_id))
    }

    /// Counts what a deletion would remove. The report has the value that confirms it.
    pub async fn plan_deletion(&self, of: &DeletionOf) -> OperationResult<DeletionReport> {
        let (found, more) = self.count_all_of(of).await?;
        let confirm = (found != DeletionCount::default()).then(|| confirmation(of, found));
        if confirm.is_none() {
            return Err(match of {
                DeletionOf::Org(org_id) => unknown(org_id),
                DeletionOf::Instance(id) => directory::DirectoryError::Unknown(id.clone()).into(),
            });
        }
        Ok(DeletionReport { found, more, deleted: DeletionCount::default(), confirm })
    }

    /// Deletes everything of an org or an instance, after a count that `confirm` proves. No attempt starts afterwards. Stops
    /// after some seconds; the report then has the value that confirms the rest.
    pub async fn delete_everything(&self, of: &DeletionOf, confirm: &str) -> OperationResult<DeletionReport> {
        self.delete_for(of, confirm, LONG).await
    }

    /// Like [`Self::delete_everything`], with the time after which it stops. It deletes a batch in any case.
    pub async fn delete_for(
        &self,
        of: &DeletionOf,
        confirm: &str,
        long: Duration,
    ) -> OperationResult<DeletionReport> {
        let planned = self.plan_deletion(of).await?;
        if planned.confirm.as_deref() != Some(confirm) {
            let problem = "confirm: what would be deleted has changed, or was never counted; count it again";
            return Err(OperationError::Conflict(problem.to_owned()));
        }
        let (begun, mut deleted) = (Instant::now(), DeletionCount::default());
        while self.delete_some(of, &mut deleted).await? {
            if begun.elapsed() > long {
                let (left, more) = self.count_all_of(of).await?;
                let confirm = (left != DeletionCount::default()).then(|| confirmation(of, left));
                return Ok(DeletionReport { found: left, more, deleted, confirm });
            }
        }
        Ok(DeletionReport { deleted, confirm: None, ..planned })
    }

    /// Deletes a batch: agents with their history, then the org's events, then its settings. Returns false if nothing is left.
    /// The settings are last, so that an interrupted deletion has something to go on with.
    async fn delete_some(&self, of: &DeletionOf, deleted: &mut DeletionCount) -> OperationResult<bool> {
        let batch = self.instances_of(of).await?;
        if !batch.is_empty() {
            self.delete_agents(&batch, deleted).await?;
            return Ok(true);
        }
        let DeletionOf::Org(org_id) = of else { return Ok(false) };
        let events = again(|| orgs::delete_events(&self.db, org_id, EVENTS)).await?;
        deleted.events += events;
        if events == EVENTS {
            return Ok(true);
        }
        deleted.settings += again(|| orgs::delete_settings(&self.db, org_id)).await?;
        Ok(false)
    }

    /// Deletes a part of the history of these instances, or the instances if they have none.
    async fn delete_agents(&self, batch: &[String], deleted: &mut DeletionCount) -> OperationResult<()> {
        let attempts = again(|| orgs::delete_history(&self.db, batch, ATTEMPTS)).await?;
        deleted.attempts += attempts;
        if attempts == ATTEMPTS {
            return Ok(());
        }
        let gone = again(|| instances::delete_all(&self.db, batch, self.org())).await?;
        orgs::delete_holds(&self.db, batch).await?;
        deleted.agents += gone.instances;
        deleted.jobs += gone.one_shots;
        Ok(())
    }

    async fn count_all_of(&self, of: &DeletionOf) -> OperationResult<(DeletionCount, bool)> {
        let (org_id, instance_id) = match of {
            DeletionOf::Org(org_id) if !self.sees(org_id.as_str()) => return Err(unknown(org_id)),
            DeletionOf::Org(org_id) => (Some(org_id), None),
            DeletionOf::Instance(id) => (None, Some(id.as_str())),
        };
        if let (DeletionOf::Instance(id), Some(own)) = (of, self.org()) {
            directory::find_within(&self.db, id, Some(own)).await?;
        }
        Ok(orgs::count_of(&self.db, org_id, instance_id).await?)
    }

    async fn instances_of(&self, of: &DeletionOf) -> OperationResult<Vec<String>> {
        Ok(match of {
            DeletionOf::Org(org_id) => orgs::instances(&self.db, org_id, INSTANCES).await?,
            DeletionOf::Instance(id) => {
                let found = directory::find_within(&self.db, id, self.org()).await;
                found.ok().map(|agent| agent.instance_id).into_iter().collect()
            }
        })
    }
}

pub(super) fn unknown(org_id: &OrgId) -> OperationError {
    OperationError::Unknown(format!("no agent of org {org_id} is registered"))
}

/// Describes a count.
pub fn in_words(count: DeletionCount) -> String {
    let DeletionCount { agents, jobs, attempts, settings, events } = count;
    let mut parts = vec![counted(agents, "agent"), counted(jobs, "job"), counted(attempts, "attempt")];
    // Agents have neither.
    parts.extend((settings > 0).then(|| counted(settings, "setting")));
    parts.extend((events > 0).then(|| counted(events, "event")));
    let last = parts.pop().unwrap_or_default();
    format!("{} and {last}", parts.join(", "))
}

/// Returns the value that confirms a deletion of what was counted.
fn confirmation(of: &DeletionOf, found: DeletionCount) -> String {
    let (kind, id) = match of {
        DeletionOf::Org(org_id) => ("org", org_id.as_str()),
        DeletionOf::Instance(id) => ("instance", id.as_str()),
    };
    // Attempts and events come all the time, and are not what an operator decides about.
    cursor::fingerprint(&(kind, id, found.agents, found.jobs, found.settings))
}

/// Reads the subject of a deletion: exactly one of the two.
pub fn subject(org_id: Option<OrgId>, instance_id: Option<InstanceId>) -> Result<DeletionOf, InvalidField> {
    match (org_id, instance_id) {
        (Some(org_id), None) => Ok(DeletionOf::Org(org_id)),
        (None, Some(id)) => Ok(DeletionOf::Instance(id)),
        _ => Err(InvalidField::new("org_id", "give either org_id or instance_id")),
    }
}
