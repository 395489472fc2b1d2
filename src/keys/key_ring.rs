//! The keys in memory: what a replica signs with and serves.
//!
//! A view is read from the database every 5 s. It may sign while it is at most 10 s old, by the monotonic clock
//! and by the wall clock (the first stands still while a machine is suspended); the JWKS is served from the
//! last view however old it is, since agents that fetch it are in the middle of a fire.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_base::clock::Clock;
use secrecy::SecretString;
use tokio::sync::watch;

use super::access_token::{self, AccessSubject};
use super::encryption::KeyEncryptionKey;
use super::fire_token::{self, FireSubject, TokenTtl, Validity};
use super::jwks::Jwks;
use super::rotation::{RotationPolicy, VIEW_STALENESS};
use super::signer::{Signer, SignerError};
use super::sweep::{self, Done};
use super::{KeyError, custody};
use crate::db::Db;
use crate::domain::{KeyState, SigningAlg, StoredKey};
use crate::heartbeat::rest;

const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// After a refresh that failed. With the timeout below, a look that hangs and the next one fit into a view's 10 s.
const REFRESH_AGAIN: Duration = Duration::from_secs(1);
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);
const SWEEP_EVERY: Duration = Duration::from_secs(30);
const SWEEP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a ring needs to know.
#[derive(Debug)]
pub struct KeyRingOptions {
    /// `iss` of fire tokens: the portal's URL, byte for byte.
    pub issuer: String,
    /// How long they live.
    pub token_ttl: TokenTtl,
    /// What new keys sign with; keys that exist keep theirs.
    pub alg: SigningAlg,
    /// When keys change.
    pub policy: RotationPolicy,
    /// Opens and seals private halves. Not needed while all of them are in files.
    pub kek: Option<KeyEncryptionKey>,
}

/// Why no token could be minted. All of these pass, or show in `/readyz`: try again.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The view is too old to sign with: another replica may have changed the keys since.
    #[error("the view of the signing keys is more than 10 s old")]
    Stale,
    /// No key is active, or the active one cannot be opened here.
    #[error("there is no usable active signing key")]
    NoKey,
    /// Signing itself failed.
    #[error(transparent)]
    Sign(#[from] SignerError),
}

/// One look at the keys.
#[derive(Debug)]
struct View {
    /// When the look began, so that it is at least as fresh as that.
    loaded_at: Instant,
    loaded_wall: DateTime<Utc>,
    signers: HashMap<String, Arc<Signer>>,
    /// Keys that could not be opened: tried again at every look, told once.
    unusable: HashSet<String>,
    active: Option<Arc<Signer>>,
    jwks: Option<Jwks>,
}

/// Mints fire tokens and holds the JWKS. Share it in an `Arc`; readers never wait for the database.
#[derive(Debug)]
pub struct KeyRing {
    options: KeyRingOptions,
    clock: Arc<dyn Clock>,
    view: watch::Sender<Option<Arc<View>>>,
}

