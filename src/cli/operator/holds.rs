//! Operations on holds.

use nas_cron_protocol::admin_api::{HeldScope, HoldList, Released};
use reqwest::Method;
use serde_json::json;

use super::{Operator, explained};
use crate::domain::hold::HoldTarget;

/// Returns the path of a hold.
fn path(target: &HoldTarget) -> Vec<&str> {
    match target {
        HoldTarget::All => vec!["holds", "service"],
        HoldTarget::Org(org_id) => vec!["holds", "orgs", org_id.as_str()],
        HoldTarget::Instance(instance_id) => vec!["holds", "instances", instance_id.as_str()],
        HoldTarget::Job(instance_id, job_id) => {
            vec!["holds", "jobs", instance_id.as_str(), job_id.as_str()]
        }
    }
}

impl Operator {
    /// Lists the holds.
    pub(in crate::cli) async fn holds(&self) -> anyhow::Result<HoldList> {
        match self {
            Self::Database(_, on) => on.holds().await.map_err(explained),
            Self::Server(client) => client.get(&["holds"], &[]).await,
        }
    }

    /// Puts a scope on hold.
    pub(in crate::cli) async fn hold(
        &self,
        target: &HoldTarget,
        reason: Option<&str>,
    ) -> anyhow::Result<HeldScope> {
        match self {
            Self::Database(_, on) => on.hold(target, reason).await.map_err(explained),
            Self::Server(client) => {
                client.send(Method::PUT, &path(target), &[], Some(&json!({ "reason": reason }))).await
            }
        }
    }

    /// Ends a hold.
    pub(in crate::cli) async fn release(&self, target: &HoldTarget) -> anyhow::Result<Released> {
        match self {
            Self::Database(_, on) => on.release(target).await.map_err(explained),
            Self::Server(client) => client.send(Method::DELETE, &path(target), &[], None::<&()>).await,
        }
    }
}
