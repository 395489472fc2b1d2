//! Extractors that authenticate the calling agent instance.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::error::ApiError;
use super::log_fields;
use crate::instance::{Admitted, AgentInstance, Authenticator, Claimed, Credential};
use crate::traces::request::RequestTrace;

/// Maximum time for one request of the agent API, including waits for the portal's keys and for an unavailable
/// database. Real agents time out after 15 s and do not retry
/// (docs/contract.md#invariant-9-short-outages-fail-no-provision).
pub const AGENT_API_BUDGET: Duration = Duration::from_secs(13);

/// Deadline of a request, counted from the arrival of its head. As an extractor, it must precede the body.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl<S: Sync> FromRequestParts<S> for Deadline {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Instant::now() + AGENT_API_BUDGET))
    }
}

/// The calling agent instance, authenticated by an access token or an assertion. As an extractor, it must precede the
/// body.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The instance that the credential belongs to. It is enabled.
    pub instance: AgentInstance,
    /// Deadline of the request, for its database statements.
    pub deadline: Instant,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let deadline = Instant::now() + AGENT_API_BUDGET;
        let authenticator = Authenticator::from_ref(state);
        let credential = presented(&authenticator, &parts.headers)?;
        Self::known(&authenticator, credential, deadline).await
    }
}

impl Caller {
    async fn known(
        authenticator: &Authenticator,
        credential: Credential<'_>,
        deadline: Instant,
    ) -> Result<Self, ApiError> {
        let instance = authenticator.authenticate(credential, deadline).await?;
        log_fields::agent(&instance.instance_id);
        Ok(Self { instance, deadline })
    }
}

/// The calling agent instance, which may have changed since it was read: for a statement that compares its version. As an
/// extractor, it must precede the body.
#[derive(Clone, Debug)]
pub struct RememberedCaller {
    /// The caller as it was read.
    pub caller: Caller,
    /// The credential, if the instance was not read for this request.
    remembered_for: Option<HeaderValue>,
}

impl<S: Send + Sync> FromRequestParts<S> for RememberedCaller
where
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let deadline = Instant::now() + AGENT_API_BUDGET;
        let authenticator = Authenticator::from_ref(state);
        let credential = presented(&authenticator, &parts.headers)?;
        let began = std::time::Instant::now();
        let Admitted { instance, is_remembered } =
            authenticator.authenticate_remembered(credential, deadline).await?;
        log_fields::agent(&instance.instance_id);
        if let Some(trace) = parts.extensions.get::<RequestTrace>() {
            trace.step("authenticate", began);
        }
        let header = parts.headers.get(AUTHORIZATION).filter(|_| is_remembered);
        Ok(Self { caller: Caller { instance, deadline }, remembered_for: header.cloned() })
    }
}

impl RememberedCaller {
    /// True if the instance was not read for this request.
    pub fn is_remembered(&self) -> bool {
        self.remembered_for.is_some()
    }

    /// Returns the caller as it is now. Fails if it may not call any more.
    pub async fn current(self, authenticator: &Authenticator) -> Result<Caller, ApiError> {
        match self.remembered_for {
            None => Ok(self.caller),
            Some(header) => {
                let credential = credential_in(&header)?;
                Caller::known(authenticator, credential, self.caller.deadline).await
            }
        }
    }
}

/// The calling agent instance, authenticated by an access token only. As an extractor, it must precede the body.
#[derive(Clone, Debug)]
pub struct BearerCaller(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for BearerCaller
where
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let deadline = Instant::now() + AGENT_API_BUDGET;
        let authenticator = Authenticator::from_ref(state);
        let token =
            bearer_token(&parts.headers).inspect_err(|error| without_credential(&authenticator, error))?;
        Caller::known(&authenticator, Credential::Bearer(token), deadline).await.map(Self)
    }
}