impl KeyRing {
    /// Empty until [`Self::bootstrap`] or [`Self::refresh`].
    pub fn new(options: KeyRingOptions, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, view: watch::Sender::new(None) }
    }

    /// For the start of `serve`: checks that every key that may have to sign can be opened here (a wrong
    /// key-encryption key or an unreadable file ends it, before anything is changed), makes the first key of
    /// a new service, and loads the view. Several replicas may do this at once.
    pub async fn bootstrap(&self, db: &Db) -> Result<(), KeyError> {
        self.load(db, Strictness::Strict).await?;
        self.sweep(db).await?;
        self.load(db, Strictness::Strict).await
    }

    /// Reads the view anew. A key that cannot be opened here is published all the same (another replica may
    /// sign with it), and said in the log; without the active one nothing is signed.
    pub async fn refresh(&self, db: &Db) -> Result<(), KeyError> {
        self.load(db, Strictness::Lenient).await
    }

    /// Takes the steps of rotation that are due, and reads the view anew if there were any.
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
                            tracing::error!(key.id = %kid, %error, "signing key cannot be used by this replica");
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
        let fresh = Arc::new(View { loaded_at, loaded_wall, signers, unusable, active, jwks });
        // Two looks may overlap (the loop's and a sweep's): the one that began later wins.
        self.view.send_if_modified(|view| {
            let newer = view.as_ref().is_none_or(|old| old.loaded_at <= fresh.loaded_at);
            if newer {
                *view = Some(fresh);
            }
            newer
        });
        Ok(())
    }

    /// Mints the token of one attempt; no I/O. Mint right before sending: it is valid from this second on.
    pub fn mint(&self, fire: FireSubject<'_>) -> Result<SecretString, MintError> {
        let now = self.clock.now();
        self.mint_valid(fire, Validity::now(now, self.options.token_ttl))
    }

    /// Mints a token for a call that somebody else makes later: good from `not_before` to `expires`. The keys must be
    /// published for as long ([`super::RotationPolicy::tokens_live_for`]).
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

    /// Mints an access token, where this service is its agents' portal; no I/O. The keys must be published for as long
    /// as `ttl` ([`super::RotationPolicy::tokens_live_for`]).
    pub fn mint_access(&self, bearer: AccessSubject<'_>, ttl: Duration) -> Result<SecretString, MintError> {
        let now = self.clock.now();
        Ok(access_token::mint(&*self.signer()?, &self.options.issuer, now, ttl, bearer)?)
    }

    /// What signs now.
    fn signer(&self) -> Result<Arc<Signer>, MintError> {
        let view = self.view.borrow().clone().ok_or(MintError::NoKey)?;
        if is_stale(&view, self.clock.wall()) {
            return Err(MintError::Stale);
        }
        view.active.clone().ok_or(MintError::NoKey)
    }

    /// The JWKS of the last view, however old; `None` before the first one, and when there are no keys.
    pub fn jwks(&self) -> Option<Jwks> {
        self.view.borrow().as_ref().and_then(|view| view.jwks.clone())
    }

    /// The JWKS of the last view, and when the look at the database began that brought it.
    pub fn jwks_as_of(&self) -> Option<(Jwks, Instant)> {
        let view = self.view.borrow().clone()?;
        Some((view.jwks.clone()?, view.loaded_at))
    }

    /// Told of every new view. Without [`Self::keep_fresh`] there is none.
    pub fn looks(&self) -> Looks {
        Looks(self.view.subscribe())
    }

    /// Whether [`Self::mint`] would sign now.
    pub fn ready(&self) -> bool {
        let wall = self.clock.wall();
        self.view.borrow().as_ref().is_some_and(|view| view.active.is_some() && !is_stale(view, wall))
    }

    /// Whether an active key can be used here, however old the view of it is.
    pub fn has_active_key(&self) -> bool {
        self.view.borrow().as_ref().is_some_and(|view| view.active.is_some())
    }

    /// Waits until [`Self::ready`]; something else has to refresh.
    pub async fn wait_until_ready(&self) {
        let mut views = self.view.subscribe();
        while !self.ready() {
            // The sender is `self`: it cannot be gone.
            let _ = views.changed().await;
        }
    }

    /// Refreshes the view every 5 s. Never returns. Faults are logged when they begin and when they end, not every 5 s.
    pub async fn keep_fresh(&self, db: &Db) {
        let mut failing = false;
        loop {
            let outcome = tokio::time::timeout(REFRESH_TIMEOUT, self.refresh(db)).await;
            report(&mut failing, outcome, "reading the signing keys");
            rest(tokio::time::sleep(if failing { REFRESH_AGAIN } else { REFRESH_EVERY })).await;
        }
    }

    /// Rotates the keys that it is time for, about every 30 s. Never returns.
    pub async fn keep_swept(&self, db: &Db) {
        let mut failing = false;
        loop {
            // Jittered, so that replicas that started together do not sweep together.
            rest(tokio::time::sleep(SWEEP_EVERY.mul_f64(rand::random_range(0.8..1.2)))).await;
            let outcome = tokio::time::timeout(SWEEP_TIMEOUT, self.sweep(db)).await;
            report(&mut failing, outcome.map(|swept| swept.map(drop)), "rotating the signing keys");
        }
    }
}

/// Waits for looks at the keys.
#[derive(Debug)]
pub struct Looks(watch::Receiver<Option<Arc<View>>>);

impl Looks {
    /// Waits for one that is newer than the last that was waited for; for ever, where the ring is gone.
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
    what: &'static str,
) {
    let error = match outcome {
        Ok(Ok(())) => {
            if std::mem::take(failing) {
                tracing::info!("{what} works again");
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the database did not answer in time".to_owned(),
    };
    if !std::mem::replace(failing, true) {
        tracing::warn!(%error, "{what} failed; trying again");
    }
}
