//! What every subcommand has of its process: a runtime, and an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use nas_cron_base::terminal::error_in_one_line;

use crate::config::ConfigError;

/// Runs a subcommand that waits for things, on the main thread with workers beside it.
pub(super) fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Reports on stderr what went wrong, and returns the exit code for it.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    // Where stderr is closed too, there is nobody left to tell.
    let _ = writeln!(io::stderr(), "nas-cron: {}", error_in_one_line(error));
    ExitCode::from(exit_code(error))
}

/// 2 where the configuration is wrong, as for a wrong command line; else 1.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || nas_cron_agent::cli::is_usage_error(error) { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
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
    fn a_wrong_configuration_is_a_usage_error_also_in_context() {
        let error = anyhow::Error::from(ConfigError { problems: Vec::new() }).context("cannot serve");
        assert_eq!(exit_code(&error), 2);
    }
}
