//! Keys of a JWKS URL: fetched, cached and refreshed.
//!
//! A token with an unknown key is rejected only after a fetch that *began after the request arrived*
//! (docs/contract.md#authentication). Until then the request waits; if no such fetch succeeds, the token is not
//! rejected. There is one fetch at a time, and all waiting requests share the next one. Therefore a caller with a
//! thousand invented `kid`s causes no more fetches than one agent with a new key, and does not delay that agent.
//!
//! | result of the last fetch | next fetch while requests wait | next fetch otherwise |
//! |---|---|---|
//! | a valid or invalid response | 10 s after it began | after `max-age`; back-off of up to 5 min after an invalid response |
//! | no response, or a 5xx | 1 s after it ended, to detect a recovered portal quickly | back-off of up to 5 min |
//!
//! A key is dropped only when the portal publishes a usable set without it. During an outage, however long, known keys
//! stay valid.

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

/// Default `max-age` of a response without one; real portals send this value.
const DEFAULT_AGE: Duration = Duration::from_mins(5);
/// Maximum pause after failures while no request waits.
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// Keys of a JWKS URL. Initially empty. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct FetchedKeys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: watch::Sender<Current>,
    /// Number of fetches that have begun. Fetches are numbered from 1.
    begun: AtomicU64,
    /// Number of the first fetch that satisfies all waiting requests.
    wanted: AtomicU64,
    called_for: Notify,
    waiters: Semaphore,
    limits: FetchLimits,
}

#[derive(Clone, Debug, Default)]
struct Current {
    keys: Arc<KeySet>,
    /// Number of the fetch that returned the keys; 0 before the first.
    fetch: u64,
}

/// The task that fetches the keys of a JWKS URL. Unless it runs, unknown keys stay unknown.
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
    /// Returns the keys, and the task that fetches them with `fetch` within `limits`.
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
        // The first fetch that begins after the request arrived.
        let needed = self.begun.load(Ordering::SeqCst) + 1;
        let mut current = self.current.subscribe();
        let mut waiting = None;
        loop {
            // Cloned, so that the lock is not held while the signature is verified.
            let now = current.borrow_and_update().clone();
            match now.keys.verify(token) {
                Ok(claims) => return Ok(claims),
                Err(NotVerified::Refused(error)) => return Err(error.into()),
                Err(NotVerified::UnknownKey) if now.fetch >= needed => {
                    return Err(TokenError::UnknownKey.into());
                }
                Err(NotVerified::UnknownKey) => {}
            }
            if waiting.is_none() {
                waiting = Some(self.waiters.try_acquire().map_err(|_| VerifyError::TooManyWaiters)?);
                self.wanted.fetch_max(needed, Ordering::SeqCst);
                self.called_for.notify_one();
            }
            match timeout_at(deadline, current.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives in `self`, so only the deadline ends the wait.
                Ok(Err(_)) | Err(_) => return Err(VerifyError::KeysUnavailable),
            }
        }
    }

    /// True if a request waits for a fetch later than number `last`.
    fn is_called_for(&self, last: u64) -> bool {
        self.waiters.available_permits() < self.limits.waiters && self.wanted.load(Ordering::SeqCst) > last
    }
}

