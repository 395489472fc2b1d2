//! The signing keys in memory: a replica signs tokens and serves the JWKS from this view.
//!
//! The view is read from the database every 6 s. A replica signs with a view of at most 10 s, by the monotonic clock and
//! by the wall clock (the monotonic clock stops while a machine is suspended). The JWKS is served from the last view of
//! any age, because agents that fetch it are verifying a fire.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::clock::Clock;
use secrecy::SecretString;
use tokio::sync::watch;

use super::access_token::{self, AccessSubject};
use super::encryption::KeyEncryptionKeys;
use super::fire_token::{self, FireSubject, TokenTtl, Validity};
use super::jwks::Jwks;
use super::rotation::{self, RotationPolicy, VIEW_STALENESS};
use super::signer::{Signer, SignerError};
use super::sweep::{self, Done};
use super::{KeyError, custody};
use crate::db::Db;
use crate::domain::{KeyRecord, KeyState, SigningAlg, StoredKey};
use crate::heartbeat::rest;

const REFRESH_EVERY: Duration = Duration::from_secs(6);
/// Pause after a failed refresh. With the timeout below, a refresh that hangs and the next one fit into a view's 10 s.
const REFRESH_AGAIN: Duration = Duration::from_millis(500);
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
const SWEEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of a key ring.
#[derive(Debug)]
pub struct KeyRingOptions {
    /// `iss` of fire tokens: the portal's URL, byte for byte.
    pub issuer: String,
    /// Lifetime of fire tokens.
    pub token_ttl: TokenTtl,
    /// Algorithm of new keys. Existing keys keep theirs.
    pub alg: SigningAlg,
    /// Margins of rotation.
    pub policy: RotationPolicy,
    /// Encrypts and decrypts private halves. Not needed while all of them are in files.
    pub kek: Option<KeyEncryptionKeys>,
}

/// Reasons for which a token could not be minted. They are temporary or show in `/readyz`, so retrying is right.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The view is too old to sign with: another replica may have changed the keys.
    #[error("the signing keys were not read from the database for more than 10 s")]
    Stale,
    /// No key is active, or this replica cannot use the active key.
    #[error("no usable active signing key")]
    NoKey,
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] SignerError),
}

/// The keys as read at one time.
#[derive(Debug)]
struct View {
    /// Start of the read: the view is at least this fresh.
    loaded_at: Instant,
    loaded_wall: DateTime<Utc>,
    signers: HashMap<String, Arc<Signer>>,
    /// Keys that this replica could not use. Every read tries them again; the failure is logged once.
    unusable: HashSet<String>,
    active: Option<Arc<Signer>>,
    jwks: Option<Jwks>,
    records: Vec<KeyRecord>,
    /// Time of the next rotation step; `None` if none is planned.
    next_step: Option<DateTime<Utc>>,
}

/// Mints tokens and provides the JWKS. Share it in an `Arc`; readers never wait for the database.
#[derive(Debug)]
pub struct KeyRing {
    options: KeyRingOptions,
    clock: Arc<dyn Clock>,
    view: watch::Sender<Option<Arc<View>>>,
}

