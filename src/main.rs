//! The `nas-cron` binary: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Needed before the first TLS connection. It fails only if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    nas_cron::cli::Cli::parse().run()
}
