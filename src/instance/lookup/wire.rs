//! The lookup on the wire: which instance a client or a session is, asked of the portal (docs/portals.md).
//!
//! A yes and a no are both explicit. Everything else, a bare 404 of some proxy above all, is no answer: taken for a no,
//! one misrouted path would tell every agent `invalid_client`, on which they stop for good.

use nas_cron_protocol::{Given, InstanceId, OrgId, SessionId};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::instance::fetch_error::FetchError;
use crate::instance::portal_http::{away, bounded, client, no_answer};

const MAX_BODY: usize = 64 << 10;
const IDLE_CONNECTIONS: usize = 16;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::instance) enum Question {
    /// A client `agent:<id>`, in the org that its token names, if it names one.
    Client(InstanceId, Option<OrgId>),
    /// A bootstrap session within its org.
    Session(OrgId, SessionId),
}

impl Question {
    /// The org that is part of it.
    pub(super) fn org_id(&self) -> Option<&OrgId> {
        match self {
            Self::Client(_, org_id) => org_id.as_ref(),
            Self::Session(org_id, _) => Some(org_id),
        }
    }
}

/// What the portal says of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Told {
    pub(super) instance_id: InstanceId,
    pub(super) org_id: OrgId,
    /// Left out, it is not for the portal to say, or has not changed.
    #[serde(default, deserialize_with = "given")]
    pub(super) bootstrap_session_id: Given<SessionId>,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
}

#[derive(Deserialize)]
struct Body {
    // Without the attribute a body without the field would be a no.
    #[serde(deserialize_with = "Option::deserialize")]
    instance: Option<Told>,
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

/// Asks the portal.
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
            .expect("the setting takes nothing that is not fit for a header");
        authorization.set_sensitive(true);
        Ok(Self { client: client(IDLE_CONNECTIONS)?, url, authorization })
    }

    /// Asks once. `None`: the portal says that there is no such instance.
    pub(super) async fn ask(&self, question: &Question) -> Result<Option<Told>, FetchError> {
        let mut url = self.url.clone();
        match question {
            Question::Client(instance_id, org_id) => {
                let mut query = url.query_pairs_mut();
                query.append_pair("client", &format!("agent:{instance_id}"));
                if let Some(org_id) = org_id {
                    query.append_pair("org", org_id.as_str());
                }
            }
            Question::Session(org_id, session) => {
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
            .map_err(away)?;
        let status = response.status();
        if !matches!(status, StatusCode::OK | StatusCode::NOT_FOUND) {
            return Err(no_answer(status, "is lookup_token right?"));
        }
        read(status, &bounded(response, MAX_BODY).await?, question)
    }
}

/// Reads an answer to this question.
fn read(status: StatusCode, body: &[u8], question: &Question) -> Result<Option<Told>, FetchError> {
    let useless = |why: &str| Err(FetchError::Useless(why.to_owned()));
    if body.trim_ascii_start().first() != Some(&b'{') {
        return useless(&format!("status {status}, and no JSON object"));
    }
    if status == StatusCode::NOT_FOUND {
        let explicit =
            serde_json::from_slice::<NotFound>(body).is_ok_and(|body| body.error == "unknown_instance");
        return if explicit {
            Ok(None)
        } else {
            useless("status 404, and not its own: the URL may be wrong")
        };
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return useless("no instance with its instance_id and org_id, and no null in its place");
    };
    let fits = body.instance.as_ref().is_none_or(|told| match question {
        Question::Client(instance_id, _) => told.instance_id == *instance_id,
        Question::Session(org_id, session) => {
            let same_session = match &told.bootstrap_session_id {
                Given::Keep => true,
                Given::Clear => false,
                Given::Set(own) => own == session,
            };
            told.org_id == *org_id && same_session
        }
    });
    if !fits {
        return useless("it is about another instance than the one that was asked for");
    }
    Ok(body.instance.map(|told| match question {
        Question::Session(_, session) => Told { bootstrap_session_id: Given::Set(session.clone()), ..told },
        Question::Client(..) => told,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Question {
        Question::Client(InstanceId::new("a").unwrap(), None)
    }

    fn session() -> Question {
        Question::Session(OrgId::new("o").unwrap(), SessionId::new("s").unwrap())
    }

    fn told(question: &Question, status: u16, body: &str) -> Result<Option<Told>, ()> {
        read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), question).map_err(|error| {
            assert!(matches!(error, FetchError::Useless(_)), "{body}: {error}");
        })
    }

    #[test]
    fn a_yes_with_or_without_what_may_be_left_out() {
        let plain = r#"{"instance":{"instance_id":"a","org_id":"o"}}"#;
        let yes = told(&client(), 200, plain).unwrap().unwrap();
        assert!(yes.enabled && yes.bootstrap_session_id == Given::Keep);
        let by_session = told(&session(), 200, plain).unwrap().unwrap();
        assert_eq!(by_session.bootstrap_session_id.value().unwrap().as_str(), "s", "as it was asked by");
        let full = r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":"s","enabled":false,"x":[1]},"y":2}"#;
        let yes = told(&session(), 200, full).unwrap().unwrap();
        assert!(!yes.enabled && yes.bootstrap_session_id == Given::Set(SessionId::new("s").unwrap()));
        let none = r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":null}}"#;
        assert_eq!(told(&client(), 200, none).unwrap().unwrap().bootstrap_session_id, Given::Clear);
    }

    #[test]
    fn a_no_is_explicit_and_everything_else_is_no_answer() {
        assert_eq!(told(&client(), 200, r#"{"instance":null}"#), Ok(None));
        assert_eq!(told(&client(), 404, r#"{"error":"unknown_instance","error_description":"…"}"#), Ok(None));
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
            assert_eq!(told(&client(), status, body), Err(()), "{status} {body}");
        }
        for other in [
            r#"{"instance":{"instance_id":"a","org_id":"p"}}"#,
            r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":"t"}}"#,
            r#"{"instance":{"instance_id":"a","org_id":"o","bootstrap_session_id":null}}"#,
        ] {
            assert_eq!(told(&session(), 200, other), Err(()), "{other}");
        }
    }
}
