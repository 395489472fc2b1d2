//! `nas-cron completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use nas_cron_base::terminal;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nas-cron completions zsh > \"${fpath[1]}/_nas-cron\"")]
pub(super) struct Completions {
    /// Shell to complete for.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        terminal::print(&self.script())?;
        Ok(ExitCode::SUCCESS)
    }

    fn script(&self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "nas-cron", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn script_of_every_shell_contains_every_subcommand() {
        for shell in Shell::value_variants() {
            let script = Completions { shell: *shell }.script();
            assert!(script.contains("migrate") && script.contains("completions"), "{shell}");
        }
    }

    #[test]
    fn options_with_fixed_values_complete_to_them() {
        let script = Completions { shell: Shell::Bash }.script();
        let mut places =
            script.split("--use-agent-identity)").skip(1).filter_map(|after| after.split(";;").next());
        assert!(places.any(|values| values.contains("\"on off\"")), "{script}");
    }
}
