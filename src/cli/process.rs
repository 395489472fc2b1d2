//! The process of every subcommand: its runtime, error output and exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use nas_cron_base::terminal::error_in_one_line;

use crate::config::ConfigError;
use crate::db::DbError;

/// Runs an asynchronous subcommand to its end, on a multi-threaded runtime.
pub(super) fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Prints an error on stderr, and returns its exit code.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    // A closed stderr leaves no place for the error.
    let _ = writeln!(io::stderr(), "nas-cron: {}", one_line(error));
    ExitCode::from(exit_code(error))
}

/// Formats an error and its causes in one line. A database error is replaced by its advice.
fn one_line(error: &anyhow::Error) -> String {
    let Some(database) = error.downcast_ref::<DbError>() else { return error_in_one_line(error) };
    let contexts = error.chain().take_while(|cause| !cause.is::<DbError>()).map(ToString::to_string);
    contexts.chain([database.advice().to_string()]).collect::<Vec<_>>().join(": ")
}

/// Returns 2 for an invalid configuration or command line, otherwise 1.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || nas_cron_agent::cli::is_usage_error(error) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn error_is_one_line_with_each_cause_once() {
        let error = Err::<(), _>(anyhow::anyhow!("connection refused"))
            .context("the database is unavailable: connection refused")
            .context("cannot migrate")
            .unwrap_err();
        assert_eq!(
            error_in_one_line(&error),
            "cannot migrate: the database is unavailable: connection refused"
        );
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn database_error_ends_with_its_advice() {
        let error = anyhow::Error::new(DbError::Unavailable("cannot connect to db:5432".into()));
        let line = one_line(&error.context("connecting to the database failed"));
        assert!(
            line.starts_with("connecting to the database failed: cannot connect to db:5432; check"),
            "{line}"
        );
    }

    #[test]
    fn invalid_configuration_exits_with_2_also_in_context() {
        let error = anyhow::Error::from(ConfigError { problems: Vec::new() }).context("cannot serve");
        assert_eq!(exit_code(&error), 2);
    }
}
