//! Opaque tokens: their issuer is asked what they stand for (RFC 7662), and its answer is remembered.
//!
//! | the answer | is taken as it is | while the issuer is away |
//! |---|---|---|
//! | active | for `introspection_ttl` | until its `exp`; 10 min where it has none |
//! | not active | 10 s | – |
//!
//! Remembered under the token's SHA-256: a token is never kept. Its rules are judged anew whenever it is used, so that
//! no memory outlives an `exp`. What cannot be known is no refusal.

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

use super::circuit_breaker::{CircuitBreaker, PATIENCE, pause};
use super::claims::Claims;
use super::fetch_error::FetchError;
use super::portal_http::{away, bounded, client, no_answer};
use super::single_flight::SingleFlight;
use super::token_error::TokenError;
use super::token_rules::{Form, TokenRules};
use super::verify_error::VerifyError;
use crate::config::Introspection;
use crate::metrics;

const MAX_BODY: usize = 64 << 10;
const IDLE_CONNECTIONS: usize = 16;
/// How long it is remembered that a token is not active.
const INACTIVE_TTL: Duration = Duration::from_secs(10);
/// How long beyond its time an answer without `exp` is used, while its issuer is away.
const STALE_WITHOUT_EXPIRY: Duration = Duration::from_mins(10);
/// Nothing is remembered for longer.
const LONGEST: Duration = Duration::from_hours(24);
/// How many tokens are remembered, active and not.
const REMEMBERED: u64 = 20_000;

/// How long a question is worth asking: no request waits for longer.
const WORTH: Duration = Duration::from_secs(12);
/// How many questions at once are about tokens that were never seen, which anybody can make up: the other turns are for
/// those that are known.
const STRANGERS: usize = 48;

/// One issuer's introspection endpoint.
#[derive(Debug)]
pub struct Endpoint {
    client: Client,
    url: Url,
    /// The client's id and secret. Marked as sensitive, so that no `Debug` shows it.
    authorization: HeaderValue,
    breaker: CircuitBreaker,
}

/// What an endpoint says of a token, beside its claims.
#[derive(Deserialize)]
struct Activity {
    active: bool,
    token_type: Option<String>,
    token_use: Option<String>,
}

/// What is said of an active token.
#[derive(Clone)]
pub(super) struct Active {
    /// `None`: it is active, and no access token.
    claims: Option<Claims>,
}

impl Endpoint {
    /// Not asked yet.
    pub fn new(at: &Introspection) -> Result<Self, reqwest::Error> {
        // Each half is form-urlencoded first (RFC 6749, 2.3.1): a colon in the id would end it.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&at.client_id), encoded(at.client_secret.expose_secret()));
        let mut authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
            .expect("base64 is fit for a header");
        authorization.set_sensitive(true);
        let breaker =
            CircuitBreaker::new(format!("introspection at {}", at.url.origin().ascii_serialization()));
        Ok(Self { client: client(IDLE_CONNECTIONS)?, url: at.url.clone(), authorization, breaker })
    }

    /// Asks about a token once. `None`: it is not active.
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
            .map_err(away)?;
        if response.status() != StatusCode::OK {
            return Err(no_answer(response.status(), "are the introspection client and its secret right?"));
        }
        read(&bounded(response, MAX_BODY).await?)
    }
}

/// Reads an answer.
fn read(body: &[u8]) -> Result<Option<Active>, FetchError> {
    // Positions and fields, never values: serde's own text may quote what is none of the log's business.
    let odd = |error: serde_json::Error| {
        FetchError::Useless(format!(
            "no answer of RFC 7662, at line {} column {}",
            error.line(),
            error.column()
        ))
    };
    // An array would do for serde's derive.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(FetchError::Useless("no answer of RFC 7662: not a JSON object".to_owned()));
    }
    let activity: Activity = serde_json::from_slice(body).map_err(odd)?;
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
    let claims: Claims = serde_json::from_slice(body).map_err(odd)?;
    if !claims.are_short() {
        return Err(FetchError::Useless("its claims are too long to be remembered".to_owned()));
    }
    Ok(Some(Active { claims: Some(claims) }))
}

/// What is remembered of a token that was active.
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

/// How asking ended.
#[derive(Clone)]
enum Asked {
    Active(Known),
    Inactive,
    NoAnswer,
}

