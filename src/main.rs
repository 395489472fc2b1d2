//! The `nas-cron` binary: parses the command line, runs the command, returns its exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// Returns the memory of a burst to the system. The allocator of glibc keeps it: after an outage with a thousand waiting
/// callers, the service would stay twice as large.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Needed before the first TLS connection. It fails only if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Err(error) = nas_cron_base::memory::protect() {
        // A closed stderr must not fail the command.
        let _ = writeln!(io::stderr(), "nas-cron: warning: core dumps could not be disabled: {error}");
    }
    nas_cron::cli::Cli::parse().run()
}
