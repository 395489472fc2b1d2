//! Access tokens of the built-in portal. They open the agent API for one instance. No agent's fire endpoint accepts them,
//! because it requires a `purpose` and the agent as the audience.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{HOSTED_CLIENT, InstanceId, OrgId, SessionId};
use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use super::signer::{Signer, SignerError};

/// OAuth scope of these tokens. The agent API does not check it.
pub const SCOPE: &str = "agent_cron";

/// Maximum lifetime that any replica may be configured with: replicas may differ during a deploy.
pub const MAX_TTL: Duration = Duration::from_hours(24);

/// The subject of an access token. The agent API finds the instance by its session and its org.
#[derive(Clone, Copy, Debug)]
pub struct AccessSubject<'a> {
    /// The instance.
    pub instance_id: &'a InstanceId,
    /// The org that owns it.
    pub org_id: &'a OrgId,
    /// Its bootstrap session.
    pub sid: &'a SessionId,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'static str,
    sub: &'a InstanceId,
    client_id: &'static str,
    sid: &'a SessionId,
    org_id: &'a OrgId,
    scope: &'static str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

/// Mints an access token that is valid from `now` for `ttl` (whole seconds). `issuer` is the portal's URL, byte for byte.
pub fn mint(
    signer: &Signer,
    issuer: &str,
    now: DateTime<Utc>,
    ttl: Duration,
    bearer: AccessSubject<'_>,
) -> Result<SecretString, SignerError> {
    let iat = now.timestamp();
    let claims = Claims {
        iss: issuer,
        aud: HOSTED_CLIENT,
        sub: bearer.instance_id,
        client_id: HOSTED_CLIENT,
        sid: bearer.sid,
        org_id: bearer.org_id,
        scope: SCOPE,
        iat,
        nbf: iat,
        exp: iat.saturating_add_unsigned(ttl.as_secs()),
        jti: Uuid::new_v4(),
    };
    signer.token(&serde_json::to_vec(&claims).expect("strings and integers always serialize"))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::SigningAlg;
    use crate::keys::signer::PrivateKey;

    #[test]
    fn claims_are_those_of_a_hosted_agent_without_a_purpose() {
        let key = PrivateKey::generate(SigningAlg::Es256).unwrap();
        let signer = Signer::new(&key, None).unwrap();
        let (instance_id, org_id, sid) =
            (InstanceId::new("i").unwrap(), OrgId::new("o").unwrap(), SessionId::new("s").unwrap());
        let bearer = AccessSubject { instance_id: &instance_id, org_id: &org_id, sid: &sid };
        let now = DateTime::from_timestamp(1_800_000_000, 999_999_999).unwrap();
        let token = mint(&signer, "https://cron.example", now, Duration::from_hours(1), bearer).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.expose_secret().split('.').nth(1).unwrap()).unwrap();
        let mut claims: Value = serde_json::from_slice(&claims).unwrap();
        let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert!(jti.as_str().unwrap().parse::<Uuid>().is_ok());
        assert_eq!(
            claims,
            json!({
                "iss": "https://cron.example", "aud": "hermes-cli-vps", "client_id": "hermes-cli-vps", "sub": "i",
                "sid": "s", "org_id": "o", "scope": "agent_cron",
                "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_003_600,
            })
        );
    }
}
