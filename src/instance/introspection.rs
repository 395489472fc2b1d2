//! Introspection of opaque tokens (RFC 7662), with a cache.
//!
//! | response | cache TTL | usable while the issuer is unavailable |
//! |---|---|---|
//! | active | `introspection_ttl` | until its `exp`; for another 10 min if it has none |
//! | not active | 10 s | – |
//!
//! The cache key is the token's SHA-256; tokens are never stored. The rules for tokens are checked at each use, so that
//! no cached response outlives its `exp`. If introspection fails, the token is not rejected.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use moka::Expiry;
use moka::future::Cache;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use url::{Url, form_urlencoded};

use super::circuit_breaker::{CircuitBreaker, FALLBACK_WAIT, pause};
use super::claims::Claims;
use super::fetch_error::FetchError;
use super::portal_http::{bounded, client, unavailable, unexpected_status};
use super::single_flight::SingleFlight;
use super::token_error::TokenError;
use super::token_rules::{Form, TokenRules};
use super::verify_error::VerifyError;
use crate::config::Introspection;
use crate::metrics;

const MAX_BODY: usize = 64 << 10;
const IDLE_CONNECTIONS: usize = 16;
/// Cache TTL for inactive tokens.
const INACTIVE_TTL: Duration = Duration::from_secs(10);
/// Time for which a response without `exp` is used after its TTL, while its issuer is unavailable.
const STALE_WITHOUT_EXPIRY: Duration = Duration::from_mins(10);
/// Maximum time in the cache.
const MAX_CACHED: Duration = Duration::from_hours(24);
/// Maximum number of cached tokens, active and inactive each.
const CACHE_CAPACITY: u64 = 20_000;

/// Maximum time that a call waits for its turn: no request waits longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// Maximum number of concurrent calls for tokens that were never active here. Anyone can invent such tokens; the
/// remaining calls are reserved for known ones.
const MAX_UNSEEN: usize = 48;

/// One issuer's introspection endpoint.
#[derive(Debug)]
pub struct Endpoint {
    client: Client,
    url: Url,
    /// The client's id and secret. Marked as sensitive, so that no `Debug` shows it.
    authorization: HeaderValue,
    breaker: CircuitBreaker,
}

/// The fields of an introspection response other than claims.
#[derive(Deserialize)]
struct Activity {
    active: bool,
    token_type: Option<String>,
    token_use: Option<String>,
}

/// The response for an active token.
#[derive(Clone)]
pub(super) struct Active {
    /// The claims; `None` if it is not an access token.
    claims: Option<Claims>,
}

impl Endpoint {
    /// Sends no request yet.
    pub fn new(at: &Introspection) -> Result<Self, reqwest::Error> {
        // Each half is form-urlencoded first (RFC 6749, 2.3.1), because a colon separates them.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&at.client_id), encoded(at.client_secret.expose_secret()));
        let mut authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
            .expect("base64 is a valid header value");
        authorization.set_sensitive(true);
        let breaker =
            CircuitBreaker::new(format!("introspection at {}", at.url.origin().ascii_serialization()));
        Ok(Self { client: client(IDLE_CONNECTIONS)?, url: at.url.clone(), authorization, breaker })
    }

    /// Introspects a token once. Returns `None` if it is not active.
    pub(super) async fn ask(&self, token: &SecretString) -> Result<Option<Active>, FetchError> {
        let answer = self.answer(token.expose_secret()).await;
        self.breaker.record(&answer);
        metrics::introspected(match &answer {
            Ok(Some(_)) => "active",
            Ok(None) => "inactive",
            Err(error) => error.kind(),
        });
        answer
    }

    async fn answer(&self, token: &str) -> Result<Option<Active>, FetchError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let response = self
            .client
            .post(self.url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .map_err(unavailable)?;
        if response.status() != StatusCode::OK {
            return Err(unexpected_status(response.status(), "check the introspection client ID and secret"));
        }
        read(&bounded(response, MAX_BODY).await?)
    }
}

/// Parses a response. Returns `None` if the token is not active.
pub(super) fn read(body: &[u8]) -> Result<Option<Active>, FetchError> {
    // Without serde's own text: it may quote values, which must not reach the log.
    let invalid = |error: nas_cron_protocol::json::Error| {
        let (line, column) = (error.line(), error.column());
        let what = error.problem().map_or_else(|| "error".to_owned(), |problem| problem.to_string());
        FetchError::Invalid(format!(
            "not an introspection response (RFC 7662): {what} at line {line} column {column}"
        ))
    };
    let activity: Activity = nas_cron_protocol::json::from_slice(body).map_err(invalid)?;
    if !activity.active {
        return Ok(None);
    }
    let is =
        |word: &Option<String>, one: &str| word.as_ref().is_none_or(|word| word.eq_ignore_ascii_case(one));
    let access = (is(&activity.token_type, "Bearer") || is(&activity.token_type, "access_token"))
        && is(&activity.token_use, "access_token");
    if !access {
        return Ok(Some(Active { claims: None }));
    }
    let claims: Claims = nas_cron_protocol::json::from_slice(body).map_err(invalid)?;
    if !claims.are_short() {
        return Err(FetchError::Invalid("the token's claims are too long".to_owned()));
    }
    Ok(Some(Active { claims: Some(claims) }))
}

