//! Operations on quotas.

use nas_cron_protocol::admin_api::{QuotaScope, QuotaUse};
use reqwest::Method;
use serde_json::json;

use super::{NO_BODY, Operator, explained};
use crate::domain::quota::QuotaTarget;

fn path(target: &QuotaTarget) -> [&str; 3] {
    let scope = match target.scope() {
        QuotaScope::Instance => "instances",
        QuotaScope::Org => "orgs",
    };
    ["quotas", scope, target.id()]
}

impl Operator {
    /// Shows a quota and its use.
    pub(in crate::cli) async fn quota(&self, target: &QuotaTarget) -> anyhow::Result<QuotaUse> {
        match self {
            Self::Database(_, on) => on.quota(target).await.map_err(explained),
            Self::Server(client) => client.get(&path(target), &[]).await,
        }
    }

    /// Sets a quota; `None` returns to the default.
    pub(in crate::cli) async fn set_quota(
        &self,
        target: &QuotaTarget,
        quota: Option<u32>,
    ) -> anyhow::Result<QuotaUse> {
        match (self, quota) {
            (Self::Database(_, on), quota) => on.set_quota(target, quota).await.map_err(explained),
            (Self::Server(client), Some(quota)) => {
                let body = json!({ "quota": quota });
                client.send(Method::PUT, &path(target), &[], Some(&body)).await
            }
            (Self::Server(client), None) => client.send(Method::DELETE, &path(target), &[], NO_BODY).await,
        }
    }
}
