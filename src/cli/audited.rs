//! The lines that commands write into the audit log.

use std::process::ExitCode;

use anyhow::Context;
use nas_cron_base::output;
use nas_cron_base::terminal::error_in_one_line;

use super::process::warn;
use crate::audit::{self, Act, AuditOutcome};
use crate::db::{Db, DbError};
use crate::domain::actor::{Actor, Role};

/// The arguments of a command that may change the state of the service.
pub(super) trait Audited {
    /// Returns the line that the command writes; `None` if it only reads.
    fn act(&self) -> Option<Act>;
}

/// Returns the user who runs the command. Whoever reaches the database may do everything.
pub(super) fn operator() -> Actor {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    Actor { name: format!("cli:{user}@{host}"), role: Role::Admin, org: None, expires_at: None, origin: host }
}

/// Runs a command that prints its result, between the two halves of its line in the audit log. If the line cannot be
/// written, the command does not run.
pub(super) async fn recorded(
    db: &Db,
    act: Option<Act>,
    command: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<ExitCode> {
    let Some(act) = act else { return command.await.map(|()| ExitCode::SUCCESS) };
    let id = audit::begin(db, &operator(), &act).await;
    let id = id.context("writing the audit log failed, so nothing was changed")?;
    let result = command.await;
    match &result {
        Err(error) if !output::reader_left().is_cancelled() => {
            audit::end(db, id, outcome(error), &[], Some(&error_in_one_line(error))).await;
        }
        // The command printed its result after the change.
        _ => audit::end(db, id, AuditOutcome::Done, &[], None).await,
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Writes the line of a change that could not be announced, because it created the audit log.
pub(super) async fn noted(db: &Db, act: &Act) {
    match audit::begin(db, &operator(), act).await {
        Ok(id) => audit::end(db, id, AuditOutcome::Done, &[], None).await,
        Err(error) => warn(&format!("the change was made, but writing the audit log failed: {error}")),
    }
}

fn outcome(error: &anyhow::Error) -> AuditOutcome {
    if error.chain().any(<dyn std::error::Error>::is::<DbError>) {
        AuditOutcome::Failed
    } else {
        AuditOutcome::Refused
    }
}