/// The cached response for an active token.
#[derive(Clone)]
struct Known {
    active: Arc<Active>,
    fresh_until: Instant,
    usable_until: Instant,
}

impl Expiry<[u8; 32], Known> for ByValue {
    fn expire_after_create(&self, _: &[u8; 32], known: &Known, _: std::time::Instant) -> Option<Duration> {
        Some(known.usable_until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        _: &[u8; 32],
        known: &Known,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.usable_until.saturating_duration_since(Instant::now()))
    }
}

struct ByValue;

/// The result of a call.
#[derive(Clone)]
enum Outcome {
    Active(Known),
    Inactive,
    Unavailable,
}

/// All endpoints, with the cache of their responses.
pub(super) struct Introspections {
    endpoints: Vec<Endpoint>,
    ttl: Duration,
    active: Cache<[u8; 32], Known>,
    inactive: Cache<[u8; 32], ()>,
    single_flight: Arc<SingleFlight<[u8; 32], Outcome>>,
    unseen: Semaphore,
}

impl std::fmt::Debug for Introspections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspections").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Introspections {
    pub(super) fn new(endpoints: Vec<Endpoint>, ttl: Duration) -> Arc<Self> {
        Arc::new(Self {
            endpoints,
            ttl,
            active: Cache::builder().max_capacity(CACHE_CAPACITY).expire_after(ByValue).build(),
            inactive: Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(INACTIVE_TTL).build(),
            single_flight: SingleFlight::new(),
            unseen: Semaphore::new(MAX_UNSEEN),
        })
    }

    /// Returns the claims of an active token, if they satisfy `rules`. The token itself determines its endpoint `at`,
    /// so no other endpoint ever receives it. Waits for a response until `deadline`, or for [`FALLBACK_WAIT`] if a
    /// cached one is usable.
    pub(super) async fn ask(
        self: &Arc<Self>,
        token: &str,
        at: usize,
        rules: &TokenRules,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Claims, VerifyError> {
        let known = self.known(token, at, now, deadline).await?;
        let claims = known.active.claims.as_ref().ok_or(TokenError::NotAccess)?;
        rules.judge(claims, now, Form::Introspected)?;
        Ok(claims.clone())
    }

    async fn known(
        self: &Arc<Self>,
        token: &str,
        at: usize,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Known, VerifyError> {
        let hash = sha256(token);
        loop {
            let known = self.active.get(&hash).await;
            if let Some(known) = &known
                && Instant::now() < known.fresh_until
            {
                return Ok(known.clone());
            }
            if self.inactive.contains_key(&hash) {
                return Err(TokenError::Inactive.into());
            }
            let usable = known.filter(|known| Instant::now() < known.usable_until);
            let begin = || {
                let (this, token) = (Arc::clone(self), SecretString::from(token));
                async move { this.call(hash, token, at, now).await }
            };
            let Some(flight) = self.single_flight.join(hash, begin) else {
                return usable.ok_or(VerifyError::TooManyWaiters);
            };
            let patience = match &usable {
                // The call has been started anyway, so that an open circuit does not keep a revoked token valid.
                Some(known) if self.endpoints[at].breaker.is_open() => return Ok(known.clone()),
                Some(_) => deadline.min(Instant::now() + FALLBACK_WAIT),
                None => deadline,
            };
            match (flight.result(patience).await, usable) {
                (Some(Outcome::Inactive), _) => return Err(TokenError::Inactive.into()),
                (Some(Outcome::Active(known)), _) | (_, Some(known)) => return Ok(known),
                (Some(Outcome::Unavailable) | None, None) => {}
            }
            let pause = pause();
            if Instant::now() + pause >= deadline {
                return Err(VerifyError::IntrospectionUnavailable);
            }
            sleep(pause).await;
        }
    }

    async fn call(&self, hash: [u8; 32], token: SecretString, at: usize, now: DateTime<Utc>) -> Outcome {
        let began = Instant::now();
        let never_seen = !self.active.contains_key(&hash);
        let permits = async {
            let unseen = if never_seen { self.unseen.acquire().await.ok() } else { None };
            (unseen, self.single_flight.permit().await)
        };
        let Ok(_permits) = timeout_at(began + CALL_TIMEOUT, permits).await else {
            return Outcome::Unavailable;
        };
        if never_seen && !self.single_flight.is_awaited(&hash) {
            return Outcome::Unavailable;
        }
        // Another call may have completed while this one waited for its permit.
        if let Some(known) = self.active.get(&hash).await
            && Instant::now() < known.fresh_until
        {
            return Outcome::Active(known);
        }
        match self.endpoints[at].ask(&token).await {
            Ok(Some(active)) => {
                let known = self.remember(active, now);
                self.active.insert(hash, known.clone()).await;
                Outcome::Active(known)
            }
            Ok(None) => {
                self.active.invalidate(&hash).await;
                self.inactive.insert(hash, ()).await;
                Outcome::Inactive
            }
            Err(_) => Outcome::Unavailable,
        }
    }

    fn remember(&self, active: Active, now: DateTime<Utc>) -> Known {
        let expiry = active.claims.as_ref().and_then(Claims::expiry);
        let usable = expiry.map_or(self.ttl + STALE_WITHOUT_EXPIRY, |expiry| {
            Duration::from_secs(u64::try_from(expiry.saturating_sub(now.timestamp())).unwrap_or(0))
                .min(MAX_CACHED)
        });
        let asked = Instant::now();
        Known {
            active: Arc::new(active),
            fresh_until: asked + self.ttl.min(usable),
            usable_until: asked + usable,
        }
    }
}

fn sha256(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// Introspects an invented token, for `nas-cron doctor`. Returns true if the endpoint calls it active.
pub async fn probe(at: &Introspection) -> Result<bool, String> {
    let endpoint = Endpoint::new(at).map_err(|error| error.to_string())?;
    let invented = SecretString::from(uuid::Uuid::new_v4().to_string());
    let answer = endpoint.ask(&invented).await.map_err(|error| error.to_string())?;
    Ok(answer.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &str) -> &'static str {
        match read(body.as_bytes()) {
            Ok(None) => "inactive",
            Ok(Some(Active { claims: None })) => "not an access token",
            Ok(Some(_)) => "active",
            Err(FetchError::Invalid(_)) => "invalid",
            Err(FetchError::Unavailable(_)) => "unavailable",
        }
    }

    #[test]
    fn responses_are_classified() {
        for (body, expected) in [
            (r#"{"active":true}"#, "active"),
            (r#"{"active":true,"token_type":"bearer","exp":1,"client_id":"agent:a"}"#, "active"),
            (r#"{"active":true,"token_type":"access_token","token_use":"access_token"}"#, "active"),
            (r#"{"active":false}"#, "inactive"),
            (r#"{"active":false,"exp":"odd"}"#, "inactive"),
            (r#"{"active":true,"token_type":"refresh_token"}"#, "not an access token"),
            (r#"{"active":true,"token_type":"DPoP"}"#, "not an access token"),
            (r#"{"active":true,"token_use":"refresh_token"}"#, "not an access token"),
            (r#"{"active":"true"}"#, "invalid"),
            (r#"{"active":true,"exp":"soon"}"#, "invalid"),
            (r#"{"active":true,"sid":"a","sid":"b"}"#, "invalid"),
            (&format!(r#"{{"active":true,"sid":"{}"}}"#, "s".repeat(255)), "active"),
            (&format!(r#"{{"active":true,"sid":"{}"}}"#, "s".repeat(301)), "invalid"),
            (&format!(r#"{{"active":true,"aud":"{}"}}"#, "a".repeat(5_000)), "invalid"),
            ("{}", "invalid"),
            ("<html>", "invalid"),
            ("[true, null, null]", "invalid"),
            ("", "invalid"),
        ] {
            assert_eq!(kind(body), expected, "{body}");
        }
        for invalid in [&b"{\"active\":true,\"scope\":\"\xff\"}"[..], b"{\"active\":false,\"\xff\":1}"] {
            assert!(matches!(read(invalid), Err(FetchError::Invalid(_))), "invalid UTF-8");
        }
    }

    #[test]
    fn client_credentials_are_form_encoded_and_never_shown() {
        let at = Introspection {
            url: "https://portal.example/introspect".parse().unwrap(),
            client_id: "a:b c".to_owned(),
            client_secret: "p%s".to_owned().into(),
        };
        let endpoint = Endpoint::new(&at).unwrap();
        // RFC 6749, 2.3.1: application/x-www-form-urlencoded, so a space is a plus.
        assert_eq!(endpoint.authorization, format!("Basic {}", STANDARD.encode("a%3Ab+c:p%25s")));
        assert!(!format!("{endpoint:?}").contains("Basic"), "{endpoint:?}");
    }
}
