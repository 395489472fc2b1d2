//! Which instance it is, where the portal has to be asked: its lookup, and what is remembered of its answers.
//!
//! A yes is remembered in `instances`, which the jobs belong to anyway: by every replica, and across their restarts.
//!
//! | the row | is taken as it is | while the portal is away |
//! |---|---|---|
//! | known, asked about less than `lookup_ttl` ago | yes | yes |
//! | known, asked about before that | no | until `lookup_stale` is over |
//! | registered here, never asked about | no | yes |
//! | the portal does not know it | no | no |
//!
//! A no is explicit ([`wire`]). It is remembered in memory for `lookup_negative_ttl`, and marks the row, so that its
//! fires are held; a later yes takes the mark away. Who is away for longer than a request can wait is no refusal.

mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

pub(super) use self::wire::Question;
use nas_cron_protocol::{Given, InstanceId};

use self::wire::{Told, Wire};
use super::circuit_breaker::{CircuitBreaker, PATIENCE, pause};
use super::fetch_error::FetchError;
use super::single_flight::SingleFlight;
use crate::db::{self, Db, DbError, DbResult, hints, instances, lookups};
use crate::domain::PortalDenial;
use crate::domain::agent_instance::AgentInstance;
use crate::domain::registration::{Registration, Verdict};
use crate::heartbeat::rest;
use crate::{config, directory, metrics};

/// How long one question may take from its turn on, with what is written down of its answer.
const FLIGHT: Duration = Duration::from_secs(12);
/// From this part of `lookup_ttl` on, whoever uses a row has it asked about in passing, and does not wait for it.
const AHEAD: f64 = 0.75;
/// How many questions in passing there are at once: they leave the turns to those who wait.
const IN_PASSING: usize = 8;
/// How many are remembered that the portal does not know.
const REMEMBERED: u64 = 20_000;
/// How often a session that the table has elsewhere is taken from whoever has it.
const SESSION_TRIES: usize = 3;
/// How often it is looked whether denied instances are to be asked about again, and how long each is left alone.
const AGAIN_EVERY: Duration = Duration::from_mins(1);
const AGAIN_AFTER: Duration = Duration::from_mins(5);
/// How many of them at once.
const AGAIN_BATCH: usize = 32;

/// The portal's lookup, and the memory of its answers.
pub struct Lookup {
    db: Db,
    wire: Wire,
    breaker: CircuitBreaker,
    ttl: Duration,
    negative_ttl: Duration,
    stale: Duration,
    unknown: Cache<Question, ()>,
    single_flight: Arc<SingleFlight<Question, Landing>>,
    in_passing: Arc<Semaphore>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("wire", &self.wire).finish_non_exhaustive()
    }
}

/// How asking ended.
#[derive(Clone, Debug)]
enum Landing {
    Known(AgentInstance),
    Unknown,
    /// The portal, or the database that remembers what it says, is away.
    NoAnswer,
}

