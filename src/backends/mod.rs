//! Scheduler backends: senders of a one-shot's first wake-up. One is the Postgres loop; the others are external
//! services.
//!
//! ```text
//!   provision ──▶ one row each in one_shots (awaits a backend) and wake_ups (wanted), one commit
//!                      │ outbox: sent after the response
//!                      ▼
//!                   backend ─── relay, signed ──┐
//!                      └─── messages ───────────┴──▶ wakes ──▶ scheduler, like any claim
//! ```
//!
//! The row in Postgres is authoritative, and the built-in loop ([`crate::scheduler`]) makes every attempt. A backend
//! only sends the first wake-up. If it sends none within the grace period, the loop fires the one-shot without it.
//!
//! - [`backend`]: the trait and its types. [`factory`]: the closed set of backends, and their constructor.
//! - [`outbox`]: arms and cancels wake-ups at a backend. [`wakes`]: passes received wake-ups to the scheduler.
//! - [`postgres`], [`qstash`], [`nats`]: the backends. [`checks`]: their checks in `nas-cron doctor`.
//! - [`moving`]: moves every one-shot to the active backend after a switch.
//!
//! docs/backends.md#adding-a-backend lists the files that a new backend touches.

pub mod backend;
pub mod checks;
pub mod factory;
pub mod moving;
pub mod nats;
pub mod outbox;
pub mod postgres;
pub mod qstash;
pub mod wakes;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::backend::{
    BackendError, DirectCall, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp,
};
pub use self::factory::Backend;
use self::outbox::Outbox;
pub use self::wakes::Wakes;
use nas_cron_protocol::BackendName;
pub use nas_cron_protocol::relay::WakeBody;

use crate::db::Db;
use crate::domain::one_shot::Armed;
use crate::heartbeat::{self, Heartbeats};
use crate::scheduler::Scheduler;

/// The backends of this process: the Postgres loop, and every external backend that is configured. All of them arm,
/// cancel, verify and receive wake-ups all the time. Only new one-shots go to the active backend alone, which is
/// stored in the database.
#[derive(Debug)]
pub struct Backends {
    db: Db,
    scheduler: Arc<Scheduler>,
    /// The external backends.
    others: Vec<(Arc<Backend>, Arc<Outbox>)>,
    /// Signals that the active backend may have changed.
    moves: Arc<Notify>,
    /// Stops the tasks that receive wake-ups.
    drain: CancellationToken,
    /// Stops the outboxes and the tasks beside them.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Backends {
    /// Creates the set from the external backends in `others`. `call_timeout` is the timeout of one call to them.
    pub fn new(db: Db, scheduler: Arc<Scheduler>, others: Vec<Backend>, call_timeout: Duration) -> Self {
        let others = others.into_iter().map(|backend| {
            let backend = Arc::new(backend);
            (Arc::clone(&backend), Arc::new(Outbox::new(db.clone(), backend, call_timeout)))
        });
        Self {
            others: others.collect(),
            moves: Arc::default(),
            db,
            scheduler,
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the outboxes, and the tasks that receive wake-ups.
    pub fn start(&self, hearts: &Heartbeats) {
        for (backend, outbox) in &self.others {
            let (listener, wakes, drain) =
                (Arc::clone(backend), self.wakes(backend.name()), self.drain.clone());
            // These tasks spend most of their time waiting for the backend, with deadlines of their own.
            self.tasks.spawn(hearts.supervise("backend wake-ups", move || {
                let (listener, wakes, drain) = (Arc::clone(&listener), wakes.clone(), drain.clone());
                async move { heartbeat::rest(listener.listen(wakes, drain)).await }
            }));
            let (outbox, stop) = (Arc::clone(outbox), self.stop.clone());
            self.tasks.spawn(hearts.supervise("outbox", move || Arc::clone(&outbox).run(stop.clone())));
            let (backend, db, stop) = (Arc::clone(backend), self.db.clone(), self.stop.clone());
            self.tasks.spawn(hearts.supervise("backend results", move || {
                let (backend, db, stop) = (Arc::clone(&backend), db.clone(), stop.clone());
                async move { heartbeat::rest(backend.record_results(&db, stop)).await }
            }));
        }
        let outboxes = self.outboxes();
        let (db, moves, stop) = (self.db.clone(), Arc::clone(&self.moves), self.stop.clone());
        self.tasks.spawn(hearts.supervise("moving", move || {
            moving::run(db.clone(), outboxes.clone(), Arc::clone(&moves), stop.clone())
        }));
    }

    /// Returns the outboxes of the external backends.
    pub fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.others.iter().map(|(_, outbox)| Arc::clone(outbox)).collect()
    }

    /// Returns the signal that wakes the task that moves one-shots.
    pub fn moves(&self) -> Arc<Notify> {
        Arc::clone(&self.moves)
    }

    /// Notifies the scheduler and the outboxes that a one-shot was armed and is durable.
    pub fn armed(&self, armed: &Armed) {
        if armed.awaits.is_none() {
            self.scheduler.arm(armed.next_attempt_at);
        }
        self.notify_outboxes();
    }

    /// Notifies the outboxes that a one-shot was armed, superseded or cancelled.
    pub fn notify_outboxes(&self) {
        for (_, outbox) in &self.others {
            outbox.notify();
        }
    }

    /// Verifies the signature of a request to the relay. Returns the backend that sent it.
    pub fn verify(&self, request: &RelayRequest<'_>) -> Result<BackendName, Refusal> {
        let mut refusal = Refusal::Unsigned;
        for (backend, _) in &self.others {
            match backend.verify(request) {
                Ok(()) => return Ok(backend.name()),
                Err(Refusal::Unsigned) => {}
                Err(specific) => refusal = specific,
            }
        }
        Err(refusal)
    }

    /// Returns the entry point for wake-ups of `backend`.
    pub fn wakes(&self, backend: BackendName) -> Wakes {
        Wakes::new(backend, Arc::clone(&self.scheduler))
    }

    /// Stops receiving wake-ups, which other replicas continue to do. The outboxes keep running, because the agent
    /// API is still served.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops the outboxes too, after the rounds in flight.
    pub async fn finish(&self) {
        self.drain.cancel();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
