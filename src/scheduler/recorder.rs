//! Records outcomes in batches: outcomes that arrive while all statements are in flight go into the next.
//!
//! An attempt keeps its slot in flight until its outcome is durable, so the number of waiting outcomes is limited by the
//! number of slots.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::db::{Db, DbError, outages, outcomes, retry_for};
use crate::domain::arm_rules::ArmRules;
use crate::domain::attempt::{Ended, Recorded};
use crate::heartbeat::{self, Heartbeats};

/// Maximum number of outcomes in one statement.
const BATCH: usize = 512;
/// Maximum number of statements in flight: one executes while another one's commit is written to the disk.
const STATEMENTS: usize = 2;
/// Time for which recording is retried while the database is unavailable. After that the one-shot is recovered when its
/// lease expires.
const KEEP_TRYING: Duration = Duration::from_mins(2);

/// The change in an instance's reachability at the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No change.
    Unchanged,
    /// The instance is unreachable: its other one-shots wait for the probe of this one.
    Lost,
    /// The instance is reachable again.
    Found,
}

/// The end of an attempt, for recording.
#[derive(Debug)]
pub struct Report {
    /// The end of the attempt.
    pub ended: Ended,
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The change in the instance's reachability.
    pub reach: Reach,
}

type Entry = (Report, oneshot::Sender<Option<Recorded>>);

/// A handle that takes outcomes for recording.
#[derive(Clone, Debug)]
pub struct Recorder {
    entries: mpsc::Sender<Entry>,
}

impl Recorder {
    /// Starts the recorder. It ends when the last handle is dropped and all outcomes are recorded.
    pub fn start(db: Db, rules: ArmRules, hearts: &Heartbeats) -> (Self, JoinHandle<()>) {
        let (entries, receiver) = mpsc::channel(BATCH);
        let receiver = Arc::new(Mutex::new(receiver));
        let task = hearts.supervise("recorder", move || run(db.clone(), rules, Arc::clone(&receiver)));
        (Self { entries }, task)
    }

    /// Records an outcome and waits until it is durable. Returns `None` if it was recorded before, or recording failed.
    pub async fn record(&self, report: Report) -> Option<Recorded> {
        let (answer, recorded) = oneshot::channel();
        self.entries.send((report, answer)).await.ok()?;
        recorded.await.ok()?
    }
}

async fn run(db: Db, rules: ArmRules, receiver: Arc<Mutex<mpsc::Receiver<Entry>>>) {
    let mut receiver = receiver.lock().await;
    let statements = Arc::new(Semaphore::new(STATEMENTS));
    loop {
        let Ok(permit) = Arc::clone(&statements).acquire_owned().await else { return };
        let mut batch = Vec::with_capacity(BATCH);
        if heartbeat::rest(receiver.recv_many(&mut batch, BATCH)).await == 0 {
            // The statements in flight end.
            let _ = statements.acquire_many(u32::try_from(STATEMENTS - 1).unwrap_or(u32::MAX)).await;
            return;
        }
        let db = db.clone();
        tokio::spawn(async move {
            record_batch(&db, &rules, batch).await;
            drop(permit);
        });
    }
}

async fn record_batch(db: &Db, rules: &ArmRules, batch: Vec<Entry>) {
    let (reports, answers): (Vec<Report>, Vec<_>) = batch.into_iter().unzip();
    let recorded: HashMap<_, _> =
        record(db, rules, &reports).await.into_iter().map(|one| (one.attempt_id, one)).collect();
    for (report, answer) in reports.iter().zip(answers) {
        // The receiver is gone if the attempt's task was aborted; the outcome is recorded anyway.
        let _ = answer.send(recorded.get(&report.ended.attempt.attempt_id).copied());
    }
}

async fn record(db: &Db, rules: &ArmRules, reports: &[Report]) -> Vec<Recorded> {
    let ended: Vec<Ended> = reports.iter().map(|report| report.ended.clone()).collect();
    let recorded = match retry_for(KEEP_TRYING, || outcomes::finish_fires(db, &ended, rules)).await {
        Ok(recorded) => recorded,
        Err(DbError::Unavailable(_)) => Vec::new(),
        // One by one, so that a row that the schema rejects does not lose the others of its batch.
        Err(_) => one_by_one(db, rules, &ended).await,
    };
    let of = |reach: Reach| reports.iter().filter(move |report| report.reach == reach);
    let lost: Vec<_> =
        of(Reach::Lost).map(|r| (&r.instance_id, &r.job_id, r.ended.attempt.callback_url.as_str())).collect();
    if !lost.is_empty()
        && let Err(error) = retry_for(KEEP_TRYING, || outages::open_outages(db, &lost)).await
    {
        warn!(%error, "recording an outage failed; the next failed attempt records it");
    }
    // Before the slots are free, so that no more attempts than slots meet an agent that asked to wait.
    let busy: Vec<_> = reports
        .iter()
        .filter_map(|r| {
            Some((r.instance_id.clone(), r.ended.respected_retry_after().filter(|delay| !delay.is_zero())?))
        })
        .collect();
    if !busy.is_empty()
        && let Err(error) = retry_for(KEEP_TRYING, || outages::set_busy(db, &busy)).await
    {
        warn!(%error, "recording a Retry-After failed; the next response records it");
    }
    let found: Vec<_> = of(Reach::Found).map(|r| r.instance_id.clone()).collect();
    if !found.is_empty()
        && let Err(error) = retry_for(KEEP_TRYING, || outages::close_outages(db, &found)).await
    {
        warn!(%error, "recording the end of an outage failed; the next response records it");
    }
    recorded
}

async fn one_by_one(db: &Db, rules: &ArmRules, ended: &[Ended]) -> Vec<Recorded> {
    let mut recorded = Vec::with_capacity(ended.len());
    for one in ended {
        match retry_for(KEEP_TRYING, || outcomes::finish_fires(db, std::slice::from_ref(one), rules)).await {
            Ok(rows) => recorded.extend(rows),
            Err(error) => {
                error!(
                    %error, agent.id = %one.attempt.instance_id, job.id = %one.attempt.job_id,
                    fire.attempt_id = %one.attempt.attempt_id,
                    "recording an outcome failed; the one-shot is recovered when its lease expires"
                );
            }
        }
    }
    recorded
}