/// Why it is not known whether there is such an instance.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The portal did not say so within the request's budget, and nothing that may be used is remembered.
    #[error("the portal could not be asked about the instance in time")]
    NoAnswer,
    /// Too many requests wait for it.
    #[error("too many requests wait for the portal's lookup")]
    TooManyWaiters,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Lookup {
    /// Asks nothing yet. Spawn [`Lookup::run`].
    pub fn new(at: &config::Lookup, db: Db) -> Result<Arc<Self>, reqwest::Error> {
        Ok(Arc::new(Self {
            db,
            wire: Wire::new(at.url.clone(), &at.token)?,
            breaker: CircuitBreaker::new(format!("lookup at {}", at.url.origin().ascii_serialization())),
            ttl: at.ttl,
            negative_ttl: at.negative_ttl,
            stale: at.stale,
            unknown: Cache::builder().max_capacity(REMEMBERED).time_to_live(at.negative_ttl).build(),
            single_flight: SingleFlight::new(),
            in_passing: Arc::new(Semaphore::new(IN_PASSING)),
        }))
    }

    /// The instance that is asked for. Waits for the portal until `deadline`; where something is remembered that may be
    /// used while it is away, only for a moment.
    pub(super) async fn find(
        self: &Arc<Self>,
        question: Question,
        deadline: Instant,
    ) -> Result<Option<AgentInstance>, LookupError> {
        loop {
            let row = db::ride_out(deadline, || row(&self.db, &question)).await?;
            if let Some(row) = row.as_ref().filter(|row| self.is_fresh(row)) {
                if !self.is_recent(row)
                    && self.breaker.may_probe()
                    && let Ok(slot) = Arc::clone(&self.in_passing).try_acquire_owned()
                {
                    // Nobody waits for it, and if it fails there is time.
                    drop(self.join(&question, Some(slot)));
                }
                return Ok(Some(row.clone()));
            }
            if self.unknown.contains_key(&question) {
                return Ok(None);
            }
            // One of another org than the token's would be a no, and a no is not for a memory to say.
            let fits = |row: &AgentInstance| !matches!(&question, Question::Client(_, Some(org)) if *org != row.org_id);
            let usable = row.filter(|row| self.is_usable(row) && fits(row));
            if let Some(row) = usable.as_ref().filter(|_| !self.breaker.may_probe()) {
                return Ok(Some(row.clone()));
            }
            let Some(flight) = self.join(&question, None) else {
                return usable.map(Some).ok_or(LookupError::TooManyWaiters);
            };
            let patience = match &usable {
                // Asked all the same: that others had no answer must not keep a no from whom it is about.
                Some(row) if self.breaker.is_open() => return Ok(Some(row.clone())),
                Some(_) => deadline.min(Instant::now() + PATIENCE),
                None => deadline,
            };
            match (flight.landed(patience).await, usable) {
                (Some(Landing::Known(instance)), _) => return Ok(Some(instance)),
                (Some(Landing::Unknown), _) => return Ok(None),
                (Some(Landing::NoAnswer) | None, Some(row)) => return Ok(Some(row)),
                (Some(Landing::NoAnswer) | None, None) => {}
            }
            let pause = pause();
            if Instant::now() + pause >= deadline {
                return Err(LookupError::NoAnswer);
            }
            sleep(pause).await;
        }
    }

    /// [Asks again](Self::ask_again) once a minute. Never returns; drop it to end it.
    pub async fn run(self: Arc<Self>) {
        loop {
            rest(sleep(AGAIN_EVERY)).await;
            self.ask_again().await;
        }
    }

    /// Asks about instances that the portal has denied and that have something to fire: they may never call again, being
    /// asleep until they are fired, and a no may have been a mistake.
    pub async fn ask_again(self: &Arc<Self>) {
        // The portal away, they keep their turn.
        while !self.breaker.is_open() {
            let denied = match lookups::to_ask_again(&self.db, AGAIN_AFTER, AGAIN_BATCH).await {
                Ok(denied) => denied,
                Err(error) => {
                    tracing::debug!(%error, "who is to be asked about again cannot be read now");
                    return;
                }
            };
            let is_last = denied.len() < AGAIN_BATCH;
            let questions = denied.into_iter().map(|instance_id| Question::Client(instance_id, None));
            let flights: Vec<_> = questions.filter_map(|question| self.join(&question, None)).collect();
            join_all(flights.into_iter().map(|flight| flight.landed(Instant::now() + FLIGHT))).await;
            if is_last {
                return;
            }
        }
    }

    fn is_younger(row: &AgentInstance, age: Duration) -> bool {
        row.looked_up.is_some_and(|looked_up| looked_up < age)
    }

    fn is_fresh(&self, row: &AgentInstance) -> bool {
        row.denied_by_portal != Some(PortalDenial::Unknown) && Self::is_younger(row, self.ttl)
    }

    /// So fresh that there is no need to ask about it yet. That it is disabled is a no, and remembered as long as one.
    fn is_recent(&self, row: &AgentInstance) -> bool {
        let ahead = self.ttl.mul_f64(AHEAD);
        match row.denied_by_portal {
            None => Self::is_younger(row, ahead),
            Some(PortalDenial::Disabled) => Self::is_younger(row, ahead.min(self.negative_ttl)),
            Some(PortalDenial::Unknown) => false,
        }
    }

    fn is_usable(&self, row: &AgentInstance) -> bool {
        row.denied_by_portal != Some(PortalDenial::Unknown)
            && (row.looked_up.is_none() || Self::is_younger(row, self.stale))
    }

    fn join(
        self: &Arc<Self>,
        question: &Question,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Option<super::single_flight::Flight<Landing>> {
        self.single_flight.join(question.clone(), || {
            let (this, question) = (Arc::clone(self), question.clone());
            async move {
                let _slot = slot;
                this.fly(&question).await
            }
        })
    }

    async fn fly(&self, question: &Question) -> Landing {
        let _turn = self.single_flight.turn().await;
        let until = Instant::now() + FLIGHT;
        // Somebody may have landed while this one was boarded, in another replica too.
        match db::ride_out(until, || row(&self.db, question)).await {
            Ok(Some(row)) if self.is_recent(&row) => return Landing::Known(row),
            Ok(_) if self.unknown.contains_key(question) => return Landing::Unknown,
            Ok(_) => {}
            Err(error) => return unwritten(&error),
        }
        let done = match self.ask(question).await {
            Ok(Some(told)) => self.remember(told, until).await,
            Ok(None) => self.forget(question, until).await,
            Err(_) => return Landing::NoAnswer,
        };
        done.unwrap_or_else(|error| unwritten(&error))
    }

    async fn ask(&self, question: &Question) -> Result<Option<Told>, FetchError> {
        let answer = self.wire.ask(question).await;
        self.breaker.record(&answer);
        metrics::looked_up(match &answer {
            Ok(Some(told)) if told.enabled => "found",
            Ok(Some(_)) => "disabled",
            Ok(None) => "unknown",
            Err(error) => error.kind(),
        });
        answer
    }

    /// Writes a yes into the table. The portal is the authority: an instance that it has moved to another org is moved,
    /// with its jobs, and a session that it has given to another instance is taken from the one that has it here. What is
    /// the agent's and the operator's own (its callback, whether they have it enabled) stays.
    async fn remember(&self, told: Told, until: Instant) -> DbResult<Landing> {
        let denied = (!told.enabled).then_some(PortalDenial::Disabled);
        let told = Registration {
            instance_id: told.instance_id,
            org_id: told.org_id,
            bootstrap_session_id: told.bootstrap_session_id,
            callback_url: None,
            enabled: None,
        };
        let mut known = db::ride_out(until, || lookups::answered(&self.db, &told, denied)).await?;
        let mut moved = false;
        for _ in 0..SESSION_TRIES {
            if known.is_some() {
                break;
            }
            let register = || directory::again(|| lookups::registered(&self.db, &told, denied));
            let (verdict, now_known) = db::ride_out(until, register).await?;
            known = now_known;
            moved |= verdict == Some(Verdict::Updated);
            if let (Some(Verdict::SessionTaken(_)), Given::Set(session)) =
                (verdict, &told.bootstrap_session_id)
            {
                db::ride_out(until, || {
                    lookups::give_up_session(&self.db, &told.org_id, session, &told.instance_id)
                })
                .await?;
            }
        }
        let Some((instance, released)) = known else {
            // Deleted here at this moment, or its session goes to and fro: the next one will see.
            return Ok(Landing::NoAnswer);
        };
        if released {
            tracing::info!(agent.id = %instance.instance_id, "the portal knows the agent again: its fires are released");
        }
        // Its own alone, and not everybody's: a request waits for it. A hold of the org that it has left is over, too.
        if (released || moved) && lookups::release(&self.db, &instance.instance_id).await? > 0 {
            hints::announce(&self.db).await?;
        }
        Ok(Landing::Known(instance))
    }

    /// Remembers a no. An instance that is known here is asked about by its name alone before anything is held against
    /// it: it may be as well as ever with another session, or in another org, whose tokens nobody has brought yet.
    async fn forget(&self, question: &Question, until: Instant) -> DbResult<Landing> {
        if let Question::Client(instance_id, None) = question {
            self.deny(instance_id, until).await?;
        } else if let Some(row) = db::ride_out(until, || row(&self.db, question)).await?
            // Of another org's instance this no says nothing.
            && question.org_id().is_none_or(|org_id| *org_id == row.org_id)
        {
            match self.ask(&Question::Client(row.instance_id.clone(), None)).await {
                Ok(Some(mut told)) => {
                    if matches!(question, Question::Session(..)) && told.bootstrap_session_id.is_keep() {
                        told.bootstrap_session_id = Given::Clear;
                    }
                    if let Landing::NoAnswer = self.remember(told, until).await? {
                        return Ok(Landing::NoAnswer);
                    }
                }
                Ok(None) => self.deny(&row.instance_id, until).await?,
                Err(_) => return Ok(Landing::NoAnswer),
            }
        }
        self.unknown.insert(question.clone(), ()).await;
        Ok(Landing::Unknown)
    }

    /// The portal does not know it in any org: its fires are held from now on; none is lost.
    async fn deny(&self, instance_id: &InstanceId, until: Instant) -> DbResult<()> {
        if db::ride_out(until, || lookups::denied(&self.db, instance_id)).await? {
            tracing::warn!(agent.id = %instance_id, "the portal does not know the agent any more: its fires are held");
        }
        Ok(())
    }
}

/// What the table has.
async fn row(db: &Db, question: &Question) -> DbResult<Option<AgentInstance>> {
    match question {
        Question::Client(instance_id, _) => instances::by_id(db, instance_id).await,
        Question::Session(org_id, session) => instances::by_session(db, org_id, session).await,
    }
}

fn unwritten(error: &DbError) -> Landing {
    tracing::debug!(%error, "what the portal says cannot be written down now");
    Landing::NoAnswer
}

/// Asks the lookup about an instance that nobody has: for `nas-cron doctor`. Whether the portal says that it knows it.
pub async fn probe(at: &config::Lookup) -> Result<bool, String> {
    let wire = Wire::new(at.url.clone(), &at.token).map_err(|error| error.to_string())?;
    let invented =
        InstanceId::new(format!("nas-cron-doctor-{}", uuid::Uuid::new_v4())).expect("short and plain");
    let answer = wire.ask(&Question::Client(invented, None)).await;
    answer.map(|told| told.is_some()).map_err(|error| error.to_string())
}
