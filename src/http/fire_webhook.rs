//! The fire as the webhook `fire` of the `OpenAPI` document (docs/contract.md#fire). Documentation only: the request is
//! sent by [`crate::fire`].

#![expect(dead_code, reason = "documents the request that `crate::fire` sends")]

use nas_cron_protocol::AuthChoice;
use utoipa::openapi::OpenApi as Document;
use utoipa::{OpenApi, ToSchema};

/// The description of the security scheme `fire_token`.
pub(super) const TOKEN: &str = "\
A JWT that opens one instance's fire endpoint. Each attempt has its own. Verify the signature (ES256 or RS256) with the \
key of the JWKS that `kid` names, `iss`, `aud`, `exp`, `nbf` and `purpose`, with at most 30 s of leeway. See the schema \
`FireTokenClaims`.";

/// The webhook's key in the document.
const NAME: &str = "fire";

/// Adds the webhook and its schemas to `document`.
pub(super) fn add_to(document: &mut Document) {
    let webhooks = Webhooks::openapi();
    document.webhooks = Some(webhooks.paths);
    let schemas = webhooks.components.into_iter().flat_map(|components| components.schemas);
    document.components.get_or_insert_default().schemas.extend(schemas);
}

#[derive(OpenApi)]
#[openapi(paths(fire), components(schemas(FireTokenClaims)))]
struct Webhooks;

/// A one-shot that is due.
#[derive(ToSchema)]
struct FireRequest {
    /// The job.
    #[schema(example = "ab12cd34")]
    job_id: String,
    /// The instant, byte for byte as the agent sent it.
    #[schema(example = "2026-06-18T12:34:56.250000+00:00")]
    fire_at: String,
    /// The auth profiles that the agent runs the job with, in order of preference; `false`: explicitly none. Absent if
    /// nothing is set.
    #[schema(value_type = AuthChoice, required = false)]
    auth: Option<AuthChoice>,
}

/// The claims of a fire token. Times are in whole seconds since 1970.
#[derive(ToSchema)]
struct FireTokenClaims {
    /// The portal's URL (`portal_url`), byte for byte.
    #[schema(example = "https://portal.example")]
    iss: String,
    /// `agent:<instance_id>`.
    #[schema(example = "agent:inst-1")]
    aud: String,
    /// Always `cron_fire`.
    #[schema(example = "cron_fire")]
    purpose: String,
    /// Time of minting.
    #[schema(example = 1_781_786_096)]
    iat: i64,
    /// Start of validity: equals `iat`, except with the backend `qstash_direct`.
    #[schema(example = 1_781_786_096)]
    nbf: i64,
    /// Expiry: 60 to 120 s after `iat`, 90 s by default; later with the backend `qstash_direct`.
    #[schema(example = 1_781_786_186)]
    exp: i64,
    /// Unique per attempt.
    jti: uuid::Uuid,
    /// The same as in the body.
    #[schema(example = "ab12cd34")]
    job_id: String,
    /// The same as in the body.
    #[schema(example = "2026-06-18T12:34:56.250000+00:00")]
    fire_at: String,
    /// The same as in the body. Absent if the body has none.
    #[schema(value_type = AuthChoice, required = false)]
    auth: Option<AuthChoice>,
}

/// The agent's answer to a fire.
#[derive(ToSchema)]
struct FireAnswer {
    /// `gone` if the agent no longer has the job. With any other body, the fire counts as delivered.
    #[schema(value_type = String, required = false, example = "gone")]
    status: Option<String>,
}

/// Fire a one-shot
///
/// The service sends this request to `{agent_callback_url}/api/cron/fire` when the one-shot is due, and again after
/// each failed attempt. The agent must answer within 30 s, before it runs the job. Delivery is at least once: claim the
/// job before running it, so that a repeated fire does not run it twice.
#[utoipa::path(post, path = NAME, operation_id = "fire", tag = "fire", security(("fire_token" = [])),
    params(
        ("X-Request-Id" = Option<uuid::Uuid>, Header, description = "ID of the attempt: also the token's `jti`. Each attempt has its own. Absent with the backend `qstash_direct`.", example = "0190a5e4-8d2f-7000-8000-000000000000"),
        ("traceparent" = Option<String>, Header, description = "The attempt's request, as the parent of the agent's own span (W3C Trace Context). The trace has the attempt's ID. Absent with the backend `qstash_direct`.", example = "00-0190a5e48d2f70008000000000000000-00f067aa0ba902b7-01"),
    ),
    request_body = FireRequest, responses(
    (status = 200, description = "`{\"status\":\"gone\"}`: the agent no longer has the job. The service does not retry, and forgets the key. Any other body: delivered.", body = FireAnswer),
    (status = "2XX", description = "Delivered; nothing to retry. Agents answer 202 `{\"status\":\"accepted\",\"job_id\":\"…\"}`."),
    (status = "default", description = "Not accepted, redirects included. The service retries with exponential back-off, respects a `Retry-After` of up to 1 h, and gives up after 72 h by default. Agents answer 400 without a `job_id`, 401 if the token is invalid, and 503 with `Retry-After` while they cannot accept fires. A timeout or a failed connection is retried, too.")))]
fn fire() {}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeSet;

    use nas_cron_protocol::fire::{FireBody, FireClaims};
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        let mut document = Document::default();
        add_to(&mut document);
        serde_json::to_value(document).unwrap()
    }

    fn fields(value: &Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn documented_fields_are_those_of_the_request() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let body = FireBody {
            job_id: "j".into(),
            fire_at: "t".into(),
            auth: Some(Cow::Owned(AuthChoice::NoProfile)),
        };
        assert_eq!(fields(&schemas["FireRequest"]["properties"]), fields(&json!(body)));
        let claims = FireClaims {
            iss: "p".into(),
            aud: "agent:i".into(),
            purpose: "cron_fire".into(),
            iat: 1,
            nbf: 1,
            exp: 2,
            jti: uuid::Uuid::nil(),
            job_id: "j".into(),
            fire_at: "t".into(),
            auth: Some(Cow::Owned(AuthChoice::NoProfile)),
        };
        assert_eq!(fields(&schemas["FireTokenClaims"]["properties"]), fields(&json!(claims)));
        for schema in ["FireRequest", "FireTokenClaims"] {
            let required = schemas[schema]["required"].as_array().unwrap();
            assert!(!required.contains(&json!("auth")) && required.contains(&json!("job_id")), "{schema}");
        }
    }

    #[test]
    fn webhook_is_one_post_with_the_outcomes_of_the_contract() {
        let document = document();
        assert_eq!(fields(&document["webhooks"]), BTreeSet::from(["fire"]));
        assert_eq!(fields(&document["webhooks"]["fire"]), BTreeSet::from(["post"]));
        let responses = &document["webhooks"]["fire"]["post"]["responses"];
        assert_eq!(fields(responses), BTreeSet::from(["200", "2XX", "default"]));
        assert_eq!(document["paths"], json!({}));
    }
}
