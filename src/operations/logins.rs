//! Logins at the built-in portal: list, revoke.
//!
//! Creating one stays a command on the machine of the service (`nas-cron agents enroll`): its refresh token acts as the
//! agent. An admin token can register, stop and delete agents, but never act as one.

use nas_cron_protocol::{InstanceId, OrgId};

use super::{OperationError, OperationResult, Operations};
use crate::db::logins;
use crate::directory::{self, again};
use crate::domain::login::{LoginPage, RevokedLogin};

/// Maximum number of logins of a page.
pub const MAX_LOGINS: u32 = 1_000;

impl Operations {
    /// Lists the last login of at most `limit` agents after `after`, ordered by agent.
    pub async fn logins(
        &self,
        org_id: Option<&OrgId>,
        limit: u32,
        after: Option<&str>,
    ) -> OperationResult<LoginPage> {
        if org_id.is_some_and(|org_id| !self.sees(org_id.as_str())) {
            return Ok(LoginPage { logins: Vec::new(), next: None });
        }
        let limit = limit.min(MAX_LOGINS);
        let mut found = logins::list(&self.db, org_id.or(self.org()), after, i64::from(limit) + 1).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|last| last.instance_id.clone());
        Ok(LoginPage { logins: found, next })
    }

    /// Revokes an agent's login: its refresh tokens and access tokens are rejected from now on, by every replica. Its jobs
    /// stay armed.
    pub async fn revoke_login(&self, instance_id: &InstanceId) -> OperationResult<RevokedLogin> {
        directory::find_within(&self.db, instance_id, self.org()).await?;
        let revoked = again(|| logins::revoke(&self.db, instance_id, self.org())).await?;
        let revoked = revoked.ok_or_else(|| {
            OperationError::Unknown(format!("agent {instance_id} has no login at the built-in portal"))
        })?;
        Ok(RevokedLogin { instance_id: instance_id.to_string(), revoked })
    }
}
