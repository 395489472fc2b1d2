//! The fire: the request body that an agent receives when a job is due, and the claims of its token
//! (docs/contract.md#fire).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AuthChoice, FireAt, InstanceId, JobId};

/// The `purpose` claim of a fire token. The agent API rejects every token with a `purpose`.
pub const FIRE_PURPOSE: &str = "cron_fire";

/// Request body of a fire.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FireBody<'a> {
    /// ID of the job.
    #[serde(borrow)]
    pub job_id: Cow<'a, str>,
    /// Time of the fire, byte for byte as provisioned.
    #[serde(borrow)]
    pub fire_at: Cow<'a, str>,
    /// Auth for the run; absent if none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Cow<'a, AuthChoice>>,
}

impl<'a> FireBody<'a> {
    /// Builds the body of a job's fire.
    pub fn new(job_id: &'a JobId, fire_at: &'a FireAt, auth: Option<&'a AuthChoice>) -> Self {
        Self {
            job_id: job_id.as_str().into(),
            fire_at: fire_at.as_str().into(),
            auth: auth.map(Cow::Borrowed),
        }
    }
}

/// The claims of a fire token. Times are in whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FireClaims<'a> {
    /// Issuer: the portal's URL, byte for byte.
    pub iss: Cow<'a, str>,
    /// Audience: the instance that may accept the token, see [`FireClaims::audience`].
    pub aud: Cow<'a, str>,
    /// Always [`FIRE_PURPOSE`].
    pub purpose: Cow<'a, str>,
    /// Time of issue.
    pub iat: i64,
    /// Start of validity.
    pub nbf: i64,
    /// End of validity.
    pub exp: i64,
    /// Unique ID of the token.
    pub jti: Uuid,
    /// ID of the job.
    pub job_id: Cow<'a, str>,
    /// Time of the fire, byte for byte as provisioned.
    pub fire_at: Cow<'a, str>,
    /// Auth, equal to the body's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Cow<'a, AuthChoice>>,
}

impl FireClaims<'_> {
    /// Returns the `aud` claim of tokens for an instance.
    pub fn audience(instance_id: &InstanceId) -> String {
        format!("agent:{instance_id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_has_auth_only_where_one_is_set_and_in_its_form() {
        let (job_id, fire_at) =
            (JobId::new("j").unwrap(), FireAt::parse("2026-06-18T14:34:56+02:00").unwrap());
        let body = serde_json::to_string(&FireBody::new(&job_id, &fire_at, None)).unwrap();
        assert_eq!(body, r#"{"job_id":"j","fire_at":"2026-06-18T14:34:56+02:00"}"#);
        for auth in ["false", r#""claude:work""#, r#"["claude:work"]"#, r#"["claude:work","codex:x"]"#] {
            let choice: AuthChoice = serde_json::from_str(auth).unwrap();
            let with = FireBody::new(&job_id, &fire_at, Some(&choice));
            let text = serde_json::to_string(&with).unwrap();
            assert_eq!(
                text,
                format!(r#"{{"job_id":"j","fire_at":"2026-06-18T14:34:56+02:00","auth":{auth}}}"#)
            );
            assert_eq!(serde_json::from_str::<FireBody<'_>>(&text).unwrap(), with);
        }
    }
}
