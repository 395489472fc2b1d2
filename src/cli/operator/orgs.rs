//! Operations on orgs.

use nas_cron_protocol::OrgId;
use nas_cron_protocol::admin_api::{DeletionReport, Org, OrgPage};
use reqwest::Method;
use serde_json::json;

use super::{Operator, explained};
use crate::operations::orgs::DeletionOf;

impl Operator {
    /// Lists a page of orgs.
    pub(in crate::cli) async fn orgs(&self, limit: u32, after: Option<&str>) -> anyhow::Result<OrgPage> {
        match self {
            Self::Database(_, on) => on.orgs(limit, after).await.map_err(explained),
            Self::Server(client) => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(after.map(|after| ("after", after.to_owned())));
                client.get(&["orgs"], &query).await
            }
        }
    }

    /// Shows an org.
    pub(in crate::cli) async fn org(&self, org_id: &OrgId) -> anyhow::Result<Org> {
        match self {
            Self::Database(_, on) => on.find_org(org_id).await.map_err(explained),
            Self::Server(client) => client.get(&["orgs", org_id.as_str()], &[]).await,
        }
    }

    /// Counts what a deletion removes, or with `confirm` deletes it for some seconds.
    pub(in crate::cli) async fn delete_everything(
        &self,
        of: &DeletionOf,
        confirm: Option<&str>,
    ) -> anyhow::Result<DeletionReport> {
        match (self, confirm) {
            (Self::Database(_, on), None) => on.plan_deletion(of).await.map_err(explained),
            (Self::Database(_, on), Some(confirm)) => {
                on.delete_everything(of, confirm).await.map_err(explained)
            }
            (Self::Server(client), confirm) => {
                let mut body = match of {
                    DeletionOf::Org(org_id) => json!({ "org_id": org_id }),
                    DeletionOf::Instance(instance_id) => json!({ "instance_id": instance_id }),
                };
                if let Some(confirm) = confirm {
                    body["confirm"] = confirm.into();
                }
                client.send(Method::POST, &["deletions"], &[], Some(&body)).await
            }
        }
    }
}
