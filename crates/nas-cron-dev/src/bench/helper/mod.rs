//! The parts of `make bench-peers` (`bench/`) that must be the same code for nas-cron and for the schedulers that it is
//! compared with: the sink and the private Postgres. Also two calibrations of the machine.
//!
//! Each command prints its results to stdout, one JSON object per line. `sink` and `postgres` run until stdin ends.

mod postgres;
mod posts;
mod signs;
mod sink;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use nas_cron_base::{duration, output};
use serde::Serialize;
use url::Url;

/// Helper of `make bench-peers`; not for use by hand.
#[derive(Debug, Parser)]
#[command(name = "nas-cron-bench-helper")]
pub struct Helper {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sink of `nas-cron bench`. Reads requests from stdin, one JSON object per line.
    Sink,
    /// Run the Postgres of `nas-cron dev` with an empty database, in a new folder that is removed at the end.
    Postgres {
        /// Folder, which must not exist.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Measure POST/s to a sink that expects a one-shot `c0` of one agent.
    Posts {
        /// Base URL of the sink.
        #[arg(long, value_name = "URL")]
        url: Url,
        /// Number of connections, with one request in flight each.
        #[arg(long, value_name = "N", default_value_t = 32)]
        connections: usize,
        /// Period of the measurement.
        #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration::parse)]
        period: Duration,
    },
    /// Measure ES256 signatures/s of one core.
    Signs {
        /// Period of the measurement.
        #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
        period: Duration,
    },
}

impl Helper {
    /// Runs the command.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Sink => sink::run().await,
            Command::Postgres { dir } => postgres::run(dir).await,
            Command::Posts { url, connections, period } => posts::run(&url, connections, period).await,
            Command::Signs { period } => signs::run(period),
        }
    }
}

/// Prints one line of JSON, at once.
fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = output::stdout();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Returns events per second.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: u64, took: Duration) -> f64 {
    (count as f64 / took.as_secs_f64()).round()
}
