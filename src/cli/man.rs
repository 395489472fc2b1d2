//! `nas-cron man`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};

/// Write the manual pages: one for each command.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  nas-cron man /usr/local/share/man/man1 && man nas-cron-jobs-list")]
pub(super) struct Man {
    /// Folder that the pages are written to.
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        write(&self.folder).with_context(|| {
            format!("writing to {} failed: does the folder exist?", self.folder.display())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(super::Cli::command(), folder)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nas_cron_base::testing::Scratch;

    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let scratch = Scratch::new();
        write(scratch.path()).unwrap();
        let page = |name: &str| fs::read_to_string(scratch.path().join(name)).expect(name);
        assert!(page("nas-cron.1").contains("nas\\-cron\\-jobs(1)"));
        assert!(page("nas-cron-jobs-list.1").contains("dormant"));
        assert!(Man { folder: "/nowhere".into() }.run().unwrap_err().to_string().contains("/nowhere"));
    }
}
