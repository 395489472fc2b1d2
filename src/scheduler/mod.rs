//! Who wakes us: the Postgres scheduler.
//!
//! ```text
//!            claim (lease)            instant                confirm (batched)          POST, judge, record
//!   armed ──────────────────▶ leased ─────────▶ a free slot ───────────────▶ firing ──────────────────────▶ …
//!        claims                     timer                dispatch                      attempts, recorder
//! ```
//!
//! - [`claims`]: leases what comes due within the horizon, and takes back leases that ended.
//! - [`timer`]: waits for each instant, to a fraction of a millisecond, by the database's clock.
//! - [`dispatch`]: the limits in flight, globally and per instance.
//! - [`wake`]: what a hosted engine wakes is leased here too, instead of by a claim.
//! - [`attempts`]: confirms in batches, fires, hands the end to the [`recorder`].
//! - [`deferrals`]: what our own shortages put off, counted and logged.
//! - [`early_retries`]: a calling agent's waiting retries come soon.
//! - [`maintenance`]: parked one-shots, history, gauges.
//!
//! Any number of replicas run this on one database. A lease that ended is another's to claim; everything written
//! about an attempt is fenced by its lease token; the database's clock decides what is due.

pub mod attempts;
pub mod claims;
mod clock_offset;
pub mod dispatch;
mod early_retries;
mod deferrals;
pub mod recorder;
pub mod timer;
pub mod maintenance;
pub mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::clock_offset::OffsetLog;
use self::dispatch::Dispatch;
use self::deferrals::Deferrals;
use self::recorder::Recorder;
use self::timer::Timer;
use self::maintenance::MaintenanceRules;
use self::wake::{Waking, Watched};
use crate::db::{Db, hints, leases};
use crate::db_clock::DbClock;
use crate::domain::arm_rules::ArmRules;
use crate::domain::lease::Lease;
use crate::domain::lease_lengths::LeaseLengths;
use crate::fire::Firing;
use crate::heartbeat::{self, Heartbeats};

pub use self::wake::{Ending, WakeError, Woken};

/// How long a claim that is under way when the draining begins is waited for.
const LAST_CLAIM: Duration = Duration::from_secs(5);

/// How the scheduler is set up.
#[derive(Clone, Debug)]
pub struct SchedulerRules {
    /// How far ahead one-shots are leased. Also bounds how long an idle service goes without a query.
    pub horizon: Duration,
    /// How long leases last.
    pub leases: LeaseLengths,
    /// The watchdog: how long after its instant a one-shot is left to the hosted engine that is to wake it.
    pub graces: Vec<(BackendName, Duration)>,
    /// Leases held at once, waiting for their instant or a slot.
    pub capacity: usize,
    /// Attempts under way at once.
    pub in_flight_max: usize,
    /// Attempts under way at once for one instance.
    pub in_flight_per_instance: usize,
    /// The times between fires of one job.
    pub arm_rules: ArmRules,
    /// What upkeep needs to know.
    pub maintenance: MaintenanceRules,
}

/// The running scheduler of this process.
#[derive(Debug)]
pub struct Scheduler {
    inner: Arc<Inner>,
    wakes: mpsc::Sender<Waking>,
    claims_task: Mutex<Option<JoinHandle<()>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    recorder_task: Mutex<Option<JoinHandle<()>>>,
}

/// What the loops share.
#[derive(Debug)]
struct Inner {
    db: Db,
    /// For what can wait.
    beside: Db,
    rules: SchedulerRules,
    firing: Firing,
    recorder: Recorder,
    timer: Timer<Lease>,
    dispatch: Mutex<Dispatch>,
    db_clock: Arc<DbClock>,
    /// What was last logged about this machine's clock.
    offset_log: Mutex<OffsetLog>,
    /// Who waits for how an attempt ends.
    watched: Watched,
    /// What our own shortages put off.
    deferrals: Deferrals,
    /// Leases held, from the claim to the confirmation or the giving back.
    held: AtomicUsize,
    /// The last claim found no room for all that was due.
    starved: AtomicBool,
    /// Something may be there to claim.
    claim: Notify,
    /// Something may be there to start.
    start: Notify,
    /// Something within the horizon was armed here: the other replicas should know.
    announce: Notify,
    /// Ends claims; what is in flight goes on.
    stop: CancellationToken,
    attempts: TaskTracker,
    /// When the claiming loop is to have looked for work, the next time: later, its statements fail.
    next_look: Mutex<Instant>,
}

