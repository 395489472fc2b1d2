//! Holds: stop fires for a while without losing any.

use nas_cron_protocol::JobId;
use nas_cron_protocol::admin_api::{HeldScope, HoldList, Released};

use super::{OperationError, OperationResult, Operations, jobs};
use crate::db::holds;
use crate::directory::{self, again};
use crate::domain::actor::Denied;
use crate::domain::hold::HoldTarget;

impl Operations {
    /// Lists the holds, and what they cover. A caller that is limited to an org sees those of this org.
    pub async fn holds(&self) -> OperationResult<HoldList> {
        let mut found = holds::list(&self.db, self.org()).await?;
        let more = found.len() > holds::LISTED as usize;
        found.truncate(holds::LISTED as usize);
        Ok(HoldList { holds: found, more })
    }

    /// Puts a scope on hold. No attempt starts after it has returned; attempts in flight continue.
    pub async fn hold(&self, target: &HoldTarget, reason: Option<&str>) -> OperationResult<HeldScope> {
        // A misspelt name must not look like a successful hold.
        self.check_target(target).await?;
        let covers = holds::coverage(&self.db, target).await?;
        let new = again(|| holds::hold(&self.db, target, reason)).await?;
        Ok(HeldScope {
            scope: target.scope(),
            scope_id: target.scope_id().to_owned(),
            job_id: target.job_id().map(JobId::to_string),
            new,
            covers,
        })
    }

    /// Ends a hold, and releases the one-shots that only it held. If they are very many, the replicas release the rest.
    pub async fn release(&self, target: &HoldTarget) -> OperationResult<Released> {
        self.check_visible(target).await?;
        let before = holds::coverage(&self.db, target).await?.parked;
        let existed = again(|| holds::release(&self.db, target)).await?;
        let complete = directory::release_parked(&self.db).await?;
        // Counted before and after, because a running service may also release some of them.
        let after = holds::coverage(&self.db, target).await?.parked;
        Ok(Released {
            scope: target.scope(),
            scope_id: target.scope_id().to_owned(),
            job_id: target.job_id().map(JobId::to_string),
            existed,
            released: (before - after).max(0),
            still_parked: after,
            releasing: !complete && after > 0,
        })
    }

    /// Fails unless the target exists and the caller sees it.
    async fn check_target(&self, target: &HoldTarget) -> OperationResult<()> {
        self.check_visible(target).await?;
        match target {
            HoldTarget::All => {}
            HoldTarget::Org(org_id) => {
                if holds::coverage(&self.db, target).await?.agents == 0 {
                    let problem = format!(
                        "no agent of org {org_id} is registered; `nas-cron agents list` shows the registered agents and their orgs"
                    );
                    return Err(OperationError::Unknown(problem));
                }
            }
            HoldTarget::Instance(instance_id) => {
                directory::find(&self.db, instance_id).await?;
            }
            HoldTarget::Job(instance_id, job_id) => {
                directory::find(&self.db, instance_id).await?;
                if !self.is_known(instance_id, job_id).await? {
                    return Err(jobs::unknown(instance_id, job_id));
                }
            }
        }
        Ok(())
    }

    /// Fails unless the caller may see the target, in the same way as if it did not exist.
    async fn check_visible(&self, target: &HoldTarget) -> OperationResult<()> {
        let Some(own) = self.org() else { return Ok(()) };
        match target {
            HoldTarget::All => Err(Denied::WholeService(own.clone()).into()),
            HoldTarget::Org(org_id) if org_id == own => Ok(()),
            HoldTarget::Org(org_id) => Err(OperationError::Unknown(format!(
                "no agent of org {org_id} is registered; `nas-cron agents list` shows the registered agents and their orgs"
            ))),
            HoldTarget::Instance(instance_id) | HoldTarget::Job(instance_id, _) => {
                directory::find_within(&self.db, instance_id, Some(own)).await?;
                Ok(())
            }
        }
    }
}
