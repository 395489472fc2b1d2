//! The audit log: who did what to what, from where, with which outcome.
//!
//! A line is written before the change and its outcome after it, so nothing is done without a line, also if the process
//! ends in between: its outcome is then `unknown`.

use tracing::warn;

use crate::db::{Db, DbResult, audit};
use crate::directory::Page;
use crate::domain::actor::Actor;
pub use crate::domain::audit::{Act, AuditFilter, AuditId, AuditLine, AuditOutcome};
use crate::store_error::StoreError;

/// Checks the form of a subject in a filter, `name=value`.
pub fn subject(text: &str) -> Result<String, &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        _ => Err("must be a name and a value, such as instance_id=agent-1"),
    }
}

/// The audit log of a database.
#[derive(Clone, Debug)]
pub struct AuditLog(Db);

impl AuditLog {
    /// The log in `db`.
    pub const fn new(db: Db) -> Self {
        Self(db)
    }

    /// Writes the line of a call. Fails if the database does: the call must then change nothing.
    pub async fn begin(&self, actor: &Actor, act: &Act) -> Result<AuditId, StoreError> {
        Ok(begin(&self.0, actor, act).await?)
    }

    /// Writes the outcome of a call. A failure is only logged, because the change is already made.
    pub async fn end(
        &self,
        id: AuditId,
        outcome: AuditOutcome,
        about: &[(String, String)],
        detail: Option<&str>,
    ) {
        end(&self.0, id, outcome, about, detail).await;
    }

    /// Lists a page of lines: see [`list`].
    pub async fn list(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<AuditLine>, StoreError> {
        Ok(list(&self.0, filter, before, limit).await?)
    }
}

/// Writes the line of a call, before its change.
pub async fn begin(db: &Db, actor: &Actor, act: &Act) -> DbResult<AuditId> {
    audit::begin(db, actor, act).await
}

/// Writes the outcome of a call, and what is known about its subject only now. A failure is only logged: the line then
/// keeps the outcome `unknown`.
pub async fn end(
    db: &Db,
    id: AuditId,
    outcome: AuditOutcome,
    about: &[(String, String)],
    detail: Option<&str>,
) {
    if let Err(error) = audit::end(db, id, outcome, about, detail).await {
        warn!(%error, audit.id = id.0, %outcome, "recording the outcome in the audit log failed");
    }
}

/// Returns a page of at most `limit` lines before the line `before`, latest first. The cursor is the number of the last
/// line.
pub async fn list(
    db: &Db,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> DbResult<Page<AuditLine>> {
    let mut items = audit::list(db, filter, before, i64::from(limit) + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|line| line.id.to_string());
    Ok(Page { items, next })
}
