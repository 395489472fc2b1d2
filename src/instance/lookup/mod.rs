//! Finds instances with the portal's lookup, and caches its responses.
//!
//! A positive response is stored in the table `instances`, to which the jobs refer anyway. It is shared by all replicas
//! and survives restarts.
//!
//! | row in the table | used without a lookup | used while the portal is unavailable |
//! |---|---|---|
//! | found by a lookup less than `lookup_ttl` ago | yes | yes |
//! | found by an older lookup | no | until `lookup_stale` has passed |
//! | registered here, never looked up | no | yes |
//! | unknown to the portal | no | no |
//!
//! A negative response is explicit ([`wire`]). It is cached in memory for `lookup_negative_ttl`. It also marks the row
//! as denied, so that its fires are held; a later positive response removes the mark. If the portal is unavailable for
//! longer than a request can wait, the caller is not rejected.

pub(super) mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

pub(super) use self::wire::Query;
use nas_cron_protocol::{Given, InstanceId};

use self::wire::{Found, Wire};
use super::circuit_breaker::{CircuitBreaker, FALLBACK_WAIT, pause};
use super::fetch_error::FetchError;
use super::single_flight::SingleFlight;
use crate::db::{self, Db, DbError, DbResult, hints, instances, lookups};
use crate::domain::PortalDenial;
use crate::domain::agent_instance::AgentInstance;
use crate::domain::registration::{Registration, Verdict};
use crate::heartbeat::rest;
use crate::{config, directory, metrics};

/// Maximum time for one lookup, including the update of the table.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// Part of `lookup_ttl` after which the use of a row starts a lookup in the background.
const REFRESH_AFTER: f64 = 0.75;
/// Maximum number of concurrent background lookups; the remaining calls are reserved for requests that wait.
const MAX_REFRESHES: usize = 8;
/// Maximum number of cached negative responses.
const CACHE_CAPACITY: u64 = 20_000;
/// Maximum number of attempts to take a session from the instance that has it in the table.
const SESSION_TRIES: usize = 3;
/// Interval between two rounds of rechecking denied instances.
const RECHECK_INTERVAL: Duration = Duration::from_mins(1);
/// Minimum time between two lookups of the same denied instance.
const RECHECK_AFTER: Duration = Duration::from_mins(5);
/// Maximum number of denied instances that are rechecked at once.
const RECHECK_BATCH: usize = 32;

/// The portal's lookup, and the cache of its responses.
pub struct Lookup {
    db: Db,
    wire: Wire,
    breaker: CircuitBreaker,
    ttl: Duration,
    negative_ttl: Duration,
    stale: Duration,
    unknown: Cache<Query, ()>,
    single_flight: Arc<SingleFlight<Query, Outcome>>,
    refreshes: Arc<Semaphore>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("wire", &self.wire).finish_non_exhaustive()
    }
}

/// The result of a lookup.
#[derive(Clone, Debug)]
enum Outcome {
    Known(AgentInstance),
    Unknown,
    /// The portal is unavailable, or its response could not be stored.
    Unavailable,
}