impl KeyRing {
    /// Returns a ring without keys; [`Self::bootstrap`] or [`Self::refresh`] loads them.
    pub fn new(options: KeyRingOptions, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, view: watch::Sender::new(None) }
    }

    /// Loads the keys at the start of `serve`, and generates the first key of a new service. Fails before any change if
    /// this replica cannot use a next or active key (wrong key-encryption key, unreadable file). Several replicas may do
    /// this at once.
    pub async fn bootstrap(&self, db: &Db) -> Result<(), KeyError> {
        self.load(db, Strictness::Strict).await?;
        self.sweep(db).await?;
        self.load(db, Strictness::Strict).await
    }

    /// Reads the keys again. A key that this replica cannot use is logged and still published, because another replica may
    /// sign with it. If it is the active key, this replica signs nothing.
    pub async fn refresh(&self, db: &Db) -> Result<(), KeyError> {
        self.load(db, Strictness::Lenient).await
    }

    /// Takes the rotation steps that are due, and reads the keys again if there were any.
    pub async fn sweep(&self, db: &Db) -> Result<Vec<Done>, KeyError> {
        let KeyRingOptions { policy, alg, kek, .. } = &self.options;
        let done = sweep::sweep(db, policy, *alg, kek.as_ref()).await?;
        if !done.is_empty() {
            self.refresh(db).await?;
        }
        Ok(done)
    }

    async fn load(&self, db: &Db, strictness: Strictness) -> Result<(), KeyError> {
        let (loaded_at, loaded_wall) = (Instant::now(), self.clock.wall());
        let keys = db.signing_keys().await?;
        let known = self.view.borrow().clone();
        let mut signers = HashMap::new();
        let mut unusable = HashSet::new();
        for key in keys.iter().filter(|key| may_have_to_sign(key)) {
            let kid = &key.record.kid;
            let signer = match known.as_ref().and_then(|view| view.signers.get(kid)) {
                Some(signer) => Arc::clone(signer),
                None => match custody::open(key, self.options.kek.as_ref()).await {
                    Ok(signer) => Arc::new(signer),
                    Err(error) if strictness == Strictness::Strict => return Err(error),
                    Err(error) => {
                        if !known.as_ref().is_some_and(|view| view.unusable.contains(kid)) {
                            tracing::error!(key.id = %kid, %error, "this replica cannot use a signing key");
                        }
                        unusable.insert(kid.clone());
                        continue;
                    }
                },
            };
            signers.insert(kid.clone(), signer);
        }
        let active = keys
            .iter()
            .find(|key| key.record.state == KeyState::Active)
            .and_then(|key| signers.get(&key.record.kid).cloned());
        let jwks = Jwks::of(keys.iter().map(|key| &key.record));
        let records = sweep::records(&keys);
        let next_step = rotation::plan(&records, &self.options.policy).iter().map(|step| step.at).min();
        let fresh =
            Arc::new(View { loaded_at, loaded_wall, signers, unusable, active, jwks, records, next_step });
        // Two reads may overlap (the loop's and a sweep's): the one that started later wins.
        self.view.send_if_modified(|view| {
            let newer = view.as_ref().is_none_or(|old| old.loaded_at <= fresh.loaded_at);
            if newer {
                *view = Some(fresh);
            }
            newer
        });
        Ok(())
    }

    /// Mints the fire token of one attempt, without I/O. It is valid from this second on, so mint it right before sending.
    pub fn mint(&self, fire: FireSubject<'_>) -> Result<SecretString, MintError> {
        let now = self.clock.now();
        self.mint_valid(fire, Validity::now(now, self.options.token_ttl))
    }

    /// Mints a fire token for a call that an external backend makes later, valid from `not_before` to `expires`. The keys
    /// must stay published for as long ([`super::RotationPolicy::tokens_live_for`]).
    pub fn mint_for(
        &self,
        fire: FireSubject<'_>,
        not_before: DateTime<Utc>,
        expires: DateTime<Utc>,
    ) -> Result<SecretString, MintError> {
        let now = self.clock.now();
        self.mint_valid(fire, Validity::later(now, not_before, expires))
    }

    fn mint_valid(&self, fire: FireSubject<'_>, validity: Validity) -> Result<SecretString, MintError> {
        Ok(fire_token::mint(&*self.signer()?, &self.options.issuer, validity, fire)?)
    }

    /// Mints an access token of the built-in portal, without I/O. The keys must stay published for as long as `ttl`
    /// ([`super::RotationPolicy::tokens_live_for`]).
    pub fn mint_access(&self, bearer: AccessSubject<'_>, ttl: Duration) -> Result<SecretString, MintError> {
        let now = self.clock.now();
        Ok(access_token::mint(&*self.signer()?, &self.options.issuer, now, ttl, bearer)?)
    }

    /// Returns the active signer.
    fn signer(&self) -> Result<Arc<Signer>, MintError> {
        let view = self.view.borrow().clone().ok_or(MintError::NoKey)?;
        if is_stale(&view, self.clock.wall()) {
            return Err(MintError::Stale);
        }
        view.active.clone().ok_or(MintError::NoKey)
    }

    /// Returns the JWKS of the last view, of any age; `None` before the first view, or if there are no keys.
    pub fn jwks(&self) -> Option<Jwks> {
        self.view.borrow().as_ref().and_then(|view| view.jwks.clone())
    }

    /// Returns the JWKS of the last view, and the start of the database read that it comes from.
    pub fn jwks_as_of(&self) -> Option<(Jwks, Instant)> {
        let view = self.view.borrow().clone()?;
        Some((view.jwks.clone()?, view.loaded_at))
    }

    /// Returns a receiver of new views. There are none without [`Self::keep_fresh`].
    pub fn looks(&self) -> Looks {
        Looks(self.view.subscribe())
    }

    /// Returns true if [`Self::mint`] would sign now.
    pub fn ready(&self) -> bool {
        let wall = self.clock.wall();
        self.view.borrow().as_ref().is_some_and(|view| view.active.is_some() && !is_stale(view, wall))
    }

    /// Returns true if the last view, of any age, has a usable active key.
    pub fn has_active_key(&self) -> bool {
        self.view.borrow().as_ref().is_some_and(|view| view.active.is_some())
    }

    /// Returns the number of keys in this state, in the last view of any age.
    pub fn count(&self, state: KeyState) -> usize {
        let view = self.view.borrow();
        view.iter().flat_map(|view| &view.records).filter(|key| key.state == state).count()
    }

    /// Returns the time until the next step of the rotation, negative if the step is overdue. `None` if no step is planned
    /// (keys rotate by hand), or before the first view.
    pub fn next_step_in(&self) -> Option<TimeDelta> {
        Some(self.view.borrow().as_ref()?.next_step? - self.clock.now())
    }

    /// Waits until [`Self::ready`]. Another task must refresh the view.
    pub async fn wait_until_ready(&self) {
        let mut views = self.view.subscribe();
        while !self.ready() {
            // Cannot fail: the sender belongs to `self`.
            let _ = views.changed().await;
        }
    }

    /// Refreshes the view every 6 s. Never returns. Logs the start and the end of a series of failures.
    pub async fn keep_fresh(&self, db: &Db) {
        let mut failing = false;
        loop {
            let outcome = tokio::time::timeout(REFRESH_TIMEOUT, self.refresh(db)).await;
            report(&mut failing, outcome, "reading the signing keys");
            rest(tokio::time::sleep(if failing { REFRESH_AGAIN } else { REFRESH_EVERY })).await;
        }
    }

    /// Takes due rotation steps about every 30 s. Never returns. Makes no statement while none is due.
    pub async fn keep_swept(&self, db: &Db) {
        let mut failing = false;
        loop {
            // With jitter, so that replicas that started together do not sweep together.
            rest(tokio::time::sleep(SWEEP_EVERY.mul_f64(rand::random_range(0.8..1.2)))).await;
            if self.next_step_in().is_none_or(|wait| wait > TimeDelta::zero()) {
                continue;
            }
            let outcome = tokio::time::timeout(SWEEP_TIMEOUT, self.sweep(db)).await;
            report(&mut failing, outcome.map(|swept| swept.map(drop)), "rotating the signing keys");
        }
    }
}

/// A receiver of new views of the keys.
#[derive(Debug)]
pub struct Looks(watch::Receiver<Option<Arc<View>>>);

impl Looks {
    /// Waits for a view that is newer than the last one. Never returns once the ring is dropped.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Strict,
    Lenient,
}

fn may_have_to_sign(key: &StoredKey) -> bool {
    matches!(key.record.state, KeyState::Next | KeyState::Active)
}

fn is_stale(view: &View, wall: DateTime<Utc>) -> bool {
    let by_wall = (wall - view.loaded_wall).to_std().unwrap_or_default();
    view.loaded_at.elapsed() > VIEW_STALENESS || by_wall > VIEW_STALENESS
}

fn report(
    failing: &mut bool,
    outcome: Result<Result<(), KeyError>, tokio::time::error::Elapsed>,
    step: &'static str,
) {
    let error = match outcome {
        Ok(Ok(())) => {
            if std::mem::take(failing) {
                tracing::info!("{step} succeeded again");
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the database did not respond in time".to_owned(),
    };
    if !std::mem::replace(failing, true) {
        tracing::warn!(%error, "{step} failed; retrying");
    }
}
