//! Operations on logins at the built-in portal.

use nas_cron_protocol::{InstanceId, OrgId};
use reqwest::Method;

use super::{NO_BODY, Operator, explained};
use crate::domain::login::{LoginPage, RevokedLogin};
use crate::operations::logins::MAX_LOGINS;

impl Operator {
    /// Lists a page of logins.
    pub(in crate::cli) async fn logins(
        &self,
        org_id: Option<&OrgId>,
        limit: u32,
        after: Option<&str>,
    ) -> anyhow::Result<LoginPage> {
        let limit = limit.min(MAX_LOGINS);
        match self {
            Self::Database(_, on) => on.logins(org_id, limit, after).await.map_err(explained),
            Self::Server(client) => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(org_id.map(|org_id| ("org_id", org_id.to_string())));
                query.extend(after.map(|after| ("after", after.to_owned())));
                client.get(&["logins"], &query).await
            }
        }
    }

    /// Revokes an agent's login.
    pub(in crate::cli) async fn revoke_login(
        &self,
        instance_id: &InstanceId,
    ) -> anyhow::Result<RevokedLogin> {
        match self {
            Self::Database(_, on) => on.revoke_login(instance_id).await.map_err(explained),
            Self::Server(client) => {
                client.send(Method::DELETE, &["agents", instance_id.as_str(), "login"], &[], NO_BODY).await
            }
        }
    }
}
