//! Scheduler backends: what sends a one-shot's first wake-up, our own loop over Postgres or another service.
//!
//! ```text
//!   provision ──▶ one row each in one_shots (awaits a backend) and wake_ups (wanted), one commit
//!                      │ outbox: told behind the answer
//!                      ▼
//!                   backend ─── relay, signed ──┐
//!                      └─── messages ───────────┴──▶ wakes ──▶ our own loop, as any claim
//! ```
//!
//! The row in Postgres is the truth, and our own loop ([`crate::scheduler`]) makes every attempt. A backend only
//! decides who says "now" for the first one; the loop itself says it a grace later, if the backend does not.
//!
//! - [`backend`]: the trait, and its words. [`factory`]: the closed set, and the one factory.
//! - [`outbox`]: tells a backend what is wanted. [`wakes`]: takes in what backends bring.
//! - [`postgres`], [`qstash`], [`nats`]: the backends. [`checks`]: what they bring to `nas-cron doctor`.
//! - [`moving`]: brings every one-shot to the active backend, after a switch.
//!
//! docs/backends.md#adding-a-backend lists the files to touch.

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

/// The backends of this process: our own loop, and every other one that is configured. All of them are told, verify
/// and bring wake-ups all the time; only new one-shots go to the active one alone, which is a row.
#[derive(Debug)]
pub struct Backends {
    db: Db,
    scheduler: Arc<Scheduler>,
    /// Those beside our own loop.
    others: Vec<(Arc<Backend>, Arc<Outbox>)>,
    /// Ends what brings wake-ups in.
    drain: CancellationToken,
    /// Ends the telling.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Backends {
    /// Our own loop and these, one call to which may take `call_timeout`.
    pub fn new(db: Db, scheduler: Arc<Scheduler>, others: Vec<Backend>, call_timeout: Duration) -> Self {
        let others = others.into_iter().map(|backend| {
            let backend = Arc::new(backend);
            (Arc::clone(&backend), Arc::new(Outbox::new(db.clone(), backend, call_timeout)))
        });
        Self {
            others: others.collect(),
            db,
            scheduler,
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts telling and listening.
    pub fn start(&self, hearts: &Heartbeats) {
        for (backend, outbox) in &self.others {
            let (listener, wakes, drain) =
                (Arc::clone(backend), self.wakes(backend.name()), self.drain.clone());
            // They wait for the backend most of the time, with deadlines of their own.
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
        let outboxes: Vec<_> = self.others.iter().map(|(_, outbox)| Arc::clone(outbox)).collect();
        let (db, stop) = (self.db.clone(), self.stop.clone());
        self.tasks.spawn(
            hearts.supervise("moving", move || moving::run(db.clone(), outboxes.clone(), stop.clone())),
        );
    }

    /// A one-shot was armed, durably: whoever is to wake us hears of it.
    pub fn armed(&self, armed: &Armed) {
        if armed.awaits.is_none() {
            self.scheduler.arm(armed.next_attempt_at);
        }
        self.look();
    }

    /// Something was armed, superseded or cancelled: backends may have to be told.
    pub fn look(&self) {
        for (_, outbox) in &self.others {
            outbox.look();
        }
    }

    /// Whose request to the relay this is, by its signature.
    pub fn verify(&self, request: &RelayRequest<'_>) -> Result<BackendName, Refusal> {
        let mut refusal = Refusal::Unsigned;
        for (backend, _) in &self.others {
            match backend.verify(request) {
                Ok(()) => return Ok(backend.name()),
                Err(Refusal::Unsigned) => {}
                Err(telling) => refusal = telling,
            }
        }
        Err(refusal)
    }

    /// Where what `backend` brings goes in.
    pub fn wakes(&self, backend: BackendName) -> Wakes {
        Wakes::new(backend, Arc::clone(&self.scheduler))
    }

    /// Stops bringing wake-ups in: other replicas do. Backends are still told, because the agent API is served on.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops telling too; what is under way is finished.
    pub async fn finish(&self) {
        self.drain.cancel();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
