//! The abuse run as a program: `make abuse`, or `cargo run -p nas-cron-testing --bin abuse -- --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nas_cron_testing::abuse::{Abuse, Plan, Scale, run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measure what healthy agents notice while others abuse the service.
///
/// The run starts a private Postgres, a portal, and BINARY. Twenty healthy agents arm one-shots and receive their fires, first
/// alone, then beside each kind of abuse: tokens with invented key ids, slow connections, header and body bombs, an agent
/// that provisions in a loop, one-shots in the past, and redrives. The exit code is 1 if a healthy agent's provision failed,
/// if a one-shot was lost, or if a 99th percentile is above its limit: 3 × calm for provisions, 2 × for lateness.
#[derive(Parser)]
struct Arguments {
    /// The service's binary.
    #[arg(long, default_value = "target/release/nas-cron")]
    binary: PathBuf,
    /// Only this kind; may be repeated.
    #[arg(long, value_name = "KIND")]
    only: Vec<String>,
    /// Length of the calm phase, and minimum length of the others.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    phase: u64,
    /// Provisions per second of the healthy agents together.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Slow connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Concurrent callers of the other kinds.
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// One-shots in the past.
    #[arg(long, default_value_t = 50_000)]
    past: usize,
    /// Redriven one-shots.
    #[arg(long, default_value_t = 100_000)]
    redrives: usize,
    /// File that the table is written to, as Markdown.
    #[arg(long, value_name = "FILE", default_value = "target/abuse.md")]
    markdown: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kinds: Vec<_> = Abuse::ALL
        .into_iter()
        .filter(|kind| arguments.only.is_empty() || arguments.only.iter().any(|name| name == kind.name()))
        .collect();
    if kinds.len() < arguments.only.len() {
        let names = Abuse::ALL.map(Abuse::name).join("\", \"");
        eprintln!("unknown kind of abuse: use \"{names}\"");
        return ExitCode::from(2);
    }
    let Ok(binary) = arguments.binary.canonicalize() else {
        eprintln!("{} is missing: cargo build --release --bin nas-cron", arguments.binary.display());
        return ExitCode::from(2);
    };
    // The slow connections need descriptors here and in the service, which inherits the limit.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let plan = Plan {
        binary: Some(binary),
        kinds,
        scale: Scale {
            connections: arguments.connections,
            callers: arguments.callers,
            past: arguments.past,
            redrives: arguments.redrives,
        },
        phase: Duration::from_secs(arguments.phase),
        rate: arguments.rate,
        progress: |phase| eprintln!("{phase}"),
    };
    let report = tokio::select! {
        report = run(plan) => report,
        // Dropping the run stops everything that it has started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    let markdown = report.markdown();
    if let Err(error) = std::fs::write(&arguments.markdown, &markdown) {
        eprintln!("writing {} failed: {error}", arguments.markdown.display());
    }
    println!("{markdown}");
    let violations = report.violations(true);
    for violation in &violations {
        eprintln!("{violation}");
    }
    ExitCode::from(u8::from(!violations.is_empty()))
}
