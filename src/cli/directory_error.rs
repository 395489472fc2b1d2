//! Errors of the directory of agents, with the next step.

use crate::directory::DirectoryError;

/// An error of the directory, with the next step.
pub(super) fn explained(error: DirectoryError) -> anyhow::Error {
    let next = match &error {
        DirectoryError::Unknown(_) => {
            "`nas-cron agents list` shows which are; `nas-cron agents add` registers one"
        }
        DirectoryError::OtherOrg(_) => {
            "if it has really moved, say so with --move-org: the old org's tokens stop working"
        }
        DirectoryError::SessionTaken(_) => {
            "remove that agent, or give it another session, with `nas-cron agents` first"
        }
        DirectoryError::Db(_) => return anyhow::Error::new(error),
    };
    anyhow::anyhow!("{error}; {next}")
}
