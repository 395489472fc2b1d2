//! The soak as a program: `make soak`, or `cargo run -p nas-cron-testing --bin soak -- --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use nas_cron_testing::chaos::backend::Backend;
use nas_cron_testing::chaos::progress;
use nas_cron_testing::chaos::soak::{Soak, run};

/// Put three replicas under load and faults for a long time, and check that memory and descriptors stay flat.
///
/// The run starts a private Postgres behind a proxy, a portal, 100 agents, three replicas of BINARY, and the scheduler backend
/// with its servers. Agents arm 200 one-shots per second. The faults of `chaos` and of the backend follow each other in rounds
/// without end. The signing key is rotated 14 times; agents verify each fire with the JWKS as a client does. Faults of
/// processes spare one replica, whose memory, descriptors and threads are sampled every 10 s.
///
/// Guarantees: no one-shot is lost, no attempt is early, no two attempts of a one-shot overlap, no fire has an invalid token,
/// every replica recovers by itself; in a run of 10 min or more, the lowest samples of memory and descriptors (without sessions
/// at the database) in the last sixth differ by at most 10 % from those after the warm-up (minutes 10 to 20 of an hour). The
/// exit code is 1 if a guarantee was violated.
#[derive(Parser)]
struct Arguments {
    /// The service's binary.
    #[arg(long, default_value = "target/release/nas-cron")]
    binary: PathBuf,
    /// Scheduler backend.
    #[arg(long, default_value = "postgres", value_parser = PossibleValuesParser::new(Backend::ALL.map(Backend::name)))]
    backend: String,
    /// Duration of the run. The default is 60 for postgres, and 15 for the other backends.
    #[arg(long)]
    minutes: Option<u64>,
    /// Determines the order of the faults, their targets, and the fires that agents reject at first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Folder that the tables are written to, as soak-BACKEND.md, and the report with all samples, as soak-BACKEND.json.
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let backend = Backend::ALL.into_iter().find(|backend| backend.name() == arguments.backend);
    let backend = backend.expect("clap has checked the name");
    let minutes = arguments.minutes.unwrap_or(if backend == Backend::Postgres { 60 } else { 15 });
    let Ok(binary) = arguments.binary.canonicalize() else {
        eprintln!("{} is missing: cargo build --release --bin nas-cron", arguments.binary.display());
        return ExitCode::from(2);
    };
    let soak = Soak::of(backend, binary, Duration::from_mins(minutes), arguments.seed);
    let running = run(Soak { progress: progress::print, ..soak });
    let report = tokio::select! {
        report = running => report,
        // Dropping the run stops everything that it has started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    eprintln!();
    let json = serde_json::to_string_pretty(&report).expect("plain data");
    let markdown = report.markdown();
    for (kind, text) in [("md", &markdown), ("json", &json)] {
        let file = arguments.folder.join(format!("soak-{}.{kind}", backend.name()));
        if let Err(error) = std::fs::write(&file, text) {
            eprintln!("writing {} failed: {error}", file.display());
        }
    }
    println!("{}", if arguments.json { json } else { markdown });
    eprint!("{}", report.violations());
    ExitCode::from(u8::from(!report.passed()))
}
