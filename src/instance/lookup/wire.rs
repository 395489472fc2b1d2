//! The wire protocol of the portal's lookup, which finds the instance of a client or a session (docs/portals.md).
//!
//! Both positive and negative responses are explicit. Everything else, above all a plain 404 of a proxy, is an invalid
//! response: if a misrouted path counted as negative, every agent would get `invalid_client` and stop for good.

use nas_cron_protocol::{Given, InstanceId, OrgId, SessionId};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::instance::fetch_error::FetchError;
use crate::instance::portal_http::{bounded, client, unavailable, unexpected_status};

const MAX_BODY: usize = 64 << 10;
const IDLE_CONNECTIONS: usize = 16;

/// A lookup query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::instance) enum Query {
    /// A client `agent:<id>`, in the org of its token, if the token has one.
    Client(InstanceId, Option<OrgId>),
    /// A bootstrap session within its org.
    Session(OrgId, SessionId),
}

impl Query {
    /// Returns the org in the query.
    pub(super) fn org_id(&self) -> Option<&OrgId> {
        match self {
            Self::Client(_, org_id) => org_id.as_ref(),
            Self::Session(org_id, _) => Some(org_id),
        }
    }
}

/// An instance in the portal's response.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::instance) struct Found {
    pub(in crate::instance) instance_id: InstanceId,
    pub(in crate::instance) org_id: OrgId,
    /// Absent if the portal does not manage sessions, or if the session has not changed.
    #[serde(default, deserialize_with = "given")]
    pub(super) bootstrap_session_id: Given<SessionId>,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
}

#[derive(Deserialize)]
struct Body {
    // Makes the field required: a body without it must not count as a negative response.
    #[serde(deserialize_with = "Option::deserialize")]
    instance: Option<Found>,
}

#[derive(Deserialize)]
struct NotFound {
    error: String,
}

fn yes() -> bool {
    true
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Given<SessionId>, D::Error> {
    Option::deserialize(deserializer).map(|session| session.map_or(Given::Clear, Given::Set))
}

/// The client of the portal's lookup.
#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    url: Url,
    /// Marked as sensitive, so that no `Debug` shows it.
    authorization: HeaderValue,
}

impl Wire {
    pub(super) fn new(url: Url, token: &SecretString) -> Result<Self, reqwest::Error> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .expect("the setting accepts only valid header values");
        authorization.set_sensitive(true);
        Ok(Self { client: client(IDLE_CONNECTIONS)?, url, authorization })
    }

    /// Sends one query. Returns `None` if the portal reports that the instance does not exist.
    pub(super) async fn ask(&self, query: &Query) -> Result<Option<Found>, FetchError> {
        let mut url = self.url.clone();
        match query {
            Query::Client(instance_id, org_id) => {
                let mut pairs = url.query_pairs_mut();
                pairs.append_pair("client", &format!("agent:{instance_id}"));
                if let Some(org_id) = org_id {
                    pairs.append_pair("org", org_id.as_str());
                }
            }
            Query::Session(org_id, session) => {
                url.query_pairs_mut()
                    .append_pair("sid", session.as_str())
                    .append_pair("org", org_id.as_str());
            }
        }
        let response = self
            .client
            .get(url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
            .send()
            .await
            .map_err(unavailable)?;
        let status = response.status();
        if !matches!(status, StatusCode::OK | StatusCode::NOT_FOUND) {
            return Err(unexpected_status(status, "check lookup_token"));
        }
        read(status, &bounded(response, MAX_BODY).await?, query)
    }
}

