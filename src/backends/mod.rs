//! Who wakes us first: our own loop over Postgres, or a hosted engine.
//!
//! ```text
//!   provision ──▶ one row each in one_shots (awaits an engine) and wake_ups (wanted), one commit
//!                      │ outbox: told behind the answer
//!                      ▼
//!                   engine ──── relay, signed ──┐
//!                      └─── NATS messages ──────┴──▶ wakes ──▶ our own loop, as any claim
//! ```
//!
//! The row in Postgres is the truth, and our own loop ([`crate::scheduler`]) makes every attempt. A backend only
//! decides who says "now" for the first one; the loop itself says it a grace later, if the engine does not.
//!
//! - [`backend`]: the trait, and its words. [`engine`]: the closed set, and the one factory.
//! - [`outbox`]: tells an engine what is wanted. [`wakes`]: takes in what engines bring.
//! - [`postgres`], [`qstash`], [`qstash_direct`] (with [`direct_results`]), [`nats`]: the backends.
//! - [`moving`]: brings every one-shot to the active backend, after a switch.

pub mod backend;
pub mod direct_results;
pub mod engine;
pub mod moving;
pub mod nats;
pub mod outbox;
pub mod postgres;
pub mod qstash;
pub mod qstash_direct;
pub mod wakes;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::backend::{
    BackendError, DirectCall, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp,
};
pub use self::engine::Backend;
pub use self::nats::{Nats, NatsOptions, NatsOptionsError};
use self::outbox::Outbox;
pub use self::qstash::{Qstash, QstashOptions};
pub use self::wakes::Wakes;
use nas_cron_protocol::BackendName;
pub use nas_cron_protocol::relay::WakeBody;

use crate::db::Db;
use crate::domain::one_shot::Armed;
use crate::scheduler::Scheduler;

/// The backends of this process: our own loop, and every hosted engine that is configured. All of them are told,
/// verify and bring wake-ups all the time; only new one-shots go to the active one alone, which is a row.
#[derive(Debug)]
pub struct Backends {
    db: Db,
    scheduler: Arc<Scheduler>,
    engines: Vec<(Arc<Backend>, Arc<Outbox>)>,
    /// Ends what brings wake-ups in.
    drain: CancellationToken,
    /// Ends the telling.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Backends {
    /// Our own loop and these engines, one call to which may take `engine_timeout`.
    pub fn new(db: Db, scheduler: Arc<Scheduler>, engines: Vec<Backend>, engine_timeout: Duration) -> Self {
        let engines = engines.into_iter().map(|engine| {
            let engine = Arc::new(engine);
            (Arc::clone(&engine), Arc::new(Outbox::new(db.clone(), engine, engine_timeout)))
        });
        Self {
            engines: engines.collect(),
            db,
            scheduler,
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts telling and listening.
    pub fn start(&self) {
        for (engine, outbox) in &self.engines {
            let (listener, wakes, drain) =
                (Arc::clone(engine), self.wakes(engine.name()), self.drain.clone());
            self.tasks.spawn(async move { listener.listen(wakes, drain).await });
            self.tasks.spawn(Arc::clone(outbox).run(self.stop.clone()));
            self.tasks.spawn(direct_results::run(self.db.clone(), Arc::clone(engine), self.stop.clone()));
        }
        let outboxes = self.engines.iter().map(|(_, outbox)| Arc::clone(outbox)).collect();
        self.tasks.spawn(moving::run(self.db.clone(), outboxes, self.stop.clone()));
    }

    /// A one-shot was armed, durably: whoever is to wake us hears of it.
    pub fn armed(&self, armed: &Armed) {
        if armed.awaits.is_none() {
            self.scheduler.arm(armed.next_attempt_at);
        }
        self.look();
    }

    /// Something was armed, superseded or cancelled: the engines may have to be told.
    pub fn look(&self) {
        for (_, outbox) in &self.engines {
            outbox.look();
        }
    }

    /// Whose request to the relay this is, by its signature.
    pub fn verify(&self, request: &RelayRequest<'_>) -> Result<BackendName, Refusal> {
        let mut refusal = Refusal::Unsigned;
        for (engine, _) in &self.engines {
            match engine.verify(request) {
                Ok(()) => return Ok(engine.name()),
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

    /// Stops bringing wake-ups in: other replicas do. Engines are still told, because hop 1 goes on.
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
