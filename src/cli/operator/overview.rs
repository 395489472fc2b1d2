//! The overview.

use std::sync::Arc;

use nas_cron_protocol::admin_api::Overview;

use super::{Operator, explained};
use crate::operations::overview::{OverviewRules, Overviews};

impl Operator {
    /// Reads the overview. `rules` are for the database; a server has its own.
    pub(in crate::cli) async fn overview(&self, rules: Option<OverviewRules>) -> anyhow::Result<Overview> {
        match (self, rules) {
            (Self::Server(client), _) => client.get(&["overview"], &[]).await,
            (Self::Database(db, _), Some(rules)) => {
                let overview = Overviews::new(db.clone(), rules).of(None).await.map_err(explained)?;
                Ok(Arc::unwrap_or_clone(overview))
            }
            (Self::Database(..), None) => anyhow::bail!("the settings of the service are incomplete"),
        }
    }
}
