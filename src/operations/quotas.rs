//! Quotas of armed jobs: show, set, and return to the default.

use nas_cron_protocol::InvalidField;
use nas_cron_protocol::admin_api::QuotaUse;

use super::orgs::unknown;
use super::{OperationResult, Operations};
use crate::db::{orgs, quotas};
use crate::directory;
use crate::domain::quota::{DefaultQuotas, QuotaTarget};

/// Maximum quota.
pub const MAX_QUOTA: u32 = 100_000_000;

impl Operations {
    /// The quotas of instances and orgs that have none of their own.
    pub fn default_quotas(&self) -> DefaultQuotas {
        self.default_quotas
    }

    /// Shows a quota and its use.
    pub async fn quota(&self, target: &QuotaTarget) -> OperationResult<QuotaUse> {
        self.find_subject(target).await?;
        let default = self.default_quotas.of(target.scope());
        let found = quotas::count(&self.db, target, default).await?;
        Ok(QuotaUse {
            scope: target.scope(),
            scope_id: target.id().to_owned(),
            quota: found.own.unwrap_or(default),
            is_default: found.own.is_none(),
            armed: found.armed,
        })
    }

    /// Sets a quota; `None` returns to the default. It applies to the next new job. Jobs that are armed stay armed.
    pub async fn set_quota(&self, target: &QuotaTarget, quota: Option<u32>) -> OperationResult<QuotaUse> {
        if quota.is_some_and(|quota| quota > MAX_QUOTA) {
            return Err(InvalidField::new("quota", format!("must be at most {MAX_QUOTA}")).into());
        }
        self.find_subject(target).await?;
        if !quotas::set(&self.db, target, quota).await? {
            self.find_subject(target).await?;
        }
        self.quota(target).await
    }

    /// Fails if the caller does not see the subject of a quota.
    async fn find_subject(&self, target: &QuotaTarget) -> OperationResult<()> {
        match target {
            QuotaTarget::Instance(instance_id) => {
                directory::find_within(&self.db, instance_id, self.org()).await?;
            }
            QuotaTarget::Org(org_id) => {
                let is_there =
                    self.sees(org_id.as_str()) && !orgs::instances(&self.db, org_id, 1).await?.is_empty();
                if !is_there {
                    return Err(unknown(org_id));
                }
            }
        }
        Ok(())
    }
}
