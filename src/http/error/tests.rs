use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use nas_cron_protocol::admin_api::QuotaScope;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::meaning::INVALID_TOKEN;
use super::*;
use crate::instance::{Refusal, TokenError, VerifyError};

async fn response_parts(error: impl IntoResponse) -> (u16, Value, Vec<(String, String)>) {
    let response = error.into_response();
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .filter(|(name, _)| ["retry-after", "www-authenticate"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap(), headers)
}

fn unavailable() -> StoreError {
    StoreError::unavailable()
}

fn defect() -> StoreError {
    StoreError::defect("secret_column")
}

#[tokio::test]
async fn every_error_has_its_status_word_and_headers() {
    let verify = |error: VerifyError| ApiError::from(AuthError::from(error));
    let refused = |error: Refusal| ApiError::from(AuthError::from(error));
    let cases = [
        (ApiError::NoToken, 401, "invalid_token", Some(("www-authenticate", "Bearer"))),
        (ApiError::InvalidSignature, 401, "invalid_signature", Some(("www-authenticate", "Signature"))),
        (ApiError::InvalidToken("x"), 401, "invalid_token", Some(("www-authenticate", INVALID_TOKEN))),
        (verify(TokenError::Expired.into()), 401, "invalid_token", Some(("www-authenticate", INVALID_TOKEN))),
        (verify(VerifyError::KeysUnavailable), 503, "temporarily_unavailable", Some(("retry-after", "10"))),
        (verify(VerifyError::TooManyWaiters), 503, "temporarily_unavailable", Some(("retry-after", "10"))),
        (refused(Refusal::InvalidClient), 403, "invalid_client", None),
        (refused(Refusal::SessionWithoutOrg), 403, "invalid_client", None),
        (refused(Refusal::AudienceAlone), 403, "invalid_client", None),
        (refused(Refusal::Disabled), 403, "access_denied", None),
        (refused(Refusal::NotYetKnown), 503, "temporarily_unavailable", Some(("retry-after", "30"))),
        (InvalidField::new("fire_at", "is odd").into(), 400, "invalid_request", None),
        (ApiError::Body("x".to_owned()), 400, "invalid_request", None),
        (ApiError::TooLarge(65536), 413, "invalid_request", None),
        (ApiError::BodyTimeout, 408, "invalid_request", None),
        (ApiError::NotFound("x".into()), 404, "not_found", None),
        (ApiError::MethodNotAllowed, 405, "method_not_allowed", None),
        (ApiError::Conflict("x".into()), 409, "conflict", None),
        (
            ApiError::TooFast(Duration::from_millis(2500)),
            429,
            "too_many_requests",
            Some(("retry-after", "3")),
        ),
        (QuotaExceeded { scope: QuotaScope::Org, quota: 3, armed: 3 }.into(), 429, "quota_exceeded", None),
        (unavailable().into(), 503, "temporarily_unavailable", Some(("retry-after", "5"))),
        (AuthError::from(unavailable()).into(), 503, "temporarily_unavailable", Some(("retry-after", "5"))),
        (defect().into(), 500, "server_error", None),
        (AuthError::from(defect()).into(), 500, "server_error", None),
        (ApiError::Internal("secret".into()), 500, "server_error", None),
        (
            ApiError::Unavailable { reason: "secret".into(), retry_after: Duration::from_millis(1500) },
            503,
            "temporarily_unavailable",
            Some(("retry-after", "2")),
        ),
    ];
    for (error, status, word, header) in cases {
        let name = format!("{error:?}");
        let (actual_status, body, headers) = response_parts(error).await;
        assert_eq!((actual_status, body["error"].as_str().unwrap()), (status, word), "{name}");
        let header: Vec<_> =
            header.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(headers, header, "{name}");
        let description = body["error_description"].as_str().unwrap();
        assert!(!description.is_empty() && !description.contains("secret"), "{name}: {description}");
        assert!(!description.contains("pool"), "5xx reveal no internal details: {description}");
    }
}

#[tokio::test]
async fn every_identity_error_has_its_status_word_and_headers() {
    use IdentityError as E;
    let asserted = |error: &str| Some(("www-authenticate", format!("AgentAssertion error=\"{error}\"")));
    let cases = [
        (E::SchemeNotEnabled, 401, "scheme_not_enabled", Some(("www-authenticate", "Bearer".to_owned()))),
        (E::Off, 403, "agent_identity_off", None),
        (E::Invalid("x"), 401, "invalid_assertion", asserted("invalid_assertion")),
        (E::UnknownAgent, 401, "unknown_agent", asserted("unknown_agent")),
        (E::UnknownTask, 401, "unknown_task", asserted("unknown_task")),
        (E::Disabled, 403, "access_denied", None),
        (InvalidField::new("replaces", "is odd").into(), 400, "invalid_request", None),
        (E::KeyRevoked, 409, "key_revoked", None),
        (E::TooMany, 409, "too_many_identities", None),
        (E::TaskRevoked, 409, "task_revoked", None),
        (E::InstanceGone, 503, "temporarily_unavailable", Some(("retry-after", "30".to_owned()))),
        (E::Busy, 503, "temporarily_unavailable", Some(("retry-after", "5".to_owned()))),
        (unavailable().into(), 503, "temporarily_unavailable", Some(("retry-after", "5".to_owned()))),
        (defect().into(), 500, "server_error", None),
    ];
    for (error, status, word, header) in cases {
        let name = format!("{error:?}");
        let (actual_status, body, headers) = response_parts(ApiError::from(AuthError::from(error))).await;
        assert_eq!((actual_status, body["error"].as_str().unwrap()), (status, word), "{name}");
        let header: Vec<_> = header.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        assert_eq!(headers, header, "{name}");
        let description = body["error_description"].as_str().unwrap();
        assert!(!description.is_empty() && !description.contains("secret"), "{name}: {description}");
    }
}

#[tokio::test]
async fn description_begins_with_the_field_name() {
    let (_, body, _) =
        response_parts(ApiError::from(InvalidField::new("fire_at", "must have an offset"))).await;
    assert_eq!(
        body,
        json!({"error": "invalid_request", "error_description": "fire_at: must have an offset"})
    );
}

#[tokio::test]
async fn problem_is_sent_as_problem_details() {
    let response = Problem::from(InvalidField::new("org_id", "must not be empty")).into_response();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    let (status, body, _) = response_parts(response).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400,
            "detail": "org_id: must not be empty", "error": "invalid_request",
        })
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_get_json_errors() {
    let router = Router::new()
        .route("/a", post(async || ""))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let call = async |path: &str| {
        router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    };
    let wrong_method = call("/a").await;
    assert_eq!(wrong_method.headers()["allow"], "POST");
    assert_eq!(response_parts(wrong_method).await.1["error"], "method_not_allowed");
    let (status, body, _) = response_parts(call("/b").await).await;
    assert_eq!((status, body["error"].as_str().unwrap()), (404, "not_found"));
}