/// The instance could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The lookup did not succeed before the request's deadline, and no cached response is usable.
    #[error("the portal's lookup timed out")]
    Unavailable,
    /// Too many requests are waiting for a lookup.
    #[error("too many requests are waiting for the portal's lookup")]
    TooManyWaiters,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Lookup {
    /// Sends no request yet. Spawn [`Lookup::run`].
    pub fn new(at: &config::Lookup, db: Db) -> Result<Arc<Self>, reqwest::Error> {
        Ok(Arc::new(Self {
            db,
            wire: Wire::new(at.url.clone(), &at.token)?,
            breaker: CircuitBreaker::new(format!("lookup at {}", at.url.origin().ascii_serialization())),
            ttl: at.ttl,
            negative_ttl: at.negative_ttl,
            stale: at.stale,
            unknown: Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(at.negative_ttl).build(),
            single_flight: SingleFlight::new(),
            refreshes: Arc::new(Semaphore::new(MAX_REFRESHES)),
        }))
    }

    /// Finds an instance. Waits for the portal until `deadline`, or for [`FALLBACK_WAIT`] if the table has a usable
    /// row.
    pub(super) async fn find(
        self: &Arc<Self>,
        query: Query,
        deadline: Instant,
    ) -> Result<Option<AgentInstance>, LookupError> {
        loop {
            let row = db::ride_out(deadline, || row(&self.db, &query)).await?;
            if let Some(row) = row.as_ref().filter(|row| self.is_fresh(row)) {
                if !self.is_recent(row)
                    && self.breaker.may_probe()
                    && let Ok(slot) = Arc::clone(&self.refreshes).try_acquire_owned()
                {
                    // A background lookup: the row stays usable if it fails.
                    drop(self.join(&query, Some(slot)));
                }
                return Ok(Some(row.clone()));
            }
            if self.unknown.contains_key(&query) {
                return Ok(None);
            }
            // A row in another org than the token's would reject the caller, which only the portal may decide.
            let fits =
                |row: &AgentInstance| !matches!(&query, Query::Client(_, Some(org)) if *org != row.org_id);
            let usable = row.filter(|row| self.is_usable(row) && fits(row));
            if let Some(row) = usable.as_ref().filter(|_| !self.breaker.may_probe()) {
                return Ok(Some(row.clone()));
            }
            let Some(flight) = self.join(&query, None) else {
                return usable.map(Some).ok_or(LookupError::TooManyWaiters);
            };
            let patience = match &usable {
                // The lookup has been started anyway, so that an open circuit does not hide a negative response.
                Some(row) if self.breaker.is_open() => return Ok(Some(row.clone())),
                Some(_) => deadline.min(Instant::now() + FALLBACK_WAIT),
                None => deadline,
            };
            match (flight.result(patience).await, usable) {
                (Some(Outcome::Known(instance)), _) => return Ok(Some(instance)),
                (Some(Outcome::Unknown), _) => return Ok(None),
                (Some(Outcome::Unavailable) | None, Some(row)) => return Ok(Some(row)),
                (Some(Outcome::Unavailable) | None, None) => {}
            }
            let pause = pause();
            if Instant::now() + pause >= deadline {
                return Err(LookupError::Unavailable);
            }
            sleep(pause).await;
        }
    }

    /// [Rechecks](Self::recheck_denied) denied instances once a minute. Never returns; drop it to end it.
    pub async fn run(self: Arc<Self>) {
        loop {
            rest(sleep(RECHECK_INTERVAL)).await;
            self.recheck_denied().await;
        }
    }

    /// Looks up denied instances with held fires again: the denial may have been a mistake, and an agent that sleeps
    /// until it is fired would never call again.
    pub async fn recheck_denied(self: &Arc<Self>) {
        // While the portal is unavailable, they stay due for a recheck.
        while !self.breaker.is_open() {
            let denied = match lookups::to_ask_again(&self.db, RECHECK_AFTER, RECHECK_BATCH).await {
                Ok(denied) => denied,
                Err(error) => {
                    tracing::debug!(%error, "reading denied instances failed");
                    return;
                }
            };
            let is_last = denied.len() < RECHECK_BATCH;
            let queries = denied.into_iter().map(|instance_id| Query::Client(instance_id, None));
            let flights: Vec<_> = queries.filter_map(|query| self.join(&query, None)).collect();
            join_all(flights.into_iter().map(|flight| flight.result(Instant::now() + CALL_TIMEOUT))).await;
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

    /// True if the row needs no background lookup yet. The denial `disabled` counts as a negative response.
    pub(super) fn is_recent(&self, row: &AgentInstance) -> bool {
        let ahead = self.ttl.mul_f64(REFRESH_AFTER);
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
        query: &Query,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Option<super::single_flight::Flight<Outcome>> {
        self.single_flight.join(query.clone(), || {
            let (this, query) = (Arc::clone(self), query.clone());
            async move {
                let _slot = slot;
                this.call(&query).await
            }
        })
    }

    async fn call(&self, query: &Query) -> Outcome {
        let _permit = self.single_flight.permit().await;
        let until = Instant::now() + CALL_TIMEOUT;
        // Another lookup may have completed while this one waited for its permit, possibly in another replica.
        match db::ride_out(until, || row(&self.db, query)).await {
            Ok(Some(row)) if self.is_recent(&row) => return Outcome::Known(row),
            Ok(_) if self.unknown.contains_key(query) => return Outcome::Unknown,
            Ok(_) => {}
            Err(error) => return database_failed(&error),
        }
        let done = match self.ask(query).await {
            Ok(Some(found)) => self.remember(found, until).await,
            Ok(None) => self.forget(query, until).await,
            Err(_) => return Outcome::Unavailable,
        };
        done.unwrap_or_else(|error| database_failed(&error))
    }

    async fn ask(&self, query: &Query) -> Result<Option<Found>, FetchError> {
        let answer = self.wire.ask(query).await;
        self.breaker.record(&answer);
        metrics::looked_up(match &answer {
            Ok(Some(found)) if found.enabled => "found",
            Ok(Some(_)) => "disabled",
            Ok(None) => "unknown",
            Err(error) => error.kind(),
        });
        answer
    }

    /// Stores a positive response in the table. The portal is the authority: an instance that is now in another org is
    /// moved there with its jobs, and a session that now belongs to another instance is taken from its current owner.
    /// The callback, which the agent sets, and `enabled`, which the operator sets, stay.
    async fn remember(&self, found: Found, until: Instant) -> DbResult<Outcome> {
        let denied = (!found.enabled).then_some(PortalDenial::Disabled);
        let found = Registration {
            instance_id: found.instance_id,
            org_id: found.org_id,
            bootstrap_session_id: found.bootstrap_session_id,
            callback_url: None,
            enabled: None,
        };
        let mut known = db::ride_out(until, || lookups::answered(&self.db, &found, denied)).await?;
        let mut moved = false;
        for _ in 0..SESSION_TRIES {
            if known.is_some() {
                break;
            }
            let register = || directory::again(|| lookups::registered(&self.db, &found, denied));
            let (verdict, now_known) = db::ride_out(until, register).await?;
            known = now_known;
            moved |= verdict == Some(Verdict::Updated);
            if let (Some(Verdict::SessionTaken(_)), Given::Set(session)) =
                (verdict, &found.bootstrap_session_id)
            {
                db::ride_out(until, || {
                    lookups::give_up_session(&self.db, &found.org_id, session, &found.instance_id)
                })
                .await?;
            }
        }
        let Some((instance, released)) = known else {
            // It was deleted concurrently, or its session keeps changing: the next lookup will tell.
            return Ok(Outcome::Unavailable);
        };
        if released {
            tracing::info!(agent.id = %instance.instance_id, "agent found by the portal's lookup again; fires released");
        }
        // Release its own one-shots only, because a request waits. A move also ends the hold of its former org.
        if (released || moved) && lookups::release(&self.db, &instance.instance_id).await? > 0 {
            hints::announce(&self.db).await?;
        }
        Ok(Outcome::Known(instance))
    }

    /// Caches a negative response. An instance in the table is first looked up by its ID alone, before it is denied:
    /// the portal may have given it another session, or moved it to another org.
    async fn forget(&self, query: &Query, until: Instant) -> DbResult<Outcome> {
        if let Query::Client(instance_id, None) = query {
            self.deny(instance_id, until).await?;
        } else if let Some(row) = db::ride_out(until, || row(&self.db, query)).await?
            // The response does not apply to an instance of another org.
            && query.org_id().is_none_or(|org_id| *org_id == row.org_id)
        {
            match self.ask(&Query::Client(row.instance_id.clone(), None)).await {
                Ok(Some(mut found)) => {
                    if matches!(query, Query::Session(..)) && found.bootstrap_session_id.is_keep() {
                        found.bootstrap_session_id = Given::Clear;
                    }
                    if let Outcome::Unavailable = self.remember(found, until).await? {
                        return Ok(Outcome::Unavailable);
                    }
                }
                Ok(None) => self.deny(&row.instance_id, until).await?,
                Err(_) => return Ok(Outcome::Unavailable),
            }
        }
        self.unknown.insert(query.clone(), ()).await;
        Ok(Outcome::Unknown)
    }

    /// Denies an instance that the portal does not know in any org: holds its fires; none is lost.
    async fn deny(&self, instance_id: &InstanceId, until: Instant) -> DbResult<()> {
        if db::ride_out(until, || lookups::denied(&self.db, instance_id)).await? {
            tracing::warn!(agent.id = %instance_id, "agent no longer found by the portal's lookup; fires held");
        }
        Ok(())
    }
}

/// Returns the row of an instance in the table.
async fn row(db: &Db, query: &Query) -> DbResult<Option<AgentInstance>> {
    match query {
        Query::Client(instance_id, _) => instances::by_id(db, instance_id).await,
        Query::Session(org_id, session) => instances::by_session(db, org_id, session).await,
    }
}

fn database_failed(error: &DbError) -> Outcome {
    tracing::debug!(%error, "reading or storing a lookup response failed");
    Outcome::Unavailable
}

/// Looks up an invented instance, for `nas-cron doctor`. Returns true if the portal claims to know it.
pub async fn probe(at: &config::Lookup) -> Result<bool, String> {
    let wire = Wire::new(at.url.clone(), &at.token).map_err(|error| error.to_string())?;
    let invented =
        InstanceId::new(format!("nas-cron-doctor-{}", uuid::Uuid::new_v4())).expect("the ID is valid");
    let answer = wire.ask(&Query::Client(invented, None)).await;
    answer.map(|found| found.is_some()).map_err(|error| error.to_string())
}
