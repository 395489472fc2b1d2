//! The process of every subcommand: its runtime, error output and exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use nas_cron_base::logging;
use nas_cron_base::terminal::error_in_one_line;

use crate::config::key::LOG_FILTER;
use crate::config::{ConfigError, Settings};
use crate::db::DbError;

/// Runs an asynchronous subcommand to its end, on a multi-threaded runtime.
pub(super) fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Log filter of operator commands: their errors are printed at their end, and a panic is logged.
const QUIET: &str = "off,nas_cron=error";

/// Sets up logging for an operator command, which prints its result and its errors. Log lines are for those who ask for
/// them with `--log-filter` or `RUST_LOG`: environment and file hold the filter of the service.
pub(super) fn init_log(settings: &Settings) -> anyhow::Result<()> {
    let mut log = settings.log()?;
    if !settings.is_flag(LOG_FILTER.setting) {
        let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
        // The parser panics inside a multi-byte character.
        anyhow::ensure!(asked.as_ref().is_none_or(|asked| asked.is_ascii()), "RUST_LOG must be ASCII");
        log.filter = asked.unwrap_or_else(|| QUIET.to_owned());
    }
    // A filter of the settings was checked with them.
    logging::init(&log).context("setting up the log failed; check RUST_LOG")
}

/// Prints a warning on stderr.
pub(super) fn warn(text: &str) {
    // A closed stderr must not fail the command.
    let _ = writeln!(io::stderr(), "nas-cron: warning: {text}");
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
