//! The Postgres loop: it fires one-shots at their instants, and retries them.
//!
//! ```text
//!            claim (lease)            instant                confirm (batched)          POST, judge, record
//!   armed ──────────────────▶ leased ─────────▶ a free slot ───────────────▶ firing ──────────────────────▶ …
//!        claims                     timer                dispatch                      attempts, recorder
//! ```
//!
//! - [`announcements`]: hints between replicas that there may be work.
//! - [`claims`]: leases one-shots that come due within the horizon.
//! - [`recovery`]: finds expired leases, in the claiming loop.
//! - [`timer`]: waits for each instant by the database's clock, with a precision well below a millisecond.
//! - [`dispatch`]: the limits of attempts in flight, per replica and per instance.
//! - [`wake`]: leases one-shots whose wake-up comes from an external backend.
//! - [`attempts`]: confirms in batches, fires, and passes outcomes to the [`recorder`].
//! - [`deferrals`]: counts and logs deferred attempts.
//! - [`expiry`]: ends one-shots whose `not_after` has passed.
//! - [`early_retries`]: pulls the waiting retries of a calling agent forward.
//! - [`maintenance`]: parked one-shots, history, gauges.
//! - [`minutes`]: counts attempts by minute, for plots.
//! - [`rearms`]: finds dormant jobs.
//! - [`presence`]: keeps this replica registered, and takes over from dead ones.
//! - [`stop`]: the end of a replica, which gives back what it has not started.
//!
//! Any number of replicas run this on one database. An expired lease may be claimed by any replica, the lease token fences
//! all writes about an attempt, and the database's clock decides whether a one-shot is due.

mod announcements;
pub mod attempts;
pub mod claims;
mod clock_offset;
mod deferrals;
pub mod dispatch;
mod early_retries;
mod expiry;
pub mod maintenance;
mod minutes;
mod presence;
pub mod rearms;
pub mod recorder;
mod recovery;
mod stop;
pub mod timer;
pub mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_protocol::{BackendName, CallbackUrl};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::clock_offset::OffsetLog;
use self::deferrals::Deferrals;
use self::dispatch::Dispatch;
use self::maintenance::MaintenanceRules;
use self::minutes::Minutes;
use self::recorder::Recorder;
use self::timer::Timer;
use self::wake::{Waking, Watched};
use crate::db::Db;
use crate::db_clock::DbClock;
use crate::domain::arm_rules::ArmRules;
use crate::domain::lease::Lease;
use crate::domain::lease_lengths::LeaseLengths;
use crate::fire::Firing;
use crate::heartbeat::Heartbeats;
use crate::membership::Membership;
use crate::traces::Traces;

pub use self::wake::{Ending, Settled, WakeError, Woken};

/// The scheduler's settings.
#[derive(Clone, Debug)]
pub struct SchedulerRules {
    /// Time ahead of its instant at which a one-shot may be leased. Also the maximum time between two queries of an idle
    /// service.
    pub horizon: Duration,
    /// Lengths of leases.
    pub leases: LeaseLengths,
    /// Grace period per external backend: time after which the watchdog takes over a one-shot whose wake-up is missing.
    pub graces: Vec<(BackendName, Duration)>,
    /// Maximum number of leases that wait for their instant or for a slot.
    pub capacity: usize,
    /// Maximum number of attempts in flight.
    pub in_flight_max: usize,
    /// Maximum number of attempts in flight for one instance.
    pub in_flight_per_instance: usize,
    /// The times between fires of one job.
    pub arm_rules: ArmRules,
    /// Settings of the maintenance loop.
    pub maintenance: MaintenanceRules,
}

impl SchedulerRules {
    /// Returns the room from which a claim is worth its statement after a shortage. A claim passes over all claimed
    /// one-shots.
    fn worthwhile_claim(&self) -> u16 {
        u16::try_from(self.capacity / 8).unwrap_or(u16::MAX).clamp(1, claims::BATCH)
    }
}

/// The running scheduler of this process.
#[derive(Debug)]
pub struct Scheduler {
    inner: Arc<Inner>,
    wakes: mpsc::Sender<Waking>,
    claims_task: Mutex<Option<JoinHandle<()>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    recorder_task: Mutex<Option<JoinHandle<()>>>,
    presence_task: Mutex<Option<JoinHandle<()>>>,
}

/// State shared by the loops.
#[derive(Debug)]
struct Inner {
    db: Db,
    /// Pool for statements that can wait.
    beside: Db,
    rules: SchedulerRules,
    firing: Firing,
    traces: Traces,
    recorder: Recorder,
    timer: Timer<Lease>,
    dispatch: Mutex<Dispatch>,
    db_clock: Arc<DbClock>,
    /// The right to make attempts. `None` before the first registration.
    membership: Mutex<Option<Membership>>,
    /// The state of leases and attempts on all replicas.
    activity: presence::Activity,
    /// The offset of this machine's clock that was logged last.
    offset_log: Mutex<OffsetLog>,
    /// Callers that wait for the end of an attempt.
    watched: Watched,
    /// Reports deferred attempts.
    deferrals: Deferrals,
    /// Attempts by minute.
    minutes: Minutes,
    /// Number of leases held, from the claim until they are confirmed or given back.
    held: AtomicUsize,
    /// True if the last claim had too little room.
    starved: AtomicBool,
    /// Notified when there may be one-shots to claim.
    claim: Notify,
    /// Notified when there may be attempts to start.
    start: Notify,
    /// Notified when a one-shot within the horizon was armed here, so that the other replicas learn of it.
    announce: Notify,
    /// Stops claims. Attempts in flight continue.
    stop: CancellationToken,
    /// Ends the registration of this replica, after its last attempt.
    leaving: CancellationToken,
    attempts: TaskTracker,
    /// Time by which the claiming loop should have looked for work again. If it has passed, the loop's statements fail.
    next_look: Mutex<Instant>,
}