impl KeyRefresh {
    /// Fetches at once, then whenever the keys are due for a refresh or requests wait. Never returns; drop it to end
    /// it.
    pub async fn run(self) {
        let limits = self.shared.limits;
        // The number of the last successful fetch, and the failures since.
        let (mut last, mut failures) = (0, 0_u32);
        let (mut if_called_for, mut anyway) = (Instant::now(), Instant::now());
        loop {
            let next = if self.shared.is_called_for(last) { if_called_for.min(anyway) } else { anyway };
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
            if began < anyway && !self.shared.is_called_for(last) {
                // The waiting requests have been cancelled.
                continue;
            }
            let number = self.shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let outcome = (self.fetch)().await;
            let answered = matches!(outcome, Ok(_) | Err(FetchError::Invalid(_)));
            if_called_for = if answered { began + limits.spacing } else { Instant::now() + limits.retry };
            let rest = match outcome {
                Ok(fetched) => {
                    if failures > 0 || last == 0 {
                        tracing::info!(keys = fetched.keys.len(), "portal keys fetched");
                    }
                    (last, failures) = (number, 0);
                    self.shared.current.send_replace(Current { keys: Arc::new(fetched.keys), fetch: number });
                    fetched.max_age.unwrap_or(DEFAULT_AGE).clamp(limits.min_age, limits.max_age)
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let known = self.shared.current.borrow().keys.len();
                    // Log the failures number 1, 2, 4, 8, … in a row.
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, known, "fetching the portal's keys failed; known keys stay valid");
                    }
                    limits.retry.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF)
                }
            };
            // With jitter, so that replicas that started together do not fetch together.
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

    /// A portal without a network.
    #[derive(Clone, Default)]
    struct Portal(Arc<PortalState>);

    #[derive(Default)]
    struct PortalState {
        published: Mutex<Vec<Signing>>,
        /// Errors that it returns before it returns its keys.
        faults: Mutex<VecDeque<FetchError>>,
        unavailable: AtomicBool,
        takes: Mutex<Duration>,
        max_age: Mutex<Option<Duration>>,
        /// The times at which its keys were fetched.
        fetches: Mutex<Vec<Instant>>,
    }

    impl Portal {
        fn publishes(&self, keys: &[&Signing]) {
            *self.0.published.lock().unwrap() = keys.iter().map(|key| (*key).clone()).collect();
        }

        fn set_unavailable(&self, unavailable: bool) {
            self.0.unavailable.store(unavailable, Ordering::SeqCst);
        }

        fn fetches(&self) -> Vec<Instant> {
            self.0.fetches.lock().unwrap().clone()
        }

        /// Its keys in a service whose refresh is running.
        fn keys(&self, limits: FetchLimits) -> FetchedKeys {
            let state = Arc::clone(&self.0);
            let fetch: Fetch = Box::new(move || {
                let state = Arc::clone(&state);
                Box::pin(async move {
                    state.fetches.lock().unwrap().push(Instant::now());
                    // A response contains the keys that were published when the fetch began.
                    let body = jwks(&*state.published.lock().unwrap());
                    let takes = *state.takes.lock().unwrap();
                    tokio::time::sleep(takes).await;
                    if state.unavailable.load(Ordering::SeqCst) {
                        return Err(FetchError::Unavailable("refused".to_owned()));
                    }
                    if let Some(fault) = state.faults.lock().unwrap().pop_front() {
                        return Err(fault);
                    }
                    let keys =
                        KeySet::from_jwks(&body).map_err(|error| FetchError::Invalid(error.to_string()))?;
                    Ok(Fetched { keys, max_age: *state.max_age.lock().unwrap() })
                })
            });
            let (keys, refresh) = FetchedKeys::new(fetch, limits);
            tokio::spawn(refresh.run());
            keys
        }
    }

    /// One request with a token that this key signed; its deadline is `BUDGET` from now.
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
        let (portal, known, unknown) = (Portal::default(), Signing::es256("k1"), Signing::es256("zz"));
        portal.publishes(&[&known]);
        *portal.0.takes.lock().unwrap() = secs(1);
        let keys = portal.keys(FetchLimits::default());
        // The request arrives during the first fetch, which therefore does not count.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let arrived = Instant::now();
        assert_eq!(call(&keys, &unknown).await, Err(TokenError::UnknownKey.into()));
        let fetches = portal.fetches();
        assert_eq!(fetches.len(), 2);
        assert!(fetches[1] > arrived && fetches[1] - fetches[0] >= secs(10), "one fetch in 10 s");
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
        assert_eq!((start.elapsed(), portal.fetches().len()), (Duration::ZERO, 1));
        // Another key with a known `kid` is rejected at once.
        assert_eq!(call(&keys, &Signing::es256("k1")).await, Err(TokenError::Signature.into()));
        assert_eq!((start.elapsed(), portal.fetches().len()), (Duration::ZERO, 1));
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
        assert_eq!((start.elapsed(), portal.fetches().len()), (Duration::ZERO, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn invented_kids_cannot_starve_a_legitimate_new_key() {
        let (portal, old, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&old]);
        *portal.0.takes.lock().unwrap() = Duration::from_millis(200);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &old).await, Ok(()));
        // A minute of invented kids, 100 a second.
        let start = Instant::now();
        let mut flood = JoinSet::new();
        let mut agents = JoinSet::new();
        let mut unknown = Signing::es256("");
        for n in 0..6000 {
            unknown.kid = Some(format!("invented-{n}"));
            flood.spawn({
                let (keys, unknown) = (keys.clone(), unknown.clone());
                async move { call(&keys, &unknown).await }
            });
            if n == 2345 {
                portal.publishes(&[&old, &new]);
            }
            // Agents with the new key at any point of the cycle, and agents with the old key all the time.
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
        let fetches = portal.fetches();
        assert!(fetches.windows(2).all(|pair| pair[1] - pair[0] >= secs(10)), "{fetches:?}");
        assert!(start.elapsed() < secs(80) && fetches.len() <= 9, "{}", fetches.len());
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
        assert_eq!(portal.fetches().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_key_is_not_rejected_while_the_portal_is_unavailable() {
        let (portal, known, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &known).await, Ok(()));
        portal.set_unavailable(true);
        let start = Instant::now();
        assert_eq!(call(&keys, &new).await, Err(VerifyError::KeysUnavailable));
        assert_eq!(start.elapsed(), BUDGET, "within the budget");
        // Known keys stay valid.
        for _ in 0..100 {
            advance(secs(3600)).await;
            assert_eq!(call(&keys, &known).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_portal_outage_of_ten_seconds_makes_a_request_fail() {
        // A caller with an unknown key may have caused a fetch right before the outage.
        for before in [0, 1, 3, 9, 30] {
            let (portal, old, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
            portal.publishes(&[&old]);
            let keys = portal.keys(FetchLimits::default());
            assert_eq!(call(&keys, &old).await, Ok(()));
            advance(secs(before)).await;
            portal.set_unavailable(true);
            portal.publishes(&[&old, &new]);
            let request = tokio::spawn({
                let (keys, new) = (keys.clone(), new.clone());
                async move { call(&keys, &new).await }
            });
            tokio::time::sleep(secs(10)).await;
            portal.set_unavailable(false);
            assert_eq!(request.await.unwrap(), Ok(()), "{before} s after a fetch");
        }
        // The service may also start during the outage.
        let (portal, known) = (Portal::default(), Signing::es256("k1"));
        portal.publishes(&[&known]);
        portal.set_unavailable(true);
        let keys = portal.keys(FetchLimits::default());
        let request = tokio::spawn({
            let keys = keys.clone();
            async move { call(&keys, &known).await }
        });
        tokio::time::sleep(secs(10)).await;
        portal.set_unavailable(false);
        assert_eq!(request.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn invalid_response_keeps_the_keys_and_counts_as_a_fetch() {
        let (portal, known, new) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &known).await, Ok(()));
        advance(secs(60)).await;
        portal.0.faults.lock().unwrap().push_back(FetchError::Invalid("garbage".to_owned()));
        let start = Instant::now();
        assert_eq!(call(&keys, &new).await, Err(TokenError::UnknownKey.into()));
        assert_eq!(
            start.elapsed(),
            secs(10),
            "an invalid response proves nothing, and the next fetch is 10 s later"
        );
        assert_eq!(call(&keys, &known).await, Ok(()));
        assert_eq!(keys.known(), 1);
        // An empty set does not withdraw the known keys.
        portal.publishes(&[]);
        advance(secs(20)).await;
        assert_eq!(call(&keys, &new).await, Err(VerifyError::KeysUnavailable));
        assert_eq!(call(&keys, &known).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn withdrawn_key_is_dropped_by_the_next_refresh() {
        let (portal, first, second) = (Portal::default(), Signing::es256("k1"), Signing::es256("k2"));
        portal.publishes(&[&first, &second]);
        *portal.0.max_age.lock().unwrap() = Some(secs(120));
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &first).await, Ok(()));
        portal.publishes(&[&second]);
        tokio::time::sleep(secs(121)).await;
        assert_eq!(portal.fetches().len(), 2, "refreshed in the background, before max-age was over");
        assert_eq!(call(&keys, &first).await, Err(TokenError::UnknownKey.into()));
        assert_eq!(call(&keys, &second).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn max_age_is_respected_within_limits_and_failures_back_off() {
        for (max_age, least, most) in
            [(Some(secs(0)), 48, 60), (None, 240, 300), (Some(secs(1 << 40)), 2880, 3600)]
        {
            let portal = Portal::default();
            portal.publishes(&[&Signing::es256("k1")]);
            *portal.0.max_age.lock().unwrap() = max_age;
            let _keys = portal.keys(FetchLimits::default());
            tokio::time::sleep(secs(3601)).await;
            let fetches = portal.fetches();
            assert!(
                (secs(least)..=secs(most) + Duration::from_millis(2)).contains(&(fetches[1] - fetches[0])),
                "{fetches:?}"
            );
        }
        let portal = Portal::default();
        portal.set_unavailable(true);
        let _keys = portal.keys(FetchLimits::default());
        tokio::time::sleep(secs(3600)).await;
        assert!(
            (15..=25).contains(&portal.fetches().len()),
            "{} fetches in an hour's outage",
            portal.fetches().len()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_requests_are_limited_and_free_their_places() {
        let (portal, known, unknown) = (Portal::default(), Signing::es256("k1"), Signing::es256("zz"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits { waiters: 2, ..FetchLimits::default() });
        assert_eq!(call(&keys, &known).await, Ok(()));
        for _ in 0..2 {
            let mut waiting: Vec<_> = Vec::new();
            for _ in 0..2 {
                let mut one = Box::pin(call(&keys, &unknown));
                assert!(timeout(Duration::ZERO, &mut one).await.is_err());
                waiting.push(one);
            }
            assert_eq!(call(&keys, &unknown).await, Err(VerifyError::TooManyWaiters));
            assert_eq!(call(&keys, &known).await, Ok(()), "a request with a known key is not affected");
            // Cancelled requests free their places; the others get their response.
            drop(waiting.pop());
            assert_eq!(call(&keys, &unknown).await, Err(TokenError::UnknownKey.into()));
            assert_eq!(waiting.pop().unwrap().await, Err(TokenError::UnknownKey.into()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_fetched_for_cancelled_requests() {
        let (portal, known) = (Portal::default(), Signing::es256("k1"));
        portal.publishes(&[&known]);
        let keys = portal.keys(FetchLimits::default());
        assert_eq!(call(&keys, &known).await, Ok(()));
        assert!(timeout(secs(1), call(&keys, &Signing::es256("zz"))).await.is_err());
        tokio::time::sleep(secs(60)).await;
        assert_eq!(portal.fetches().len(), 1);
    }
}
