//! The fire: the body that an agent gets at its job's instant, and the claims of the token beside it
//! (docs/contract.md#fire).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AuthProfile, FireAt, InstanceId, JobId};

/// The `purpose` claim of a fire token. A token with any `purpose` opens nothing on the agent API.
pub const FIRE_PURPOSE: &str = "cron_fire";

/// The body of a fire.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FireBody<'a> {
    /// Which job.
    #[serde(borrow)]
    pub job_id: Cow<'a, str>,
    /// Its instant, in the agent's own text.
    #[serde(borrow)]
    pub fire_at: Cow<'a, str>,
    /// The auth profile that the agent is to run it with; absent where none is set.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Cow<'a, str>>,
}

impl<'a> FireBody<'a> {
    /// The body of a job's fire.
    pub fn new(job_id: &'a JobId, fire_at: &'a FireAt, auth: Option<&'a AuthProfile>) -> Self {
        Self {
            job_id: job_id.as_str().into(),
            fire_at: fire_at.as_str().into(),
            auth: auth.map(|auth| auth.as_str().into()),
        }
    }
}

/// The claims of a fire token. Times are in whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FireClaims<'a> {
    /// The portal's URL, byte for byte.
    pub iss: Cow<'a, str>,
    /// The instance whose fire endpoint it opens: see [`FireClaims::audience`].
    pub aud: Cow<'a, str>,
    /// Always [`FIRE_PURPOSE`].
    pub purpose: Cow<'a, str>,
    /// When it was made.
    pub iat: i64,
    /// From when on it is good.
    pub nbf: i64,
    /// Until when it is good.
    pub exp: i64,
    /// Its own name.
    pub jti: Uuid,
    /// Which job.
    pub job_id: Cow<'a, str>,
    /// Its instant, in the agent's own text.
    pub fire_at: Cow<'a, str>,
    /// The auth profile of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Cow<'a, str>>,
}

impl FireClaims<'_> {
    /// The `aud` claim of tokens for an instance.
    pub fn audience(instance_id: &InstanceId) -> String {
        format!("agent:{instance_id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_profile_has_the_two_fields_it_always_had() {
        let (job_id, fire_at) =
            (JobId::new("j").unwrap(), FireAt::parse("2026-06-18T14:34:56+02:00").unwrap());
        let body = serde_json::to_string(&FireBody::new(&job_id, &fire_at, None)).unwrap();
        assert_eq!(body, r#"{"job_id":"j","fire_at":"2026-06-18T14:34:56+02:00"}"#);
        let auth = AuthProfile::new("claude:work").unwrap();
        let with = FireBody::new(&job_id, &fire_at, Some(&auth));
        let text = serde_json::to_string(&with).unwrap();
        assert_eq!(serde_json::from_str::<FireBody<'_>>(&text).unwrap(), with);
    }
}
