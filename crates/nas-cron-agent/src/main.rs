//! `nas-cron-agent`: the agent's commands of `nas-cron` as a separate, small binary.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nas_cron_agent::cli::{self, Cron, Mcp};
use nas_cron_base::terminal::error_in_one_line;
use nas_cron_base::{memory, output};

/// Manage one-shots on a nas-cron server as their agent: the `cron` and `mcp` commands of `nas-cron`, without the service.
#[derive(Debug, Parser)]
#[command(name = "nas-cron-agent", version, arg_required_else_help = true, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cron(Cron),
    Mcp(Mcp),
}

fn main() -> ExitCode {
    // Fails only if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Err(error) = memory::protect() {
        let _ = writeln!(io::stderr(), "nas-cron-agent: warning: core dumps could not be disabled: {error}");
    }
    let result = match Arguments::parse().command {
        Command::Cron(command) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("starting the async runtime failed")
            .and_then(|runtime| runtime.block_on(command.run())),
        Command::Mcp(command) => command.run(),
    };
    output::ended(result, |error| {
        // A closed stderr must not replace the exit code.
        let _ = writeln!(io::stderr(), "nas-cron-agent: {}", error_in_one_line(error));
        ExitCode::from(if cli::is_usage_error(error) { 2 } else { 1 })
    })
}
