//! Fire tokens: each opens one instance's fire endpoint for at most 120 s, and nothing else. Claims and header are defined
//! in docs/contract.md#fire-token; the claims' type is `nas_cron_protocol::fire::FireClaims`.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::fire::{FIRE_PURPOSE, FireClaims};
use nas_cron_protocol::{AuthChoice, FireAt, InstanceId, JobId};
use secrecy::SecretString;
use uuid::Uuid;

use super::signer::{Signer, SignerError};

/// The lifetime of a fire token: 60 to 120 whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTtl(u8);

impl TokenTtl {
    /// Minimum lifetime.
    pub const MIN: Self = Self(60);
    /// Maximum lifetime.
    pub const MAX: Self = Self(120);

    /// Returns a lifetime of `ttl`. Fails unless it is whole seconds within the contract's limits.
    pub fn new(ttl: Duration) -> Result<Self, InvalidTtl> {
        u8::try_from(ttl.as_secs())
            .ok()
            .filter(|secs| ttl.subsec_nanos() == 0 && (Self::MIN.0..=Self::MAX.0).contains(secs))
            .map(Self)
            .ok_or(InvalidTtl(ttl))
    }

    /// Returns the lifetime as a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl Default for TokenTtl {
    fn default() -> Self {
        Self(90)
    }
}

/// A lifetime outside the contract's limits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid lifetime {0:?} of fire tokens: use 60 to 120 whole seconds")]
pub struct InvalidTtl(Duration);

/// The subject of a fire token.
#[derive(Clone, Copy, Debug)]
pub struct FireSubject<'a> {
    /// The attempt's id in the history, which is the token's `jti`.
    pub attempt_id: Uuid,
    /// The instance whose endpoint the token opens.
    pub instance_id: &'a InstanceId,
    /// The job.
    pub job_id: &'a JobId,
    /// The instant, in the agent's own text.
    pub fire_at: &'a FireAt,
    /// The auth that the agent should use for the job.
    pub auth: Option<&'a AuthChoice>,
}

/// The validity of a token, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    issued_at: i64,
    not_before: i64,
    expires: i64,
}

impl Validity {
    /// Returns the validity for an attempt that is made now. `now` is rounded down to the second, so that a correct clock
    /// never sees a token from the future.
    pub fn now(now: DateTime<Utc>, ttl: TokenTtl) -> Self {
        // `timestamp` rounds towards minus infinity.
        let issued_at = now.timestamp();
        Self { issued_at, not_before: issued_at, expires: issued_at + i64::from(ttl.0) }
    }

    /// Returns the validity for a call that an external backend makes later (direct mode).
    pub fn later(now: DateTime<Utc>, not_before: DateTime<Utc>, expires: DateTime<Utc>) -> Self {
        Self { issued_at: now.timestamp(), not_before: not_before.timestamp(), expires: expires.timestamp() }
    }
}

/// Mints a fire token. `issuer` is the portal's URL, byte for byte.
pub fn mint(
    signer: &Signer,
    issuer: &str,
    validity: Validity,
    fire: FireSubject<'_>,
) -> Result<SecretString, SignerError> {
    let claims = FireClaims {
        iss: issuer.into(),
        aud: FireClaims::audience(fire.instance_id).into(),
        purpose: FIRE_PURPOSE.into(),
        iat: validity.issued_at,
        nbf: validity.not_before,
        exp: validity.expires,
        jti: fire.attempt_id,
        job_id: fire.job_id.as_str().into(),
        fire_at: fire.fire_at.as_str().into(),
        auth: fire.auth.map(Cow::Borrowed),
    };
    signer.token(&serde_json::to_vec(&claims).expect("strings and integers always serialize"))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use chrono::TimeZone as _;
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::SigningAlg;
    use crate::keys::signer::PrivateKey;

    fn decode(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn claims_and_header_are_exactly_those_of_the_contract() {
        let key = PrivateKey::generate(SigningAlg::Es256).unwrap();
        let signer = Signer::new(&key, Some("the-kid".to_owned())).unwrap();
        let instance_id = InstanceId::new("i-1").unwrap();
        let job_id = JobId::new("a1b2c3").unwrap();
        let fire_at = FireAt::parse("2026-06-18T14:34:56.123456+02:00").unwrap();
        let attempt_id = Uuid::from_u128(9);
        let fire = FireSubject {
            attempt_id,
            instance_id: &instance_id,
            job_id: &job_id,
            fire_at: &fire_at,
            auth: None,
        };
        let now = Utc.timestamp_opt(1_781_786_096, 999_999_999).unwrap();
        let token =
            mint(&signer, "https://portal.example/", Validity::now(now, TokenTtl::default()), fire).unwrap();
        let parts: Vec<_> = token.expose_secret().split('.').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(decode(parts[0]), json!({ "alg": "ES256", "typ": "JWT", "kid": "the-kid" }));
        let claims = decode(parts[1]);
        assert_eq!(
            claims,
            json!({
                "iss": "https://portal.example/", "aud": "agent:i-1", "purpose": "cron_fire",
                "iat": 1_781_786_096, "nbf": 1_781_786_096, "exp": 1_781_786_186,
                "jti": attempt_id, "job_id": "a1b2c3", "fire_at": "2026-06-18T14:34:56.123456+02:00",
            })
        );

        for auth in [json!("claude:work"), json!(false), json!(["claude:work", "claude:budget"])] {
            let choice = AuthChoice::from_json(&auth).unwrap();
            let fire = FireSubject { auth: Some(&choice), ..fire };
            let validity = Validity::now(now, TokenTtl::default());
            let token = super::mint(&signer, "https://portal.example/", validity, fire).unwrap();
            let mut with_auth = decode(token.expose_secret().split('.').nth(1).unwrap());
            assert_eq!(with_auth.as_object_mut().unwrap().remove("auth"), Some(auth));
            assert_eq!(with_auth, claims, "and nothing else differs");
        }
    }

    #[test]
    fn lifetime_outside_the_contracts_limits_is_rejected() {
        for secs in [60, 90, 120] {
            assert_eq!(
                TokenTtl::new(Duration::from_secs(secs)).unwrap().as_duration(),
                Duration::from_secs(secs)
            );
        }
        for ttl in [0, 59_000, 60_500, 120_001, 121_000, 3_600_000, u64::MAX].map(Duration::from_millis) {
            assert!(TokenTtl::new(ttl).is_err(), "{ttl:?}");
        }
    }
}
