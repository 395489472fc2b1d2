//! A long run at a high load, with rounds of faults, key rotations, and samples of the memory and descriptors of a replica
//! that no fault restarts: `make soak`.

mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use super::backend::Backend;
use super::descriptors::Ports;
use super::fault::Fault;
use super::ledger::{Finding, Ledger, now};
use super::load::{self, Load};
use super::report::Tally;
use super::rotations::{self, Kind, Rotation};
use super::samples::{self, Course, Sample};
use super::stage::Stage;
use super::{CALM, Plan, SETTLING, break_and_recover, schedule, with_progress};

pub use self::report::Report;

/// Time after which a one-shot that was accepted leaves the ledger, in microseconds.
const KEPT: i64 = 5 * 60 * 1_000_000;
/// Number of intervals between steps of key rotations in a run.
const ROTATIONS: u32 = 15;
/// Minimum interval between two steps.
const ROTATE_EVERY: Duration = Duration::from_secs(5);
/// Maximum interval between samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Minimum samples of a run.
const SAMPLES: u32 = 40;
/// Time after a sudden rotation, in microseconds, for which agents may see an older key set: a replica's view is 10 s old at
/// most, and older if a fault prevents it from reading the keys.
const UNKNOWN_FOR: i64 = 60 * 1_000_000;
/// Time after the publication of a key until every replica serves it, in microseconds.
const VISIBLE_AFTER: i64 = 15 * 1_000_000;

/// The faults of a deployment that a run with an external backend injects beside those of the backend.
const WITH_BACKEND: [Fault; 12] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Rolling,
    Fault::DatabaseRestart,
    Fault::TerminatedBackends,
    Fault::HoleExisting,
    Fault::HoleAll,
    Fault::DatabasePaused,
    Fault::ReadOnly,
    Fault::FailoverKilled,
    Fault::Clock(40),
    Fault::Clock(-40),
];

/// The plan of a soak.
pub struct Soak {
    /// The service's binary.
    pub binary: PathBuf,
    /// The scheduler backend.
    pub backend: Backend,
    /// The load.
    pub load: Load,
    /// Time for which faults are injected.
    pub length: Duration,
    /// The faults of a round.
    pub faults: Vec<Fault>,
    /// Length of every fault; `None` for that of a long run.
    pub fault_length: Option<Duration>,
    /// Determines the order of faults and their targets, and the fires that agents reject at first.
    pub seed: u64,
    /// Further settings of the replicas.
    pub settings: Vec<(&'static str, &'static str)>,
    /// Called with a progress line about once a second.
    pub progress: fn(&str),
}

impl Soak {
    /// Returns the soak of a backend: 200 provisions per second, with all faults for `postgres`, and with those of the backend
    /// and a selection of the others for the external ones.
    pub fn of(backend: Backend, binary: PathBuf, length: Duration, seed: u64) -> Self {
        let faults = match backend {
            Backend::Postgres => Fault::ALL.to_vec(),
            Backend::Nats | Backend::Qstash => [backend.faults(), &WITH_BACKEND].concat(),
        };
        Self {
            binary,
            backend,
            load: Load::SOAK,
            length,
            faults,
            fault_length: None,
            seed,
            settings: Vec::new(),
            progress: |_| {},
        }
    }
}

