//! Fuzz targets: headers and bodies of requests. See [`crate::fuzzing`].

use std::sync::LazyLock;

use axum::http::HeaderValue;
use nas_cron_protocol::agent_api::ProvisionRequest;
use nas_cron_protocol::relay::WakeBody;
use percent_encoding::percent_decode;
use secrecy::{ExposeSecret, SecretBox};

use super::auth::credential_in;
use super::extract::form::FormFields;
use super::extract::json;
pub use super::ops::fuzzing::sign_in;
use crate::domain::wake_up::Wake;
use crate::fuzzing::{first_line, lenient};
use crate::instance::Credential;
use crate::oneshot::Provision;
use crate::own_portal::RefreshKeys;

/// The fields of a token request.
const TOKEN_REQUEST: [&str; 3] = ["grant_type", "client_id", "refresh_token"];

static REFRESH_KEYS: LazyLock<RefreshKeys> =
    LazyLock::new(|| RefreshKeys::derive(&SecretBox::new(Box::new([1; 32])), &[]));

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

/// A token request of an agent at the built-in portal: a refresh token in the first line, as in the header, and the form in the
/// others.
pub fn token_request(data: &[u8]) {
    let (header, body) = first_line(data);
    let mut tokens = vec![String::from_utf8_lossy(header).into_owned()];
    if let Ok(form) = FormFields::parse(body, &TOKEN_REQUEST) {
        for name in TOKEN_REQUEST {
            let read = form.text(name).map(|value| value.expose_secret().to_owned());
            let said = values(body, name);
            assert!(said.len() <= 1, "{name} is there {} times", said.len());
            assert_eq!(read.as_ref(), said.first(), "{name}");
            tokens.extend(read);
        }
    }
    for token in tokens {
        if let Some((ticket, _)) = REFRESH_KEYS.read(&token) {
            assert_eq!(REFRESH_KEYS.token(ticket).expose_secret(), token, "a refresh token has one text");
        }
    }
}

/// Returns the values of a field in a form, apart from empty ones: the second opinion.
pub(super) fn values(form: &[u8], name: &str) -> Vec<String> {
    let decoded = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        String::from_utf8_lossy(&percent_decode(&spaced).collect::<Vec<u8>>()).into_owned()
    };
    let pairs = form.split(|byte| *byte == b'&').filter_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=')?;
        (decoded(&pair[..end]) == name).then(|| decoded(&pair[end + 1..]))
    });
    pairs.filter(|value| !value.is_empty()).collect()
}
