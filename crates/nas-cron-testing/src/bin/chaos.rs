//! The chaos run as a program: `make chaos`, or `cargo run -p nas-cron-testing --bin chaos -- --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use nas_cron_testing::chaos::fault::Fault;
use nas_cron_testing::chaos::load::Load;
use nas_cron_testing::chaos::{Plan, progress, run, schedule};

/// Put two replicas under load, inject faults, and check the guarantees of the service.
///
/// The run starts a private Postgres behind a proxy, a portal, 100 agents and two replicas of BINARY. Agents arm 115
/// one-shots per second and receive 170 attempts per second: agents reject about half of the first attempts with 503.
/// Then the run injects faults, one after the other, in an order that the seed determines. A ledger records every
/// acknowledged provision and every fire by one clock.
///
/// Guarantees: no one-shot is lost, no attempt is early, no two attempts of a one-shot overlap; no provision fails during
/// faults of up to 10 s; within 15 s of the end of a fault, every replica fires and provisions again. The exit code is 1
/// if a guarantee was violated.
#[derive(Parser)]
#[command(after_help = faults())]
struct Arguments {
    /// The service's binary: a release build to measure, a debug build to find bugs.
    #[arg(long, default_value = "target/release/nas-cron")]
    binary: PathBuf,
    /// Determines the order of the faults, their targets, and the fires that agents reject at first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Approximate duration of the run, which determines the number of faults. Each fault is injected at least once.
    #[arg(long, default_value_t = 20, value_name = "MINUTES")]
    duration: u64,
    /// Inject only this fault; may be repeated.
    #[arg(long, value_name = "FAULT", value_parser = PossibleValuesParser::new(Fault::ALL.map(Fault::name)), hide_possible_values = true)]
    only: Vec<String>,
    /// Short run: most faults once and briefly, at a low load.
    #[arg(long, conflicts_with_all = ["duration", "only"])]
    short: bool,
    /// Use a low load.
    #[arg(long)]
    low: bool,
    /// Print the report as JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// File that the table is written to, as Markdown.
    #[arg(long, value_name = "FILE", default_value = "target/chaos.md")]
    markdown: PathBuf,
}

fn faults() -> String {
    let lines = Fault::ALL.map(|fault| format!("  {:<20} {}", fault.name(), fault.description()));
    format!(
        "Faults:\n{}\n\nTo repeat one fault: chaos --only black-hole-existing --duration 5 --seed 7",
        lines.join("\n")
    )
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let only: Vec<_> = Fault::ALL
        .into_iter()
        .filter(|fault| arguments.only.iter().any(|name| name == fault.name()))
        .collect();
    let steps = if arguments.short {
        schedule::short(arguments.seed)
    } else {
        schedule::long(arguments.seed, Duration::from_mins(arguments.duration), &only)
    };
    let settings = if arguments.short { schedule::SHORT_LEASES.to_vec() } else { Vec::new() };
    let load = if arguments.short || arguments.low { Load::LOW } else { Load::FULL };
    let Ok(binary) = arguments.binary.canonicalize() else {
        eprintln!("{} is missing: cargo build --release --bin nas-cron", arguments.binary.display());
        return ExitCode::from(2);
    };
    let running =
        run(Plan { steps, settings, progress: progress::print, ..Plan::new(binary, load, arguments.seed) });
    let report = tokio::select! {
        report = running => report,
        // Dropping the run stops everything that it has started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    eprintln!();
    let markdown = report.markdown();
    if let Err(error) = std::fs::write(&arguments.markdown, &markdown) {
        eprintln!("writing {} failed: {error}", arguments.markdown.display());
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("plain data"));
    } else {
        println!("{markdown}");
    }
    eprint!("{}", report.violations());
    ExitCode::from(u8::from(!report.passed()))
}
