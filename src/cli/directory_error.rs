//! Errors of the directory of agents, with the next step.

use crate::directory::DirectoryError;

/// Adds the next step to an error of the directory.
pub(super) fn explained(error: DirectoryError) -> anyhow::Error {
    let next = match &error {
        DirectoryError::Unknown(_) => {
            "`nas-cron agents list` shows the registered agents; `nas-cron agents add` registers one"
        }
        DirectoryError::OtherOrg(_) => "add --move-org to move it; tokens of the old org then stop working",
        DirectoryError::SessionTaken(_) => {
            "first give that agent another session with `nas-cron agents add --session`, or remove it with `nas-cron agents remove`"
        }
        DirectoryError::Db(_) => "",
    };
    // The database error itself: the command line explains it.
    if let DirectoryError::Db(error) = error {
        return error.into();
    }
    anyhow::anyhow!("{error}; {next}")
}
