//! Records outcomes, many in one statement: whoever comes while one is under way goes into the next.
//!
//! An attempt keeps its slot in flight until its outcome is durable, so what waits here is bounded by what may
//! be in flight.

use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::db::{Db, DbError, outages, outcomes, retry_for};
use crate::domain::arm_rules::ArmRules;
use crate::domain::attempt::{Ended, Recorded};
use crate::heartbeat::{self, Heartbeats};

/// Most outcomes in one statement.
const BATCH: usize = 512;
/// How long an outcome is tried while the database is away; after that the end of its lease recovers it.
const KEEP_TRYING: Duration = Duration::from_mins(2);

/// What the end of an attempt says about its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing new.
    Unchanged,
    /// It could not be reached: others wait for this one-shot's probe.
    Lost,
    /// It answered, and was thought unreachable.
    Found,
}

/// An attempt's end on its way into the database.
#[derive(Debug)]
pub struct Report {
    /// What to record.
    pub ended: Ended,
    /// Whose attempt it was.
    pub instance_id: InstanceId,
    /// Of which job.
    pub job_id: JobId,
    /// What it says about the instance.
    pub reach: Reach,
}

type Entry = (Report, oneshot::Sender<Option<Recorded>>);

/// Where outcomes are handed in.
#[derive(Clone, Debug)]
pub struct Recorder {
    entries: mpsc::Sender<Entry>,
}

impl Recorder {
    /// Starts the recorder; it ends when the last handle is gone and everything is recorded.
    pub fn start(db: Db, rules: ArmRules, hearts: &Heartbeats) -> (Self, JoinHandle<()>) {
        let (entries, receiver) = mpsc::channel(BATCH);
        let receiver = Arc::new(Mutex::new(receiver));
        let task = hearts.supervise("recorder", move || run(db.clone(), rules, Arc::clone(&receiver)));
        (Self { entries }, task)
    }

    /// Hands an outcome in and waits until it is durable. `None`: it was recorded before, or could not be.
    pub async fn record(&self, report: Report) -> Option<Recorded> {
        let (answer, recorded) = oneshot::channel();
        self.entries.send((report, answer)).await.ok()?;
        recorded.await.ok()?
    }
}

async fn run(db: Db, rules: ArmRules, receiver: Arc<Mutex<mpsc::Receiver<Entry>>>) {
    let mut receiver = receiver.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    while heartbeat::rest(receiver.recv_many(&mut batch, BATCH)).await > 0 {
        let (reports, answers): (Vec<Report>, Vec<_>) = batch.drain(..).unzip();
        let recorded = record(&db, &rules, &reports).await;
        for (report, answer) in reports.iter().zip(answers) {
            let of_this =
                recorded.iter().find(|one| one.attempt_id == report.ended.attempt.attempt_id).copied();
            // Nobody waits any more when the attempt's task was aborted; it is recorded all the same.
            let _ = answer.send(of_this);
        }
    }
}

async fn record(db: &Db, rules: &ArmRules, reports: &[Report]) -> Vec<Recorded> {
    let ended: Vec<Ended> = reports.iter().map(|report| report.ended.clone()).collect();
    let recorded = match retry_for(KEEP_TRYING, || outcomes::finish_fires(db, &ended, rules)).await {
        Ok(recorded) => recorded,
        // One row that the schema refuses must not take its batch with it.
        Err(DbError::Unavailable(_)) => Vec::new(),
        Err(_) => one_by_one(db, rules, &ended).await,
    };
    let of = |reach: Reach| reports.iter().filter(move |report| report.reach == reach);
    let lost: Vec<_> = of(Reach::Lost).map(|r| (r.instance_id.clone(), r.job_id.clone())).collect();
    if !lost.is_empty()
        && let Err(error) = retry_for(KEEP_TRYING, || outages::open_outages(db, &lost)).await
    {
        warn!(%error, "an outage was not recorded; the next failure will");
    }
    let found: Vec<_> = of(Reach::Found).map(|r| r.instance_id.clone()).collect();
    if !found.is_empty()
        && let Err(error) = retry_for(KEEP_TRYING, || outages::close_outages(db, &found)).await
    {
        warn!(%error, "the end of an outage was not recorded; the next answer will");
    }
    recorded
}

async fn one_by_one(db: &Db, rules: &ArmRules, ended: &[Ended]) -> Vec<Recorded> {
    let mut recorded = Vec::with_capacity(ended.len());
    for one in ended {
        match retry_for(KEEP_TRYING, || outcomes::finish_fires(db, std::slice::from_ref(one), rules)).await {
            Ok(rows) => recorded.extend(rows),
            Err(error) => {
                error!(%error, fire.attempt_id = %one.attempt.attempt_id, "an outcome could not be recorded: its lease's end will recover it");
            }
        }
    }
    recorded
}
