//! The audit log.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::Operator;
use crate::audit::{self, AuditFilter, AuditLine};

/// Maximum number of lines per request.
const MAX_PAGE: u32 = 1_000;

/// A page of the audit log.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::cli) struct AuditPage {
    /// The lines, latest first.
    pub(in crate::cli) lines: Vec<AuditLine>,
    /// Cursor of the next page; `None` on the last page.
    pub(in crate::cli) next: Option<String>,
}

impl Operator {
    /// Lists a page of lines before the line `before`, latest first.
    pub(in crate::cli) async fn audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
        before: Option<i64>,
    ) -> anyhow::Result<AuditPage> {
        let limit = limit.min(MAX_PAGE);
        match self {
            Self::Database(db, _) => {
                let page = audit::list(db, filter, before, limit).await?;
                Ok(AuditPage { lines: page.items, next: page.next })
            }
            Self::Server(client) => {
                let time =
                    |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
                let values = [
                    ("actor", filter.actor.clone()),
                    ("action", filter.action.clone()),
                    ("subject", filter.subject.clone()),
                    ("instance_id", filter.instance_id.as_ref().map(ToString::to_string)),
                    ("since", time(filter.since)),
                    ("until", time(filter.until)),
                    ("limit", Some(limit.to_string())),
                    ("before", before.map(|before| before.to_string())),
                ];
                let query: Vec<_> =
                    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                client.get(&["audit"], &query).await
            }
        }
    }
}
