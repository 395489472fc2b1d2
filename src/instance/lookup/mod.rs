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

use moka::future::Cache;
use tokio::time::{Instant, sleep};

pub(super) use self::wire::Question;
use self::wire::{Told, Wire};
use super::flights::Flights;
use super::portal_jwks::FetchError;
use super::standing::{PATIENCE, Standing, pause};
use crate::config;
use crate::db::directory::{Registration, Verdict};
use crate::db::instances::AgentInstance;
use crate::db::{self, Db, DbError, DbResult, instances, lookups};
use crate::domain::{Given, InstanceId, OrgId, PortalDenial};
use crate::{directory, metrics};

/// How long one question may take, with what is written down of its answer.
const FLIGHT: Duration = Duration::from_secs(12);
/// From this part of `lookup_ttl` on, whoever uses a row has it asked about in passing, and does not wait for it.
const AHEAD: f64 = 0.75;
/// How many are remembered that the portal does not know.
const REMEMBERED: u64 = 20_000;
/// How often a session that the table has elsewhere is taken from whoever has it.
const SESSION_TRIES: usize = 3;
/// How often it is looked whether denied instances are to be asked about again, and how long each is left alone.
const AGAIN_EVERY: Duration = Duration::from_mins(1);
const AGAIN_AFTER: Duration = Duration::from_mins(5);
/// How many of them each time.
const AGAIN_BATCH: i64 = 32;

/// The portal's lookup, and the memory of its answers.
pub struct Lookup {
    db: Db,
    wire: Wire,
    standing: Standing,
    ttl: Duration,
    stale: Duration,
    unknown: Cache<Question, ()>,
    flights: Arc<Flights<Question, Landing>>,
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
            standing: Standing::new(format!("lookup at {}", at.url.origin().ascii_serialization())),
            ttl: at.ttl,
            stale: at.stale,
            unknown: Cache::builder().max_capacity(REMEMBERED).time_to_live(at.negative_ttl).build(),
            flights: Flights::new(),
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
                if !self.is_recent(row) {
                    // In passing: nobody waits for it, and if it fails there is time.
                    drop(self.board(&question));
                }
                return Ok(Some(row.clone()));
            }
            if self.unknown.contains_key(&question) {
                return Ok(None);
            }
            // One of another org than the token's would be a no, and a no is not for a memory to say.
            let fits = |row: &AgentInstance| !matches!(&question, Question::Client(_, Some(org)) if *org != row.org_id);
            let usable = row.filter(|row| self.is_usable(row) && fits(row));
            let Some(flight) = self.board(&question) else {
                return usable.map(Some).ok_or(LookupError::TooManyWaiters);
            };
            let patience = match &usable {
                // Asked all the same: that others had no answer must not keep a no from whom it is about.
                Some(row) if self.standing.is_away() => return Ok(Some(row.clone())),
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
            sleep(AGAIN_EVERY).await;
            self.ask_again().await;
        }
    }

    /// Asks about instances that the portal has denied and that have something to fire: they may never call again, being
    /// asleep until they are fired, and a no may have been a mistake.
    pub async fn ask_again(self: &Arc<Self>) {
        let denied = match lookups::to_ask_again(&self.db, AGAIN_AFTER, AGAIN_BATCH).await {
            Ok(denied) => denied,
            Err(error) => {
                tracing::debug!(%error, "who is to be asked about again cannot be read now");
                return;
            }
        };
        for (instance_id, org_id) in denied {
            if let Some(flight) = self.board(&Question::Client(instance_id, Some(org_id))) {
                flight.landed(Instant::now() + FLIGHT).await;
            }
        }
    }

    fn is_younger(row: &AgentInstance, age: Duration) -> bool {
        row.looked_up.is_some_and(|looked_up| looked_up < age)
    }

    fn is_fresh(&self, row: &AgentInstance) -> bool {
        row.denied_by_portal != Some(PortalDenial::Unknown) && Self::is_younger(row, self.ttl)
    }

    /// So fresh that there is no need to ask about it yet.
    fn is_recent(&self, row: &AgentInstance) -> bool {
        row.denied_by_portal.is_none() && Self::is_younger(row, self.ttl.mul_f64(AHEAD))
    }

    fn is_usable(&self, row: &AgentInstance) -> bool {
        row.denied_by_portal != Some(PortalDenial::Unknown)
            && (row.looked_up.is_none() || Self::is_younger(row, self.stale))
    }

    fn board(self: &Arc<Self>, question: &Question) -> Option<super::flights::Flight<Landing>> {
        self.flights.board(question.clone(), || {
            let (this, question) = (Arc::clone(self), question.clone());
            async move { this.fly(&question, Instant::now() + FLIGHT).await }
        })
    }

    async fn fly(&self, question: &Question, until: Instant) -> Landing {
        let _turn = self.flights.turn().await;
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
        self.standing.note(&answer);
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
        let answered = || {
            db::ride_out(until, || {
                lookups::answered(
                    &self.db,
                    &told.instance_id,
                    &told.org_id,
                    &told.bootstrap_session_id,
                    denied,
                )
            })
        };
        let mut known = answered().await?;
        for _ in 0..SESSION_TRIES {
            if known.is_some() {
                break;
            }
            let wanted = [Registration {
                instance_id: told.instance_id.clone(),
                org_id: told.org_id.clone(),
                bootstrap_session_id: told.bootstrap_session_id.clone(),
                callback_url: None,
                enabled: None,
            }];
            let register = || directory::register_all(&self.db, &wanted, true, false);
            let verdict = db::ride_out(until, register).await?.into_iter().next();
            if let (Some(Verdict::SessionTaken(_)), Given::Set(session)) =
                (verdict, &told.bootstrap_session_id)
            {
                db::ride_out(until, || {
                    lookups::give_up_session(&self.db, &told.org_id, session, &told.instance_id)
                })
                .await?;
                continue;
            }
            known = answered().await?;
        }
        let Some((instance, released)) = known else {
            // Deleted here at this moment, or its session goes to and fro: the next one will see.
            return Ok(Landing::NoAnswer);
        };
        if released {
            tracing::info!(agent.id = %instance.instance_id, "the portal knows the agent again: its fires are released");
            directory::release_parked(&self.db).await?;
        }
        Ok(Landing::Known(instance))
    }

    /// Remembers a no. An instance that is known here has its fires held from now on; none is lost.
    async fn forget(&self, question: &Question, until: Instant) -> DbResult<Landing> {
        match question {
            Question::Client(instance_id, org_id) => self.deny(instance_id, org_id.as_ref(), until).await?,
            // The session may have been replaced while its instance is as well as ever: asked about by its name.
            Question::Session(org_id, _) => {
                if let Some(row) = db::ride_out(until, || row(&self.db, question)).await? {
                    let by_name = Question::Client(row.instance_id.clone(), Some(org_id.clone()));
                    match self.ask(&by_name).await {
                        Ok(Some(mut told)) => {
                            if told.bootstrap_session_id.is_keep() {
                                told.bootstrap_session_id = Given::Clear;
                            }
                            self.remember(told, until).await?;
                        }
                        Ok(None) => self.deny(&row.instance_id, Some(org_id), until).await?,
                        Err(_) => return Ok(Landing::NoAnswer),
                    }
                }
            }
        }
        self.unknown.insert(question.clone(), ()).await;
        Ok(Landing::Unknown)
    }

    async fn deny(&self, instance_id: &InstanceId, org_id: Option<&OrgId>, until: Instant) -> DbResult<()> {
        if db::ride_out(until, || lookups::denied(&self.db, instance_id, org_id)).await? {
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