impl Scheduler {
    /// Starts claiming and firing.
    ///
    /// Statements that fires depend on use the pool `db`, all others use `beside`: neither waits for the other's
    /// connections.
    pub fn start(
        db: Db,
        beside: Db,
        db_clock: Arc<DbClock>,
        (firing, traces): (Firing, Traces),
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
            traces,
            recorder,
            timer,
            dispatch,
            db_clock,
            membership: Mutex::default(),
            activity: presence::Activity::default(),
            offset_log: Mutex::default(),
            watched: Watched::default(),
            deferrals: Deferrals::default(),
            minutes: Minutes::default(),
            held: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            claim: Notify::new(),
            start: Notify::new(),
            announce: Notify::new(),
            stop: CancellationToken::new(),
            leaving: CancellationToken::new(),
            attempts: TaskTracker::new(),
            next_look: Mutex::new(Instant::now()),
        });
        let shared = || Arc::clone(&inner);
        let claims_task = hearts.supervise("claims", {
            let inner = shared();
            move || claims::run(Arc::clone(&inner))
        });
        let presence_task = hearts.supervise("presence", {
            let inner = shared();
            move || presence::run(Arc::clone(&inner))
        });
        let (wakes, waking) = mpsc::channel(wake::QUEUE);
        // Shared, so that the receivers survive a panic of their loops.
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
                move || announcements::listen(Arc::clone(&inner))
            }),
            hearts.supervise("announcements", {
                let inner = shared();
                move || announcements::announce(Arc::clone(&inner))
            }),
            hearts.supervise("maintenance", {
                let pools = [inner.beside.clone(), inner.db.clone()];
                let (rules, stop) = (inner.rules.maintenance, inner.stop.clone());
                move || maintenance::run(pools[0].clone(), pools.clone(), rules, stop.clone())
            }),
            hearts.supervise("fire minutes", {
                let inner = shared();
                move || minutes::run(Arc::clone(&inner))
            }),
            hearts.supervise("re-arms", {
                let (db, stop) = (inner.beside.clone(), inner.stop.clone());
                move || rearms::run(db.clone(), stop.clone())
            }),
        ];
        Ok(Self {
            inner,
            wakes,
            claims_task: Mutex::new(Some(claims_task)),
            tasks: Mutex::new(tasks),
            recorder_task: Mutex::new(Some(recorder_task)),
            presence_task: Mutex::new(Some(presence_task)),
        })
    }

    /// Returns the reason for which no fire to this callback is ever sent; `None` if there is none, or if it depends on the
    /// addresses of the host.
    pub fn never_dials(&self, callback_url: &CallbackUrl) -> Option<String> {
        self.inner.firing.client.check(callback_url.url()).err().map(|error| error.to_string())
    }

    /// Reports an arm whose first attempt may start at `next_attempt_at`. If that is within the horizon, this and the other
    /// replicas look for work at once.
    pub fn arm(&self, next_attempt_at: Option<DateTime<Utc>>) {
        let inner = &self.inner;
        let soon = next_attempt_at
            .is_some_and(|at| inner.db_clock.instant_of(at) <= Instant::now() + inner.rules.horizon);
        if soon {
            inner.claim.notify_one();
            inner.announce.notify_one();
        }
    }

    /// Makes all replicas look for work at once: a stored one-shot may be due now (after a release, a pull or a redrive).
    pub fn look(&self) {
        self.inner.look();
    }

    /// Returns the time for which the claiming loop has failed to look for work; zero if it works.
    pub fn overdue_look(&self) -> Duration {
        self.inner.next_look.lock().elapsed()
    }

    /// Returns the number of attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.inner.dispatch.lock().in_flight()
    }
}

impl Inner {
    /// Returns the membership of this replica if it may make attempts now.
    fn membership(&self) -> Option<Membership> {
        self.membership.lock().clone().filter(Membership::is_valid)
    }

    /// See [`Scheduler::look`].
    fn look(&self) {
        self.claim.notify_one();
        self.announce.notify_one();
    }

    /// Returns the number of further leases that this replica may hold. None while many due ones wait for a slot: leases
    /// that are claimed now would end before their turn.
    fn room(&self) -> u16 {
        if self.dispatch.lock().crowded_out() >= self.rules.in_flight_max * 2 {
            return 0;
        }
        let room = self.rules.capacity.saturating_sub(self.held.load(Ordering::SeqCst));
        u16::try_from(room).unwrap_or(u16::MAX)
    }

    /// Reports `count` further leases.
    fn hold(&self, count: usize) {
        self.held.fetch_add(count, Ordering::SeqCst);
        if count > 0 {
            self.activity.set(true);
        }
    }

    /// Reports that `count` leases are no longer held.
    fn released(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::SeqCst);
        if self.room() >= self.rules.worthwhile_claim() && self.starved.swap(false, Ordering::SeqCst) {
            self.claim.notify_one();
        }
    }
}
