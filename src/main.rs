//! Parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before anything speaks TLS. It can only fail where a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    nas_cron::cli::Cli::parse().run()
}