/// Parses the response to a query. Returns `None` if the portal reports that the instance does not exist.
pub(in crate::instance) fn read(
    status: StatusCode,
    body: &[u8],
    query: &Query,
) -> Result<Option<Found>, FetchError> {
    let invalid = |why: &str| Err(FetchError::Invalid(why.to_owned()));
    if body.trim_ascii_start().first() != Some(&b'{') {
        return invalid(&format!("status {status} without a JSON object"));
    }
    if status == StatusCode::NOT_FOUND {
        let explicit = nas_cron_protocol::json::from_slice::<NotFound>(body)
            .is_ok_and(|body| body.error == "unknown_instance");
        return if explicit {
            Ok(None)
        } else {
            invalid("status 404 without `unknown_instance`: check the lookup URL")
        };
    }
    let Ok(body) = nas_cron_protocol::json::from_slice::<Body>(body) else {
        return invalid("`instance` must be null, or have instance_id and org_id");
    };
    let fits = body.instance.as_ref().is_none_or(|found| match query {
        Query::Client(instance_id, _) => found.instance_id == *instance_id,
        Query::Session(org_id, session) => {
            let same_session = match &found.bootstrap_session_id {
                Given::Keep => true,
                Given::Clear => false,
                Given::Set(own) => own == session,
            };
            found.org_id == *org_id && same_session
        }
    });
    if !fits {
        return invalid("it describes another instance than the requested one");
    }
    Ok(body.instance.map(|found| match query {
        Query::Session(_, session) => Found { bootstrap_session_id: Given::Set(session.clone()), ..found },
        Query::Client(..) => found,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Query {
        Query::Client(InstanceId::new("a").unwrap(), None)
    }

    fn session() -> Query {
        Query::Session(OrgId::new("o").unwrap(), SessionId::new("s").unwrap())
    }

    fn parse(query: &Query, status: u16, body: &str) -> Result<Option<Found>, ()> {
        read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), query).map_err(|error| {
            assert!(matches!(error, FetchError::Invalid(_)), "{body}: {error}");
        })
    }

    #[test]
    fn positive_response_is_read_with_and_without_optional_fields() {
        let plain = r#"{"instance":{"instance_id":"a","org_id":"o"}}"#;
        let yes = parse(&client(), 200, plain).unwrap().unwrap();
        assert!(yes.enabled && yes.bootstrap_session_id == Given::Keep);
        let by_session = parse(&session(), 200, plain).unwrap().unwrap();
        assert_eq!(
            by_session.bootstrap_session_id.value().unwrap().as_str(),
            "s",
            "the session of the query"
        );
        let full = r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":"s","enabled":false,"x":[1]},"y":2}"#;
        let yes = parse(&session(), 200, full).unwrap().unwrap();
        assert!(!yes.enabled && yes.bootstrap_session_id == Given::Set(SessionId::new("s").unwrap()));
        let none = r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":null}}"#;
        assert_eq!(parse(&client(), 200, none).unwrap().unwrap().bootstrap_session_id, Given::Clear);
    }

    #[test]
    fn negative_response_is_explicit_and_everything_else_is_invalid() {
        assert_eq!(parse(&client(), 200, r#"{"instance":null}"#), Ok(None));
        assert_eq!(
            parse(&client(), 404, r#"{"error":"unknown_instance","error_description":"…"}"#),
            Ok(None)
        );
        for (status, body) in [
            (200, "{}"),
            (200, ""),
            (200, "null"),
            (200, "[null]"),
            (200, "<html>"),
            (200, r#"{"error":"unknown_instance"}"#),
            (200, r#"{"instance":false}"#),
            (200, r#"{"instance":{}}"#),
            (200, r#"{"instance":{"instance_id":"a"}}"#),
            (200, r#"{"instance":{"instance_id":"a","org_id":""}}"#),
            (200, r#"{"instance":{"instance_id":"a","org_id":7}}"#),
            (200, r#"{"instance":{"instance_id":"a","org_id":"o","enabled":"yes"}}"#),
            (200, r#"{"instance":{"instance_id":"b","org_id":"o"}}"#),
            (404, ""),
            (404, "not found"),
            (404, "{}"),
            (404, r#"{"error":"not_found"}"#),
            (404, r#"{"detail":"Not Found"}"#),
            (404, r#"{"instance":null}"#),
        ] {
            assert_eq!(parse(&client(), status, body), Err(()), "{status} {body}");
        }
        for other in [
            r#"{"instance":{"instance_id":"a","org_id":"p"}}"#,
            r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":"t"}}"#,
            r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":null}}"#,
        ] {
            assert_eq!(parse(&session(), 200, other), Err(()), "{other}");
        }
        let invalid = b"{\"instance\":null,\"note\":\"\xff\"}";
        assert!(read(StatusCode::OK, invalid, &client()).is_err(), "invalid UTF-8");
        let invalid = b"{\"error\":\"unknown_instance\",\"note\":\"\xff\"}";
        assert!(read(StatusCode::NOT_FOUND, invalid, &client()).is_err(), "invalid UTF-8");
    }
}