/// Every endpoint there is, and what they said.
pub(super) struct Introspections {
    endpoints: Vec<Endpoint>,
    ttl: Duration,
    active: Cache<[u8; 32], Known>,
    inactive: Cache<[u8; 32], ()>,
    single_flight: Arc<SingleFlight<[u8; 32], Asked>>,
    strangers: Semaphore,
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
            active: Cache::builder().max_capacity(REMEMBERED).expire_after(ByValue).build(),
            inactive: Cache::builder().max_capacity(REMEMBERED).time_to_live(INACTIVE_TTL).build(),
            single_flight: SingleFlight::new(),
            strangers: Semaphore::new(STRANGERS),
        })
    }

    /// The claims of an active token that keep these rules. Whose it is tells the token itself, so it is always the same
    /// endpoint `at` that is asked, and no other ever sees it. Waits for an answer until `deadline`; where one is
    /// remembered that may still be used, only for a moment.
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
                async move { this.fly(hash, token, at, now).await }
            };
            let Some(flight) = self.single_flight.join(hash, begin) else {
                return usable.ok_or(VerifyError::TooManyWaiters);
            };
            let patience = match &usable {
                // Asked all the same: that others had no answer must not keep a revoked one good.
                Some(known) if self.endpoints[at].breaker.is_open() => return Ok(known.clone()),
                Some(_) => deadline.min(Instant::now() + PATIENCE),
                None => deadline,
            };
            match (flight.landed(patience).await, usable) {
                (Some(Asked::Inactive), _) => return Err(TokenError::Inactive.into()),
                (Some(Asked::Active(known)), _) | (_, Some(known)) => return Ok(known),
                (Some(Asked::NoAnswer) | None, None) => {}
            }
            let pause = pause();
            if Instant::now() + pause >= deadline {
                return Err(VerifyError::NoAnswer);
            }
            sleep(pause).await;
        }
    }

    async fn fly(&self, hash: [u8; 32], token: SecretString, at: usize, now: DateTime<Utc>) -> Asked {
        let boarded = Instant::now();
        let never_seen = !self.active.contains_key(&hash);
        let turn = async {
            let stranger = if never_seen { self.strangers.acquire().await.ok() } else { None };
            (stranger, self.single_flight.turn().await)
        };
        let Ok(_turn) = timeout_at(boarded + WORTH, turn).await else { return Asked::NoAnswer };
        if never_seen && !self.single_flight.is_awaited(&hash) {
            return Asked::NoAnswer;
        }
        // Somebody may have landed while this one was boarded.
        if let Some(known) = self.active.get(&hash).await
            && Instant::now() < known.fresh_until
        {
            return Asked::Active(known);
        }
        match self.endpoints[at].ask(&token).await {
            Ok(Some(active)) => {
                let known = self.remember(active, now);
                self.active.insert(hash, known.clone()).await;
                Asked::Active(known)
            }
            Ok(None) => {
                self.active.invalidate(&hash).await;
                self.inactive.insert(hash, ()).await;
                Asked::Inactive
            }
            Err(_) => Asked::NoAnswer,
        }
    }

    fn remember(&self, active: Active, now: DateTime<Utc>) -> Known {
        let expiry = active.claims.as_ref().and_then(Claims::expiry);
        let usable = expiry.map_or(self.ttl + STALE_WITHOUT_EXPIRY, |expiry| {
            Duration::from_secs(u64::try_from(expiry.saturating_sub(now.timestamp())).unwrap_or(0))
                .min(LONGEST)
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

/// Asks about a token that nobody has issued: for `nas-cron doctor`. Whether the endpoint takes it for active.
pub async fn probe(at: &Introspection) -> Result<bool, String> {
    let endpoint = Endpoint::new(at).map_err(|error| error.to_string())?;
    let invented = SecretString::from(uuid::Uuid::new_v4().to_string());
    let answer = endpoint.ask(&invented).await.map_err(|error| error.to_string())?;
    Ok(answer.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(body: &str) -> &'static str {
        match read(body.as_bytes()) {
            Ok(None) => "inactive",
            Ok(Some(Active { claims: None })) => "no access token",
            Ok(Some(_)) => "active",
            Err(FetchError::Useless(_)) => "useless",
            Err(FetchError::Away(_)) => "away",
        }
    }

    #[test]
    fn answers_are_told_apart() {
        for (body, expected) in [
            (r#"{"active":true}"#, "active"),
            (r#"{"active":true,"token_type":"bearer","exp":1,"client_id":"agent:a"}"#, "active"),
            (r#"{"active":true,"token_type":"access_token","token_use":"access_token"}"#, "active"),
            (r#"{"active":false}"#, "inactive"),
            (r#"{"active":false,"exp":"odd"}"#, "inactive"),
            (r#"{"active":true,"token_type":"refresh_token"}"#, "no access token"),
            (r#"{"active":true,"token_type":"DPoP"}"#, "no access token"),
            (r#"{"active":true,"token_use":"refresh_token"}"#, "no access token"),
            (r#"{"active":"true"}"#, "useless"),
            (r#"{"active":true,"exp":"soon"}"#, "useless"),
            (r#"{"active":true,"sid":"a","sid":"b"}"#, "useless"),
            (&format!(r#"{{"active":true,"sid":"{}"}}"#, "s".repeat(255)), "active"),
            (&format!(r#"{{"active":true,"sid":"{}"}}"#, "s".repeat(301)), "useless"),
            (&format!(r#"{{"active":true,"aud":"{}"}}"#, "a".repeat(5_000)), "useless"),
            ("{}", "useless"),
            ("<html>", "useless"),
            ("[true, null, null]", "useless"),
            ("", "useless"),
        ] {
            assert_eq!(what(body), expected, "{body}");
        }
    }

    #[test]
    fn the_client_is_encoded_before_it_is_joined_and_never_shown() {
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
