//! Fuzz targets: headers and bodies of requests. See [`crate::fuzzing`].

use axum::http::HeaderValue;
use nas_cron_protocol::agent_api::ProvisionRequest;
use nas_cron_protocol::relay::WakeBody;

use super::auth::credential_in;
use super::extract::json;
use crate::domain::wake_up::Wake;
use crate::fuzzing::lenient;
use crate::instance::Credential;
use crate::oneshot::Provision;

/// The header `Authorization`.
pub fn authorization(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let Ok(credential) = credential_in(&value) else { return };
    let (scheme, presented) = match credential {
        Credential::Bearer(token) => ("bearer", token),
        Credential::AgentAssertion(assertion) => ("agentassertion", assertion),
    };
    let text = value.to_str().expect("ASCII").trim().to_ascii_lowercase();
    assert!(text.starts_with(scheme) && text.ends_with(&presented.to_ascii_lowercase()), "{text}");
    assert!(!presented.is_empty() && presented.trim() == presented, "{presented:?}");
}

/// The body of a provision.
pub fn provision(data: &[u8]) {
    let body: ProvisionRequest = match json::parse(data) {
        Ok(body) => body,
        Err(problem) => {
            assert!(!problem.is_empty() && problem.len() <= 400, "{problem}");
            return;
        }
    };
    let said = lenient(data);
    for (name, read) in [("job_id", &body.job_id), ("fire_at", &body.fire_at), ("dedup_key", &body.dedup_key)]
    {
        assert_eq!(said[name], **read);
    }
    let wanted = Provision::new(&body.job_id, &body.fire_at, &body.agent_callback_url, &body.dedup_key);
    let wanted = wanted.and_then(|wanted| wanted.with_auth(body.auth).with_not_after(body.not_after));
    if let Ok(wanted) = wanted {
        let limit = wanted.not_after.value().map(nas_cron_protocol::NotAfter::instant);
        assert!(limit.is_none_or(|limit| limit >= wanted.fire_at.instant()), "{wanted:?}");
    }
}

/// The body of a wake-up.
pub fn wake(data: &[u8]) {
    let Ok(body) = json::parse::<WakeBody>(data) else { return };
    let said = lenient(data);
    if let Ok(wake) = Wake::try_from(body) {
        assert_eq!(said["instance_id"], wake.instance_id.as_str());
        assert_eq!(said["job_id"], wake.job_id.as_str());
    }
}
