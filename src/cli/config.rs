//! `nas-cron config`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use nas_cron_base::terminal;

use crate::config::{Everything, Flags, show};

/// Show the configuration, the table of settings, or an example file.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every setting as `serve` would find it with the same flags, environment and file.
    ///
    /// Each with where it comes from; secrets as ***. What is wrong is told on stderr, and the exit code is 2.
    #[command(after_help = "Example:\n  nas-cron config show --config nas-cron.toml --json")]
    Show(Show),
    /// Print the table of settings in markdown, as in the README.
    Table,
    /// Print an example of a configuration file: every setting with its default, commented out.
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
        match self.what {
            What::Show(show) => return show.run(),
            What::Table => terminal::print(&show::markdown())?,
            What::Example => terminal::print(&show::example())?,
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
        // Shown first, judged second: who mends it wants to see both.
        let config = settings.config()?;
        if let Err(error) = config.require_key_encryption_key() {
            eprintln!(
                "nas-cron: `serve` will refuse this unless all signing keys are outside the database: {error}"
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
