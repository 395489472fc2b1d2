//! Keys of a JWKS URL: fetched, cached and refreshed.
//!
//! The rule for a key that is not known (docs/contract.md#authentication): a token is refused for it only after a fetch that
//! *began after the request arrived*; until then the request waits, and what cannot be known is no refusal.
//! There is one fetch at a time, and all who wait, wait for the same next one, so a stranger with a thousand
//! invented `kid`s causes no more fetches than one agent with a new key, and does not hold that agent up.
//!
//! | the last fetch | the next one, if somebody waits | if nobody does |
//! |---|---|---|
//! | was answered, well or badly | 10 s after it began | as `max-age` says; after a bad answer backing off to 5 min |
//! | was not answered, or by a 5xx | 1 s after it ended, so that a portal that comes back is seen at once | backing off to 5 min |
//!
//! Keys go only when the portal publishes a usable set without them. It may be away for as long as it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::claims::AccessClaims;
use super::fetch_error::FetchError;
use super::jwks_fetch::{Fetch, FetchLimits};
use super::key_set::{KeySet, NotVerified};
use super::token::Presented;
use super::token_error::TokenError;
use super::verify_error::VerifyError;
use crate::heartbeat;

/// Assumed where the portal does not say; it is what the portal says today.
const DEFAULT_AGE: Duration = Duration::from_mins(5);
/// The longest pause after failures, when nobody waits.
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// Keys of a JWKS URL, none to begin with. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct FetchedKeys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: watch::Sender<Current>,
    /// How many fetches have begun; their numbers count from 1.
    begun: AtomicU64,
    /// The number of the first fetch that everybody who waits would be content with.
    wanted: AtomicU64,
    called_for: Notify,
    waiters: Semaphore,
    limits: FetchLimits,
}

#[derive(Clone, Debug, Default)]
struct Current {
    keys: Arc<KeySet>,
    /// Which fetch brought them; 0: none has.
    fetch: u64,
}

/// Does the fetching for the keys of a JWKS URL. Without it running, unknown keys stay unknown.
pub struct KeyRefresh {
    shared: Arc<Shared>,
    fetch: Fetch,
}

impl std::fmt::Debug for KeyRefresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRefresh").finish_non_exhaustive()
    }
}

impl FetchedKeys {
    /// Returns the keys that `fetch` brings, and the task that fetches them within `limits`.
    pub(super) fn new(fetch: Fetch, limits: FetchLimits) -> (Self, KeyRefresh) {
        let shared = Arc::new(Shared {
            current: watch::Sender::new(Current::default()),
            begun: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            called_for: Notify::new(),
            waiters: Semaphore::new(limits.waiters),
            limits,
        });
        (Self(Arc::clone(&shared)), KeyRefresh { shared, fetch })
    }

    /// Returns the number of keys known now.
    pub(super) fn known(&self) -> usize {
        self.0.current.borrow().keys.len()
    }

    /// Verifies a token. Waits for a fetch only if its key is unknown, and never beyond `deadline`.
    pub(super) async fn verify(
        &self,
        token: &Presented<'_>,
        deadline: Instant,
    ) -> Result<AccessClaims, VerifyError> {
        self.0.verify(token, deadline).await
    }
}

impl Shared {
    async fn verify(&self, token: &Presented<'_>, deadline: Instant) -> Result<AccessClaims, VerifyError> {
        // Whatever begins from here on, began after the request arrived.
        let content_with = self.begun.load(Ordering::SeqCst) + 1;
        let mut current = self.current.subscribe();
        let mut waiting = None;
        loop {
            // Taken out of the lock first: a signature takes its time.
            let now = current.borrow_and_update().clone();
            match now.keys.verify(token) {
                Ok(claims) => return Ok(claims),
                Err(NotVerified::Refused(error)) => return Err(error.into()),
                Err(NotVerified::UnknownKey) if now.fetch >= content_with => {
                    return Err(TokenError::UnknownKey.into());
                }
                Err(NotVerified::UnknownKey) => {}
            }
            if waiting.is_none() {
                waiting = Some(self.waiters.try_acquire().map_err(|_| VerifyError::TooManyWaiters)?);
                self.wanted.fetch_max(content_with, Ordering::SeqCst);
                self.called_for.notify_one();
            }
            match timeout_at(deadline, current.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives in `self`: it is the budget that is over.
                Ok(Err(_)) | Err(_) => return Err(VerifyError::NoFetch),
            }
        }
    }

    /// Whether somebody waits for a fetch after number `last`.
    fn is_called_for(&self, last: u64) -> bool {
        self.waiters.available_permits() < self.limits.waiters && self.wanted.load(Ordering::SeqCst) > last
    }
}

