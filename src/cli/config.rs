//! `nas-cron config`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use nas_cron_base::terminal;

use crate::config::{Everything, Flags, show};

/// Show the configuration, the table of settings, or an example file.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print all settings that `serve` would use with the same flags, environment and file.
    ///
    /// Shows the value and the origin of each setting; secrets are shown as ***. Invalid settings are reported on stderr,
    /// with exit code 2.
    #[command(after_help = "Example:\n  nas-cron config show --config nas-cron.toml --json")]
    Show(Show),
    /// Print the table of all settings in Markdown, as in the documentation.
    Table,
    /// Print an example configuration file: all settings with their defaults, commented out.
    #[command(after_help = "Example:\n  nas-cron config example > nas-cron.toml")]
    Example,
}

#[derive(Debug, Args)]
struct Show {
    /// Print JSON: {"<setting>": {"value": …, "origin": …}}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags<Everything>,
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            ConfigCommand::Show(show) => return show.run(),
            ConfigCommand::Table => terminal::print(&show::markdown())?,
            ConfigCommand::Example => terminal::print(&show::example())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let settings = self.flags.settings();
        let text = if self.json {
            serde_json::to_string_pretty(&show::json(&settings))?
        } else {
            show::table(&settings)
        };
        terminal::print(&text)?;
        // The values are printed first, because fixing an invalid one takes both the values and the error.
        let config = settings.config()?;
        if let Err(error) = config.require_key_encryption() {
            // A closed stderr must not fail the command.
            let _ = writeln!(
                io::stderr(),
                "nas-cron: `serve` needs this setting, unless all signing keys are kept outside the database: {error}"
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
