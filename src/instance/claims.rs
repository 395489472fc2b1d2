//! The claims of an access token: those to verify, and those that identify the bearer.

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::numeric_date::NumericDate;

/// The claims of a verified access token that identify its bearer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessClaims {
    /// `client_id`, or `azp` in its absence.
    pub client_id: Option<String>,
    /// The portal session it belongs to.
    pub sid: Option<String>,
    /// The bearer's organisation.
    pub org_id: Option<String>,
    /// The instance, in dashboard tokens.
    pub agent_instance_id: Option<String>,
    /// The sole `aud`, if the issuer's tokens may identify an agent by it
    /// ([`TokenRules::with_agents_by_audience`](super::TokenRules::with_agents_by_audience)).
    pub audience: Option<String>,
    /// `iat`, or `nbf` in its absence.
    pub issued_at: Option<DateTime<Utc>>,
}

impl AccessClaims {
    /// Returns the age of the token, or `None` if it has no `iat` or `nbf`.
    pub fn age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.issued_at.map(|issued_at| now.signed_duration_since(issued_at))
    }
}

/// The claims of a token before verification.
#[derive(Clone, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    exp: Option<NumericDate>,
    pub(super) nbf: Option<NumericDate>,
    pub(super) iat: Option<NumericDate>,
    pub(super) aud: Option<Audience>,
    #[serde(default, deserialize_with = "is_there")]
    pub(super) purpose: bool,
    client_id: Option<String>,
    azp: Option<String>,
    sid: Option<String>,
    pub(super) org_id: Option<String>,
    agent_instance_id: Option<String>,
}

impl Claims {
    /// `exp`, in seconds since 1970.
    pub(super) fn expiry(&self) -> Option<i64> {
        self.exp.as_ref().map(|at| at.0)
    }

    /// True if the claims are short enough to cache by the thousand. Longer IDs belong to no instance.
    pub(super) fn are_short(&self) -> bool {
        let ids = [&self.client_id, &self.azp, &self.sid, &self.org_id, &self.agent_instance_id];
        ids.into_iter().flatten().all(|id| id.len() <= 300)
            && self.iss.as_ref().is_none_or(|iss| iss.len() <= 2_048)
            && self.aud.as_ref().is_none_or(|aud| aud.length() <= 4_096)
    }

    /// Returns the token's client: `client_id`, or `azp` in its absence.
    pub(super) fn client(&self) -> Option<&str> {
        self.client_id.as_deref().or(self.azp.as_deref())
    }

    /// Returns the claims that identify the bearer; `aud` is one of them only if `by_audience` is true.
    pub(super) fn identifying(self, by_audience: bool) -> AccessClaims {
        let issued_at = self.iat.or(self.nbf);
        AccessClaims {
            client_id: self.client_id.or(self.azp),
            sid: self.sid,
            org_id: self.org_id,
            agent_instance_id: self.agent_instance_id,
            audience: self.aud.filter(|_| by_audience).and_then(Audience::sole),
            // Future values were rejected, so a value outside chrono's range lies in the past.
            issued_at: issued_at
                .map(|at| DateTime::from_timestamp(at.0, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)),
        }
    }
}

/// The `aud` of a token.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
    /// Any other type, which is an error only if audiences are checked.
    Odd(IgnoredAny),
}

impl Audience {
    /// True if it contains an audience that satisfies `accepts`.
    pub(super) fn any(&self, accepts: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(name) => accepts(name),
            Self::Many(names) => names.iter().any(|name| accepts(name)),
            Self::Odd(_) => false,
        }
    }

    /// Returns the audience if there is exactly one. A list of one means the same as its element (RFC 7519, 4.1.3).
    fn sole(self) -> Option<String> {
        match self {
            Self::One(name) => Some(name),
            Self::Many(mut names) if names.len() == 1 => names.pop(),
            Self::Many(_) | Self::Odd(_) => None,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::One(name) => name.len(),
            Self::Many(names) => names.iter().map(|name| size_of::<String>() + name.len()).sum(),
            Self::Odd(_) => 0,
        }
    }
}

/// Returns the `<id>` of a client or audience of the form `agent:<id>`.
pub(super) fn agent_id(name: &str) -> Option<&str> {
    name.strip_prefix("agent:").filter(|id| !id.is_empty())
}

/// Returns true for any value of a present claim, `null` included.
pub(super) fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
