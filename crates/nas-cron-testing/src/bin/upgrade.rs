//! A rolling upgrade and rollback as a program: `make upgrade`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nas_cron_testing::chaos::load::Load;
use nas_cron_testing::chaos::upgrade::{Releases, run};

/// Upgrade two replicas under load, roll back, and upgrade again.
///
/// The run starts a private Postgres, a portal, agents and two replicas of OLD. It migrates the schema with NEW while they
/// serve, restarts them one after the other as NEW, then as OLD on the new schema, and as NEW again. The exit code is 1 if a
/// one-shot was lost, early or more than 100 ms late, or a provision failed.
#[derive(Parser)]
struct Arguments {
    /// Binary of the release before.
    #[arg(long)]
    old: PathBuf,
    /// Binary of this release.
    #[arg(long, default_value = "target/release/nas-cron")]
    new: PathBuf,
    /// File that the table is written to, as Markdown.
    #[arg(long, value_name = "FILE", default_value = "target/upgrade.md")]
    markdown: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { old, new, markdown } = Arguments::parse();
    let [Ok(old), Ok(new)] = [old.canonicalize(), new.canonicalize()] else {
        eprintln!("a binary is missing: `make upgrade` builds both");
        return ExitCode::from(2);
    };
    let progress = |line: &str| eprintln!("{line}");
    let report = run(Releases { old, new, load: Load::STEADY, progress }).await;
    let table = report.markdown();
    if let Err(error) = std::fs::write(&markdown, &table) {
        eprintln!("writing {} failed: {error}", markdown.display());
    }
    println!("{table}");
    for example in &report.examples {
        eprintln!("{example}");
    }
    ExitCode::from(u8::from(!report.passed()))
}