impl Scheduler {
    /// Starts claiming and firing.
    ///
    /// `db` is for what fires depend on alone, `beside` for the rest: neither waits for the other's connections.
    pub fn start(
        db: Db,
        beside: Db,
        db_clock: Arc<DbClock>,
        firing: Firing,
        rules: SchedulerRules,
        hearts: &Heartbeats,
    ) -> std::io::Result<Self> {
        let (recorder, recorder_task) = Recorder::start(db.clone(), rules.arm_rules, hearts);
        let dispatch = Mutex::new(Dispatch::new(rules.in_flight_max, rules.in_flight_per_instance));
        let (timer, due) = Timer::start()?;
        let inner = Arc::new(Inner {
            db,
            beside,
            rules,
            firing,
            recorder,
            timer,
            dispatch,
            db_clock,
            offset_log: Mutex::default(),
            watched: Watched::default(),
            deferrals: Deferrals::default(),
            held: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            claim: Notify::new(),
            start: Notify::new(),
            announce: Notify::new(),
            stop: CancellationToken::new(),
            attempts: TaskTracker::new(),
            next_look: Mutex::new(Instant::now()),
        });
        let shared = || Arc::clone(&inner);
        let claims_task = hearts.supervise("claims", {
            let inner = shared();
            move || claims::run(Arc::clone(&inner))
        });
        let (wakes, waking) = mpsc::channel(wake::QUEUE);
        // What they receive from outlives a panic.
        let (waking, due) = (Arc::new(AsyncMutex::new(waking)), Arc::new(AsyncMutex::new(due)));
        let tasks = vec![
            hearts.supervise("wake-ups", {
                let inner = shared();
                move || wake::run(Arc::clone(&inner), Arc::clone(&waking))
            }),
            hearts.supervise("dispatch", {
                let inner = shared();
                move || attempts::run(Arc::clone(&inner), Arc::clone(&due))
            }),
            hearts.supervise("hints", {
                let inner = shared();
                move || listen(Arc::clone(&inner))
            }),
            hearts.supervise("announcements", {
                let inner = shared();
                move || announce(Arc::clone(&inner))
            }),
            hearts.supervise("maintenance", {
                let pools = [inner.beside.clone(), inner.db.clone()];
                let (rules, stop) = (inner.rules.maintenance, inner.stop.clone());
                move || maintenance::run(pools[0].clone(), pools.clone(), rules, stop.clone())
            }),
        ];
        Ok(Self {
            inner,
            wakes,
            claims_task: Mutex::new(Some(claims_task)),
            tasks: Mutex::new(tasks),
            recorder_task: Mutex::new(Some(recorder_task)),
        })
    }

    /// Something was armed for `next_attempt_at`: if that is soon, it is claimed at once, here or elsewhere.
    pub fn arm(&self, next_attempt_at: Option<DateTime<Utc>>) {
        let inner = &self.inner;
        let soon = next_attempt_at
            .is_some_and(|at| inner.db_clock.instant_of(at) <= Instant::now() + inner.rules.horizon);
        if soon {
            inner.claim.notify_one();
            inner.announce.notify_one();
        }
    }

    /// Something that is already stored may be due now (a release, a pull, a redrive).
    pub fn look(&self) {
        self.inner.look();
    }

    /// Returns for how long the claiming loop has wanted to look for work and could not; zero where it could.
    pub fn overdue_look(&self) -> Duration {
        self.inner.next_look.lock().elapsed()
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> usize {
        self.inner.dispatch.lock().in_flight()
    }

    /// Stops claiming and gives back what has not started, so that other replicas have it at once. What is in
    /// flight goes on.
    pub async fn drain(&self) {
        self.inner.stop.cancel();
        let claims = self.claims_task.lock().take();
        if let Some(mut claims) = claims
            && tokio::time::timeout(LAST_CLAIM, &mut claims).await.is_err()
        {
            warn!("the last claim was not answered: what it may have leased is recovered by its leases' end");
            claims.abort();
        }
        self.give_back_held().await;
    }

    /// Gives back every lease that waits for its instant or for a slot.
    async fn give_back_held(&self) {
        let mut leases = self.inner.timer.clear();
        leases.extend(self.inner.dispatch.lock().take_queued());
        if leases.is_empty() {
            return;
        }
        let count = leases.len();
        self.inner.released(count);
        self.inner.watched.forget(&leases);
        match leases::give_back(&self.inner.db, &leases, Duration::ZERO).await {
            Ok(given) => info!(given, "leases were given back"),
            Err(error) => warn!(%error, count, "leases could not be given back: they end by themselves"),
        }
        if let Err(error) = hints::announce(&self.inner.db).await {
            warn!(%error, "the other replicas were not told; their next query finds what is due");
        }
    }

    /// Waits until what is in flight has ended and is recorded, for `within` at most. `false`: something was
    /// left behind, and will be recovered by the end of its lease.
    pub async fn finish(&self, within: Duration) -> bool {
        self.drain().await;
        self.inner.attempts.close();
        let ended = tokio::time::timeout(within, self.inner.attempts.wait()).await.is_ok();
        // What was on its way between claim and start when the draining began.
        self.give_back_held().await;
        for task in std::mem::take(&mut *self.tasks.lock()) {
            task.abort();
        }
        // Outcomes are durable before their attempt ends, so the recorder has nothing left when all have ended.
        if let Some(recorder) = self.recorder_task.lock().take() {
            recorder.abort();
        }
        ended
    }
}

impl Inner {
    /// Something that is already stored may be due now, here or elsewhere.
    fn look(&self) {
        self.claim.notify_one();
        self.announce.notify_one();
    }

    /// How many more leases may be held.
    fn room(&self) -> u16 {
        let room = self.rules.capacity.saturating_sub(self.held.load(Ordering::SeqCst));
        u16::try_from(room).unwrap_or(u16::MAX)
    }

    /// `count` leases are not held any more.
    fn released(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::SeqCst);
        if self.starved.swap(false, Ordering::SeqCst) {
            self.claim.notify_one();
        }
    }
}

/// Hears the hints of all replicas.
async fn listen(inner: Arc<Inner>) {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut hints = None;
    loop {
        let heard = match &mut hints {
            None => hints::Hints::listen(&inner.db).await.map(|new| hints = Some(new)),
            Some(hints) => heartbeat::rest(hints.next()).await,
        };
        if let Ok(()) = heard {
            inner.claim.notify_one();
        } else {
            hints = None;
            heartbeat::rest(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Tells the other replicas: one NOTIFY for everything that was armed since the last (it takes a lock of the
/// whole database at its commit).
async fn announce(inner: Arc<Inner>) {
    const PAUSE: Duration = Duration::from_millis(20);
    loop {
        heartbeat::rest(inner.announce.notified()).await;
        // Not told: found by the next query of whoever would have heard it.
        let _ = hints::announce(&inner.db).await;
        tokio::time::sleep(PAUSE).await;
    }
}
