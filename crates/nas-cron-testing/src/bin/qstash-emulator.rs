//! The QStash emulator as a process, for measurements and for the SDKs' scripts:
//! `cargo run -p nas-cron-testing --bin qstash-emulator -- --listen 127.0.0.1:8085 --token t --current-key sig_a --next-key sig_b`.

use std::net::SocketAddr;

use clap::Parser;
use nas_cron_testing::qstash_emulator::{Emulator, Settings};

/// Run a small QStash on this machine.
///
/// `GET /emulator/state` returns its counters. `PUT /emulator/faults` with {"api": …, "times": …, "delivery": …} injects
/// faults (`qstash_emulator::faults`).
#[derive(Parser)]
struct Arguments {
    /// Address that it listens on.
    #[arg(long, default_value = "127.0.0.1:8085")]
    listen: SocketAddr,
    /// Token that calls must present.
    #[arg(long, default_value = "emulated-token")]
    token: String,
    /// Current signing key.
    #[arg(long, default_value = "sig_emulated_current")]
    current_key: String,
    /// Signing key after a rotation.
    #[arg(long, default_value = "sig_emulated_next")]
    next_key: String,
    /// Multiplier of the back-off between tries.
    #[arg(long, default_value_t = 1.0)]
    backoff: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let Arguments { listen, token, current_key, next_key, backoff } = Arguments::parse();
    let settings = Settings { listen, token, current_key, next_key, backoff, ..Settings::default() };
    let emulator = Emulator::start(settings).await?;
    println!("{}", emulator.url());
    tokio::signal::ctrl_c().await
}