/// Runs a soak and returns the report.
pub async fn run(soak: Soak) -> Report {
    let Soak { length, load, seed, progress, .. } = soak;
    let plan = Plan {
        steps: schedule::rounds(seed, soak.faults, soak.fault_length)
            // A step lasts longer than the calm after it.
            .take(usize::try_from(length.as_secs() / CALM.as_secs()).expect("a few thousand"))
            .collect(),
        settings: soak.settings,
        backend: soak.backend,
        spared: true,
        progress,
        ..Plan::new(soak.binary, load, seed)
    };
    let mut stage = Stage::start(&plan).await;
    let ledger = Arc::clone(&stage.shared.ledger);
    let running = load::start(Arc::clone(&stage.shared), load);
    let begin = Instant::now();
    let watch = Watch::start(&stage, &plan.binary, length);
    tokio::time::sleep(CALM * 2).await;

    let (mut windows, mut tally, mut skipped) = (Vec::new(), Tally::default(), Vec::new());
    for step in plan.steps.iter().take_while(|_| begin.elapsed() < length) {
        if let Some(reason) = stage.skip_reason(step.fault) {
            if !skipped.contains(&(step.fault, reason)) {
                skipped.push((step.fault, reason));
            }
            continue;
        }
        let title = format!("{} min, {}", begin.elapsed().as_secs() / 60, step.fault.name());
        windows.push(break_and_recover(&mut stage, step, &title, progress).await);
        tally.add(&windows, &ledger.settle(now() - KEPT));
        tokio::time::sleep(CALM).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (samples, rotations) = watch.end();
    running.stop().await;
    with_progress(ledger.settled(SETTLING), "settling", &ledger, progress).await;

    let unknown_keys = excuse(&ledger, &rotations);
    let delivered = ledger.delivered();
    let faults = tally.close(seed, load, &windows, &ledger, &skipped);
    let of = |measure: fn(&Sample) -> f64| Course::of(&samples, measure);
    let report = Report {
        backend: soak.backend.name(),
        seconds,
        delivered,
        unknown_keys,
        memory: of(|sample| sample.memory),
        descriptors: of(|sample| sample.descriptors - sample.database),
        callers: of(|sample| sample.callers),
        agents: of(|sample| sample.agents),
        database: of(|sample| sample.database),
        threads: of(|sample| sample.threads),
        rotations,
        samples,
        faults,
    };
    stage.end(report.passed()).await;
    report
}

/// Samples and key rotations, beside the faults. Dropping this ends them.
struct Watch {
    tasks: JoinSet<()>,
    samples: Arc<Mutex<Vec<Sample>>>,
    rotations: Arc<Mutex<Vec<Rotation>>>,
}

impl Watch {
    fn start(stage: &Stage, binary: &Path, length: Duration) -> Self {
        let (mut tasks, samples, rotations) = (JoinSet::new(), Arc::default(), Arc::default());
        let spared = stage.replicas.last().expect("several replicas");
        let process = spared.process().expect("it was started");
        let ports = Ports {
            replica: port(&spared.url),
            agents: port(&stage.shared.callback),
            database: stage.proxy.address().port(),
        };
        let period = SAMPLE_EVERY.min(length / SAMPLES);
        let all: Arc<Mutex<Vec<Sample>>> = Arc::clone(&samples);
        tasks.spawn(samples::take(process, ports, period, move |sample| all.lock().push(sample)));
        let environment =
            stage.settings.environment().map(|(name, value)| (name, value.to_owned())).collect();
        let (binary, all): (_, Arc<Mutex<Vec<Rotation>>>) = (binary.to_owned(), Arc::clone(&rotations));
        let period = ROTATE_EVERY.max(length / ROTATIONS);
        // None begins when the run ends: a command that is interrupted may have its effect all the same.
        let steps = usize::try_from(length.as_secs() / period.as_secs()).expect("a few").saturating_sub(1);
        tasks.spawn(rotations::rotate(binary, environment, period, steps, move |rotation| {
            all.lock().push(rotation);
        }));
        Self { tasks, samples, rotations }
    }

    fn end(self) -> (Vec<Sample>, Vec<Rotation>) {
        drop(self.tasks);
        (std::mem::take(&mut self.samples.lock()), std::mem::take(&mut self.rotations.lock()))
    }
}

fn port(url: &str) -> u16 {
    Url::parse(url).ok().and_then(|url| url.port()).expect("a URL with a port")
}

/// Excuses the fires that agents refused because of an unknown key after a sudden rotation, and returns their number.
fn excuse(ledger: &Ledger, rotations: &[Rotation]) -> usize {
    let sudden = |(number, rotation): (usize, &Rotation)| {
        let published = rotations[..number].last().filter(|before| before.succeeded);
        let known = published.is_some_and(|before| rotation.begin - before.end > VISIBLE_AFTER);
        (rotation.kind == Kind::Sudden || rotation.kind == Kind::Activated && !known)
            .then_some(rotation.begin..rotation.end + UNKNOWN_FOR)
    };
    let excused: Vec<_> = rotations.iter().enumerate().filter_map(sudden).collect();
    ledger.excuse(Finding::UnknownKey, |at| excused.iter().any(|times| times.contains(&at)))
}