/// Returns the credential of a request to the agent API.
fn presented<'a>(authenticator: &Authenticator, headers: &'a HeaderMap) -> Result<Credential<'a>, ApiError> {
    let credential = match credential(headers) {
        Err(ApiError::NoToken) if authenticator.identities.is_some() => Err(ApiError::NoCredential),
        other => other,
    };
    credential.inspect_err(|error| without_credential(authenticator, error))
}

/// Logs a request whose headers contain no credential.
fn without_credential(authenticator: &Authenticator, error: &ApiError) {
    authenticator.refusals.note(&error.to_string(), &Claimed::default());
}

/// Returns the bearer token of a request (RFC 6750, 2.1).
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, ApiError> {
    match credential(headers)? {
        Credential::Bearer(token) => Ok(token),
        Credential::AgentAssertion(_) => Err(ApiError::NoToken),
    }
}

/// Returns the credential of a request. The scheme is case-insensitive (RFC 9110, 11.1); white space around the
/// credential is ignored.
fn credential(headers: &HeaderMap) -> Result<Credential<'_>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let value = values.next().ok_or(ApiError::NoToken)?;
    if values.next().is_some() {
        return Err(ApiError::InvalidToken("the request carries more than one Authorization header"));
    }
    credential_in(value)
}

pub(super) fn credential_in(value: &HeaderValue) -> Result<Credential<'_>, ApiError> {
    let value =
        value.to_str().map_err(|_| ApiError::InvalidToken("the Authorization header is not ASCII"))?;
    let (scheme, presented) = value.trim().split_once([' ', '\t']).unwrap_or((value.trim(), ""));
    match presented.trim() {
        "" => Err(ApiError::NoToken),
        token if scheme.eq_ignore_ascii_case("Bearer") => Ok(Credential::Bearer(token)),
        assertion if scheme.eq_ignore_ascii_case("AgentAssertion") => {
            Ok(Credential::AgentAssertion(assertion))
        }
        _ => Err(ApiError::NoToken),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::post;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use nas_cron_jwt::testing::Signing;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::http::agent_identity::{self, AgentIdentity};
    use crate::instance::testing::authenticator;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
    }

    #[test]
    fn bearer_token_is_read_from_the_authorization_header() {
        for good in ["Bearer t.o.k", "bearer t.o.k", "BEARER   t.o.k  ", " Bearer\tt.o.k"] {
            assert_eq!(bearer_token(&headers(&[good])).unwrap(), "t.o.k", "{good:?}");
        }
        for none in ["", "Bearer", "Bearer ", "Basic dTpw", "AgentAssertion abc", "t.o.k", "Bearert.o.k"] {
            assert!(matches!(bearer_token(&headers(&[none])), Err(ApiError::NoToken)), "{none:?}");
        }
        assert!(matches!(bearer_token(&HeaderMap::new()), Err(ApiError::NoToken)));
        for bad in [
            &["Bearer a", "Bearer b"][..],
            &["Bearer a", "Bearer a"],
            &["Basic x", "Bearer a"],
            &["Bearer ä"],
        ] {
            assert!(matches!(bearer_token(&headers(bad)), Err(ApiError::InvalidToken(_))), "{bad:?}");
        }
    }

    #[test]
    fn assertion_is_recognized_by_its_scheme() {
        for good in ["AgentAssertion e30", "agentassertion e30", "AGENTASSERTION \t e30 "] {
            assert!(
                matches!(credential(&headers(&[good])).unwrap(), Credential::AgentAssertion("e30")),
                "{good:?}"
            );
        }
        for none in ["AgentAssertion", "AgentAssertion ", "Agent e30", "AgentAssertione30"] {
            assert!(matches!(credential(&headers(&[none])), Err(ApiError::NoToken)), "{none:?}");
        }
        assert!(matches!(
            credential(&headers(&["Bearer a", "AgentAssertion e30"])),
            Err(ApiError::InvalidToken(_))
        ));
    }

    /// A service without a database: its responses come from authentication alone.
    fn service(keys: &[&Signing]) -> Router {
        Router::new()
            .route("/", post(async |caller: Caller| caller.instance.instance_id.to_string()))
            .with_state(authenticator(keys))
    }

    async fn call(router: &Router, authorization: Option<String>) -> (u16, Value, Option<String>) {
        let mut request = Request::post("/").body(Body::empty()).unwrap();
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value.parse().unwrap());
        }
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let challenge =
            response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap(), challenge)
    }

    fn token(signing: &Signing, changes: &Value) -> String {
        let mut claims = json!({"iss": "https://portal.example", "exp": 1_800_003_600, "iat": 1_799_999_000});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        format!("Bearer {}", signing.sign(&claims))
    }

    #[tokio::test]
    async fn a_bad_token_is_401_invalid_token_with_a_challenge() {
        let portal = Signing::es256("k");
        let service = service(&[&portal]);
        let (status, body, challenge) = call(&service, None).await;
        assert_eq!(
            (status, body["error"].as_str(), challenge.as_deref()),
            (401, Some("invalid_token"), Some("Bearer, AgentAssertion"))
        );
        let fire = token(&portal, &json!({"purpose": "cron_fire", "aud": "agent:i1"}));
        let forged = token(&Signing::es256("k"), &json!({"client_id": "agent:i1"}));
        for bad in ["Bearer garbage".to_owned(), fire, forged] {
            let (status, body, challenge) = call(&service, Some(bad)).await;
            assert_eq!((status, body["error"].as_str()), (401, Some("invalid_token")));
            assert_eq!(challenge.as_deref(), Some("Bearer error=\"invalid_token\""));
        }
    }

    #[tokio::test]
    async fn an_identity_that_can_never_provision_is_403_invalid_client() {
        let portal = Signing::es256("k");
        let (status, body, challenge) =
            call(&service(&[&portal]), Some(token(&portal, &json!({"sub": "u"})))).await;
        assert_eq!((status, body["error"].as_str(), challenge), (403, Some("invalid_client"), None));
        assert!(body["error_description"].is_string());
    }

    #[tokio::test]
    async fn unavailable_database_is_503_at_the_deadline_and_never_403() {
        let portal = Signing::es256("k");
        let service = service(&[&portal]);
        let token = token(&portal, &json!({"client_id": "agent:i1"}));
        let id = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d";
        let assertion = json!({
            "agent_runtime_id": id, "task_id": id, "timestamp": "2027-01-15T08:00:00Z",
            "signature": STANDARD.encode([7; 64]),
        });
        let assertion = format!("AgentAssertion {}", URL_SAFE_NO_PAD.encode(assertion.to_string()));
        tokio::time::pause();
        for credential in [token, assertion] {
            let arrived = Instant::now();
            let (status, body, _) = call(&service, Some(credential)).await;
            assert_eq!((status, body["error"].as_str()), (503, Some("temporarily_unavailable")));
            let took = arrived.elapsed();
            // tokio's timers have a resolution of 1 ms.
            let budget = Duration::from_secs(11)..=AGENT_API_BUDGET + Duration::from_millis(5);
            assert!(budget.contains(&took), "{took:?}");
        }
    }

    /// A task registration is the only request that is authenticated by its body.
    #[tokio::test]
    async fn time_to_receive_the_body_counts_towards_the_deadline() {
        let authenticator = authenticator(&[&Signing::es256("k")]);
        let state = AgentIdentity { authenticator };
        let router: Router = agent_identity::routes(state).into();
        let body = json!({"timestamp": "2027-01-15T08:00:00Z", "signature": STANDARD.encode([7; 64])});
        let slow = futures::stream::once(async move {
            tokio::time::sleep(Duration::from_secs(8)).await;
            Ok::<_, Infallible>(body.to_string())
        });
        let path = "/v1/agent/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d/task/register";
        tokio::time::pause();
        let arrived = Instant::now();
        let response =
            router.oneshot(Request::post(path).body(Body::from_stream(slow)).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 503);
        let took = arrived.elapsed();
        let budget = Duration::from_secs(11)..=AGENT_API_BUDGET + Duration::from_millis(5);
        assert!(budget.contains(&took), "{took:?}");
    }
}