impl KeyRefresh {
    /// Fetches at once, then whenever it is time or called for. Never returns; drop it to end it.
    pub async fn run(self) {
        let limits = self.shared.limits;
        // The last fetch that brought keys, and the failures since.
        let (mut brought, mut failures) = (0, 0_u32);
        let (mut if_called_for, mut anyway) = (Instant::now(), Instant::now());
        loop {
            let next = if self.shared.is_called_for(brought) { if_called_for.min(anyway) } else { anyway };
            let is_time = heartbeat::rest(async {
                tokio::select! {
                    () = sleep_until(next) => true,
                    () = self.shared.called_for.notified() => false,
                }
            });
            if !is_time.await {
                continue;
            }
            let began = Instant::now();
            if began < anyway && !self.shared.is_called_for(brought) {
                // They have gone away meanwhile.
                continue;
            }
            let number = self.shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let outcome = (self.fetch)().await;
            let answered = matches!(outcome, Ok(_) | Err(FetchError::Useless(_)));
            if_called_for = if answered { began + limits.spacing } else { Instant::now() + limits.retry };
            let rest = match outcome {
                Ok(fetched) => {
                    if failures > 0 || brought == 0 {
                        tracing::info!(keys = fetched.keys.len(), "the portal's keys are known");
                    }
                    (brought, failures) = (number, 0);
                    self.shared.current.send_replace(Current { keys: Arc::new(fetched.keys), fetch: number });
                    fetched.max_age.unwrap_or(DEFAULT_AGE).clamp(limits.min_age, limits.max_age)
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let known = self.shared.current.borrow().keys.len();
                    // The first of a row, then ever more rarely.
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, known, "the portal's keys could not be fetched: known ones stay");
                    }
                    limits.retry.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF)
                }
            };
            // Spread, so that replicas that started together do not come together.
            anyway = if_called_for.max(began + rest.mul_f64(rand::random_range(0.8..=1.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use chrono::DateTime;
    use nas_cron_jwt::testing::{Signing, jwks};
    use serde_json::json;
    use tokio::task::JoinSet;
    use tokio::time::{advance, timeout};

    use super::super::jwks_fetch::Fetched;
    use super::super::token_rules::TokenRules;
    use super::*;

    const BUDGET: Duration = Duration::from_secs(12);

    /// A portal without a network: what it publishes, how long it takes, and when it was asked.
    #[derive(Clone, Default)]
    struct Portal(Arc<PortalState>);

    #[derive(Default)]
    struct PortalState {
        published: Mutex<Vec<Signing>>,
        /// What comes before it answers with what it has published.
        faults: Mutex<VecDeque<FetchError>>,
        away: AtomicBool,
        takes: Mutex<Duration>,
        max_age: Mutex<Option<Duration>>,
        asked: Mutex<Vec<Instant>>,
    }

    impl Portal {
        fn publishes(&self, keys: &[&Signing]) {
            *self.0.published.lock().unwrap() = keys.iter().map(|key| (*key).clone()).collect();
        }

        fn is_away(&self, away: bool) {
            self.0.away.store(away, Ordering::SeqCst);
        }

        fn asked(&self) -> Vec<Instant> {
            self.0.asked.lock().unwrap().clone()
        }

        /// Its keys as a service sees them, with the refresh running.
        fn keys(&self, limits: FetchLimits) -> FetchedKeys {
            let state = Arc::clone(&self.0);
            let fetch: Fetch = Box::new(move || {
                let state = Arc::clone(&state);
                Box::pin(async move {
                    state.asked.lock().unwrap().push(Instant::now());
                    // What it says is what it had when it was asked.
                    let body = jwks(&*state.published.lock().unwrap());
                    let takes = *state.takes.lock().unwrap();
                    tokio::time::sleep(takes).await;
                    if state.away.load(Ordering::SeqCst) {
                        return Err(FetchError::Away("refused".to_owned()));
                    }
                    if let Some(fault) = state.faults.lock().unwrap().pop_front() {
                        return Err(fault);
                    }
                    let keys =
                        KeySet::from_jwks(&body).map_err(|error| FetchError::Useless(error.to_string()))?;
                    Ok(Fetched { keys, max_age: *state.max_age.lock().unwrap() })
                })
            });
            let (keys, refresh) = FetchedKeys::new(fetch, limits);
            tokio::spawn(refresh.run());
            keys
        }
    }

    /// One request under a token of this key, within the budget that begins now.
    async fn call(keys: &FetchedKeys, signing: &Signing) -> Result<(), VerifyError> {
        let token = signing.sign(&json!({"iss": "p", "exp": 100}));
        let presented = Presented::read(&token, &TokenRules::new("p", []), DateTime::UNIX_EPOCH).unwrap();
        keys.verify(&presented, Instant::now() + BUDGET).await.map(|_| ())
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_kid_is_401_only_after_a_fetch_that_began_after_the_request() {
        let (portal, known, stranger) = (Portal::default(), Signing::es256("k1"), Signing::es256("zz"));
        portal.publishes(&[&known]);
        *portal.0.takes.lock().unwrap() = secs(1);
        let keys = portal.keys(FetchLimits::default());
        // It arrives while the first fetch is under way: that one does not count.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let arrived = Instant::now();
        assert_eq!(call(&keys, &stranger).await, Err(TokenError::UnknownKey.into()));
        let asked = portal.asked();
        assert_eq!(asked.len(), 2);
        assert!(asked[1] > arrived && asked[1] - asked[0] >= secs(10), "one fetch in 10 s");
        assert!(arrived.elapsed() < BUDGET);
    }

    #[tokio::test(start_paused = true)]
    async fn known_keys_do_not_wait() {
        let (portal, known) = (Portal::default(), Signing::es256("k1"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(call(&keys, &known).await, Ok(()));
        }
        assert_eq!((start.elapsed(), portal.asked().len()), (Duration::ZERO, 1));
        // Another key under a known name is refused at once.
        assert_eq!(call(&keys, &Signing::es256("k1")).await, Err(TokenError::Signature.into()));
        assert_eq!((start.elapsed(), portal.asked().len()), (Duration::ZERO, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_fetched_at_once_when_the_last_fetch_is_old() {
        let (portal, old, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&old]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &old).await, Ok(()));
        advance(secs(60)).await;
        portal.publishes(&[&old, &new]);
        let start = Instant::now();
        assert_eq!(call(&keys, &new).await, Ok(()));
        assert_eq!((start.elapsed(), portal.asked().len()), (Duration::ZERO, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cannot_starve_a_legitimate_new_key() {
        let (portal, old, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&old]);
        *portal.0.takes.lock().unwrap() = Duration::from_millis(200);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &old).await, Ok(()));
        // A minute of invented kids, 100 a second.
        let start = Instant::now();
        let mut flood = JoinSet::new();
        let mut agents = JoinSet::new();
        let mut stranger = Signing::es256("");
        for n in 0..6000 {
            stranger.kid = Some(format!("invented-{n}"));
            flood.spawn({
                let (keys, stranger) = (keys.clone(), stranger.clone());
                async move { call(&keys, &stranger).await }
            });
            if n == 2345 {
                portal.publishes(&[&old, &new]);
            }
            // Agents with the new key, at any moment of the cycle; ones with the old key all along.
            if n > 2345 && n % 100 == 7 {
                let (keys, new) = (keys.clone(), new.clone());
                agents.spawn(async move { call(&keys, &new).await });
            }
            if n % 100 == 0 {
                let (keys, old) = (keys.clone(), old.clone());
                agents.spawn(async move { call(&keys, &old).await });
            }
            advance(Duration::from_millis(10)).await;
        }
        assert!(agents.join_all().await.into_iter().all(|answer| answer == Ok(())));
        assert!(
            flood.join_all().await.into_iter().all(|answer| answer == Err(TokenError::UnknownKey.into()))
        );
        let asked = portal.asked();
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= secs(10)), "{asked:?}");
        assert!(start.elapsed() < secs(80) && asked.len() <= 9, "{}", asked.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_of_unknown_kids_is_one_fetch() {
        let (portal, old, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&old]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &old).await, Ok(()));
        advance(secs(20)).await;
        portal.publishes(&[&old, &new]);
        let mut herd = JoinSet::new();
        for _ in 0..1000 {
            let (keys, new) = (keys.clone(), new.clone());
            herd.spawn(async move { call(&keys, &new).await });
        }
        assert!(herd.join_all().await.into_iter().all(|answer| answer == Ok(())));
        assert_eq!(portal.asked().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_undecidable_case_is_not_a_refusal() {
        let (portal, known, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &known).await, Ok(()));
        portal.is_away(true);
        let start = Instant::now();
        assert_eq!(call(&keys, &new).await, Err(VerifyError::NoFetch));
        assert_eq!(start.elapsed(), BUDGET, "within the budget");
        // Known keys go on for as long as they are known.
        for _ in 0..100 {
            advance(secs(3600)).await;
            assert_eq!(call(&keys, &known).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_portal_outage_of_ten_seconds_makes_a_request_fail() {
        // Whenever the last fetch was: a stranger may have asked for it right before the outage.
        for before in [0, 1, 3, 9, 30] {
            let (portal, old, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
            portal.publishes(&[&old]);
            let keys = portal.keys(FetchLimits::default());
            assert_eq!(call(&keys, &old).await, Ok(()));
            advance(secs(before)).await;
            portal.is_away(true);
            portal.publishes(&[&old, &new]);
            let request = tokio::spawn({
                let (keys, new) = (keys.clone(), new.clone());
                async move { call(&keys, &new).await }
            });
            tokio::time::sleep(secs(10)).await;
            portal.is_away(false);
            assert_eq!(request.await.unwrap(), Ok(()), "{before} s after a fetch");
        }
        // And a service that starts while the portal is away.
        let (portal, known) = (Portal::default(), Signing::es256("k1"));
        portal.publishes(&[&known]);
        portal.is_away(true);
        let keys = portal.keys(FetchLimits::default());
        let request = tokio::spawn({
            let keys = keys.clone();
            async move { call(&keys, &known).await }
        });
        tokio::time::sleep(secs(10)).await;
        portal.is_away(false);
        assert_eq!(request.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_answer_keeps_the_keys_and_counts_as_a_fetch() {
        let (portal, known, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &known).await, Ok(()));
        advance(secs(60)).await;
        portal.0.faults.lock().unwrap().push_back(FetchError::Useless("garbage".to_owned()));
        let start = Instant::now();
        assert_eq!(call(&keys, &new).await, Err(TokenError::UnknownKey.into()));
        assert_eq!(start.elapsed(), secs(10), "the garbage is no answer, and the next fetch is 10 s later");
        assert_eq!(call(&keys, &known).await, Ok(()));
        assert_eq!(keys.known(), 1);
        // A portal that publishes nothing at all has not taken its keys back.
        portal.publishes(&[]);
        advance(secs(20)).await;
        assert_eq!(call(&keys, &new).await, Err(VerifyError::NoFetch));
        assert_eq!(call(&keys, &known).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_taken_back_is_gone_with_the_next_refresh() {
        let (portal, first, second) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&first, &second]);
        *portal.0.max_age.lock().unwrap() = Some(secs(120));
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &first).await, Ok(()));
        portal.publishes(&[&second]);
        tokio::time::sleep(secs(121)).await;
        assert_eq!(portal.asked().len(), 2, "refreshed in the background, before max-age was over");
        assert_eq!(call(&keys, &first).await, Err(TokenError::UnknownKey.into()));
        assert_eq!(call(&keys, &second).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn max_age_is_heeded_within_bounds_and_failures_back_off() {
        for (max_age, least, most) in
            [(Some(secs(0)), 48, 60), (None, 240, 300), (Some(secs(1 << 40)), 2880, 3600)]
        {
            let portal = Portal::default();
            portal.publishes(&[&Signing::es256("k1")]);
            *portal.0.max_age.lock().unwrap() = max_age;
            let _keys = portal.keys(FetchLimits::default());
            tokio::time::sleep(secs(3601)).await;
            let asked = portal.asked();
            assert!(
                (secs(least)..=secs(most) + Duration::from_millis(2)).contains(&(asked[1] - asked[0])),
                "{asked:?}"
            );
        }
        let portal = Portal::default();
        portal.is_away(true);
        let _keys = portal.keys(FetchLimits::default());
        tokio::time::sleep(secs(3600)).await;
        assert!(
            (15..=25).contains(&portal.asked().len()),
            "{} fetches in an hour's outage",
            portal.asked().len()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_bounded_and_free_their_places() {
        let (portal, known, stranger) = (Portal::default(), Signing::es256("k1"), Signing::es256("zz"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits { waiters: 2, ..FetchLimits::default() });
        assert_eq!(call(&keys, &known).await, Ok(()));
        for _ in 0..2 {
            let mut waiting: Vec<_> = Vec::new();
            for _ in 0..2 {
                let mut one = Box::pin(call(&keys, &stranger));
                assert!(timeout(Duration::ZERO, &mut one).await.is_err());
                waiting.push(one);
            }
            assert_eq!(call(&keys, &stranger).await, Err(VerifyError::TooManyWaiters));
            assert_eq!(call(&keys, &known).await, Ok(()), "who needs no fetch is not touched");
            // Clients that go away give their places back; the others get their answer.
            drop(waiting.pop());
            assert_eq!(call(&keys, &stranger).await, Err(TokenError::UnknownKey.into()));
            assert_eq!(waiting.pop().unwrap().await, Err(TokenError::UnknownKey.into()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_fetched_for_those_who_have_gone_away() {
        let (portal, known) = (Portal::default(), Signing::es256("k1"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &known).await, Ok(()));
        assert!(timeout(secs(1), call(&keys, &Signing::es256("zz"))).await.is_err());
        tokio::time::sleep(secs(60)).await;
        assert_eq!(portal.asked().len(), 1);
    }
}
