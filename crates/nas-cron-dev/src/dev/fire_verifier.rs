//! Verifies fire tokens as a real agent does: with the JWKS that it fetches over HTTP during the fire, caches for 300 s,
//! and fetches again for an unknown `kid` (docs/clients.md#on-the-wire, docs/contract.md#fire-token).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use nas_cron_base::clock::Clock;
use nas_cron_base::http_client;
use nas_cron_protocol::AuthChoice;
use nas_cron_protocol::fire::FIRE_PURPOSE;
use reqwest::Client;
use serde::Deserialize;
use url::Url;

const JWKS_TTL: TimeDelta = TimeDelta::seconds(300);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Leeway for `exp`, `nbf` and `iat`, in seconds.
const LEEWAY: i64 = 30;
const ALGORITHMS: [Algorithm; 2] = [Algorithm::ES256, Algorithm::RS256];

/// A reason to reject a fire token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unverified {
    #[error("the request has no bearer token")]
    Missing,
    #[error("the token is not a JWT: {0}")]
    Malformed(#[source] jsonwebtoken::errors::Error),
    #[error("the token's header has no kid")]
    NoKid,
    #[error("the token's algorithm is {0:?}, not ES256 or RS256")]
    Algorithm(Algorithm),
    #[error("fetching the JWKS failed: {0}")]
    Jwks(String),
    #[error("the JWKS has no key {0}")]
    UnknownKey(String),
    #[error("the signature or a claim is invalid: {0}")]
    Signature(#[source] jsonwebtoken::errors::Error),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token's aud is not {0}")]
    Audience(String),
    #[error("the token's iss is {0}, which is not portal_url byte for byte")]
    Issuer(String),
    #[error("the token's purpose is not cron_fire")]
    Purpose,
    #[error("the token's job_id, fire_at or auth differs from the body's")]
    OtherFire,
}

/// The claims of a verified fire token.
#[derive(Debug, Deserialize)]
pub(crate) struct FireClaims {
    iss: String,
    aud: Audience,
    purpose: Option<String>,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    job_id: Option<String>,
    fire_at: Option<String>,
    auth: Option<AuthChoice>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl FireClaims {
    /// Checks that the token was minted for this fire. Real agents do not check this, but a token for another fire is a
    /// fault of the service. `auth` must be the same in token and body, or in neither: the body alone is not signed.
    pub(crate) fn check_fire(
        &self,
        job_id: &str,
        fire_at: &str,
        auth: Option<&AuthChoice>,
    ) -> Result<(), Unverified> {
        let is = |claim: &Option<String>, value: &str| claim.as_deref().is_none_or(|claim| claim == value);
        if is(&self.job_id, job_id) && is(&self.fire_at, fire_at) && self.auth.as_ref() == auth {
            Ok(())
        } else {
            Err(Unverified::OtherFire)
        }
    }
}

/// Verifies the tokens of one service.
#[derive(Debug)]
pub(crate) struct FireVerifier {
    http: Client,
    jwks_url: Url,
    issuer: String,
    clock: Arc<dyn Clock>,
    /// Locked during a fetch, so that concurrent callers wait for its result.
    keys: tokio::sync::Mutex<Option<Keys>>,
}

#[derive(Debug)]
struct Keys {
    set: JwkSet,
    fetched_at: DateTime<Utc>,
}

impl FireVerifier {
    /// Creates a verifier for tokens of `issuer` (compared byte for byte), with the keys at `jwks_url`.
    pub(crate) fn new(jwks_url: Url, issuer: String, clock: Arc<dyn Clock>) -> reqwest::Result<Self> {
        nas_cron_jwt::install();
        let http =
            http_client::builder(&jwks_url).pool_max_idle_per_host(0).timeout(FETCH_TIMEOUT).build()?;
        Ok(Self { http, jwks_url, issuer, clock, keys: tokio::sync::Mutex::default() })
    }

    /// Verifies a token. `aud` is checked only if `audience` is given.
    pub(crate) async fn verify(&self, token: &str, audience: Option<&str>) -> Result<FireClaims, Unverified> {
        let header = jsonwebtoken::decode_header(token).map_err(Unverified::Malformed)?;
        let kid = header.kid.ok_or(Unverified::NoKid)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Unverified::Algorithm(header.alg));
        }
        let key = self.key(kid).await?;
        let mut validation = Validation::new(header.alg);
        // Checked below, by this verifier's clock and byte for byte.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let claims = jsonwebtoken::decode(token, &key, &validation).map_err(Unverified::Signature)?.claims;
        self.check_claims(&claims, audience)?;
        Ok(claims)
    }

    fn check_claims(&self, claims: &FireClaims, audience: Option<&str>) -> Result<(), Unverified> {
        let now = self.clock.now().timestamp();
        if claims.exp <= now - LEEWAY {
            return Err(Unverified::Expired);
        }
        if [claims.nbf, claims.iat].into_iter().flatten().any(|at| at > now + LEEWAY) {
            return Err(Unverified::NotYetValid);
        }
        if let Some(audience) = audience {
            let named = match &claims.aud {
                Audience::One(one) => one == audience,
                Audience::Several(several) => several.iter().any(|one| one == audience),
            };
            if !named {
                return Err(Unverified::Audience(audience.to_owned()));
            }
        }
        if claims.iss != self.issuer {
            return Err(Unverified::Issuer(claims.iss.clone()));
        }
        if claims.purpose.as_deref() != Some(FIRE_PURPOSE) {
            return Err(Unverified::Purpose);
        }
        Ok(())
    }

    async fn key(&self, kid: String) -> Result<DecodingKey, Unverified> {
        let find = |set: &JwkSet| set.find(&kid).map(DecodingKey::from_jwk);
        let mut keys = self.keys.lock().await;
        let kept = keys.as_ref().filter(|keys| self.clock.now() - keys.fetched_at < JWKS_TTL);
        let found = if let Some(found) = kept.and_then(|keys| find(&keys.set)) {
            found
        } else {
            let fresh = Keys { fetched_at: self.clock.now(), set: self.fetch().await? };
            find(&keys.insert(fresh).set).ok_or(Unverified::UnknownKey(kid))?
        };
        found.map_err(Unverified::Signature)
    }

    async fn fetch(&self) -> Result<JwkSet, Unverified> {
        let get =
            async || self.http.get(self.jwks_url.clone()).send().await?.error_for_status()?.json().await;
        get().await.map_err(|error| Unverified::Jwks(nas_cron_base::http_client::causes(error)))
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_base::clock::ManualClock;
    use serde_json::{Value, json};

    use super::super::fake_service::{FakeService, fire_claims};
    use super::*;

    /// Returns a verifier with a manual clock at the time of `claims`.
    fn verifier(service: &FakeService) -> (FireVerifier, ManualClock) {
        let clock = ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let verifier =
            FireVerifier::new(service.jwks_url(), service.issuer(), Arc::new(clock.clone())).unwrap();
        (verifier, clock)
    }

    fn claims(service: &FakeService, changes: &Value) -> Value {
        let mut claims =
            fire_claims(&service.issuer(), "a1", "j1", "2027-01-15T08:00:00+00:00", 1_800_000_000);
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    #[tokio::test]
    async fn client_9_token_is_verified_as_by_a_real_agent() {
        let service = FakeService::start().await;
        let (verifier, clock) = verifier(&service);
        let verify = async |changes: Value| {
            let token = service.sign(&claims(&service, &changes));
            verifier.verify(&token, Some("agent:a1")).await.map(drop).map_err(|error| format!("{error}"))
        };
        assert_eq!(verify(json!({})).await, Ok(()));
        assert_eq!(verify(json!({"aud": ["x", "agent:a1"]})).await, Ok(()));
        for (changes, expected) in [
            (json!({"aud": "agent:a2"}), "aud"),
            (json!({"iss": format!("{}/", service.issuer())}), "byte for byte"),
            (json!({"purpose": "else"}), "purpose"),
            (json!({"purpose": null}), "purpose"),
            (json!({"exp": 1_799_999_970}), "expired"),
            (json!({"nbf": 1_800_000_031}), "not valid yet"),
            (json!({"iat": 1_800_000_031}), "not valid yet"),
            (json!({"exp": null}), "a claim is invalid"),
        ] {
            let error = verify(changes.clone()).await.unwrap_err();
            assert!(error.contains(expected), "{changes}: {error}");
        }
        for changes in [json!({"exp": 1_799_999_971}), json!({"nbf": 1_800_000_030, "iat": 1_800_000_030})] {
            assert_eq!(verify(changes).await, Ok(()), "30 s of leeway");
        }
        clock.advance(TimeDelta::seconds(120));
        assert_eq!(verify(json!({})).await.unwrap_err(), "the token has expired");
    }

    #[tokio::test]
    async fn forged_or_unsigned_token_is_rejected() {
        let service = FakeService::start().await;
        let (verifier, _) = verifier(&service);
        let forged = service.sign_as(&FakeService::start().await, &claims(&service, &json!({})));
        assert!(matches!(verifier.verify(&forged, None).await, Err(Unverified::Signature(_))));
        assert!(matches!(verifier.verify("a.b", None).await, Err(Unverified::Malformed(_))));
        // {"alg":"HS256","kid":"k"}
        let symmetric = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.e30.AAAA";
        assert!(matches!(verifier.verify(symmetric, None).await, Err(Unverified::Algorithm(_))));
        // {"alg":"ES256"}
        assert!(matches!(
            verifier.verify("eyJhbGciOiJFUzI1NiJ9.e30.AAAA", None).await,
            Err(Unverified::NoKid)
        ));
    }

    #[tokio::test]
    async fn keys_are_cached_for_300_s_and_fetched_again_for_an_unknown_kid() {
        let service = FakeService::start().await;
        let (verifier, clock) = verifier(&service);
        let verify = async || {
            verifier
                .verify(&service.sign(&claims(&service, &json!({"exp": 1_900_000_000}))), None)
                .await
                .map(drop)
        };
        verify().await.unwrap();
        verify().await.unwrap();
        assert_eq!(service.jwks_fetches(), 1);
        clock.advance(TimeDelta::seconds(300));
        verify().await.unwrap();
        assert_eq!(service.jwks_fetches(), 2);
        service.rotate_key();
        verify().await.unwrap();
        assert_eq!(service.jwks_fetches(), 3);
    }

    #[tokio::test]
    async fn token_for_another_fire_is_rejected() {
        let service = FakeService::start().await;
        let (verifier, _) = verifier(&service);
        let claims = verifier.verify(&service.sign(&claims(&service, &json!({}))), None).await.unwrap();
        let at = "2027-01-15T08:00:00+00:00";
        assert!(claims.check_fire("j1", at, None).is_ok());
        assert!(claims.check_fire("j1", "2027-01-15T08:00:00Z", None).is_err());
        assert!(claims.check_fire("j2", at, None).is_err());
        let forms = [json!("claude:work"), json!("claude:home"), json!(["claude:work"]), json!(false)];
        for form in &forms {
            let choice = AuthChoice::from_json(form).unwrap();
            assert!(claims.check_fire("j1", at, Some(&choice)).is_err(), "{form}");
            let with = service.sign(&self::claims(&service, &json!({ "auth": form })));
            let claims = verifier.verify(&with, None).await.unwrap();
            for other in &forms {
                let choice = AuthChoice::from_json(other).unwrap();
                let same = claims.check_fire("j1", at, Some(&choice)).is_ok();
                assert_eq!(same, form == other, "{form} {other}");
            }
            assert!(claims.check_fire("j1", at, None).is_err(), "{form}");
        }
    }
}
