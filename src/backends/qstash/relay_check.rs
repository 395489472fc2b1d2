//! The relay's check in `nas-cron doctor`: calls the relay by the URL that QStash uses.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::{Host, Url};

use crate::backends::checks::{Examined, NOT_CONFIGURED};
use crate::diagnosis::{Finding, Status, never_answered};
use crate::fire::address_policy::AddressPolicy;

/// Maximum length of a response that is read, in bytes. The service's own has a few hundred.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Checks that QStash can reach the relay URL, and that it leads to the service. The service is recognized by its
/// response to an unsigned call.
pub(super) async fn relay(examined: Examined<'_>) -> Finding {
    if examined.config.qstash.is_none() {
        return Finding::skipped(format!("{NOT_CONFIGURED}: only QStash calls it"));
    }
    let url = &examined.config.relay_url;
    let finding = match unsigned(url, examined.patience).await {
        Ok((status, body)) if is_our_refusal(status, &body) => {
            Finding::ok(format!("{url} leads to the service"))
        }
        Ok((status, _)) => Finding::wrong(
            format!("{url} answers {status} instead of 401 invalid_signature to an unsigned call"),
            "route the unchanged path to the service, or set NAS_CRON_RELAY_URL to the URL that QStash can reach",
        ),
        Err(error) if never_answered(&error) => Finding::warning(
            format!("{url} could not be reached from here: {error:#}"),
            "QStash may still reach it: check from outside that an unsigned POST is answered with 401",
        ),
        Err(error) => Finding::wrong(
            format!("{url} did not answer like the service: {error:#}"),
            "route the unchanged path to the service",
        ),
    };
    match obstacle(url) {
        Some(obstacle) if finding.status == Status::Ok => Finding::warning(
            format!("{}, but {obstacle}", finding.found),
            "set NAS_CRON_RELAY_URL to the public https URL, unless QStash runs in the same network",
        ),
        Some(obstacle) => Finding { found: format!("{}; and {obstacle}", finding.found), ..finding },
        None => finding,
    }
}

/// Returns why QStash may not reach the URL, or why the calls would not be confidential.
fn obstacle(url: &Url) -> Option<&'static str> {
    let public = match url.host() {
        Some(Host::Ipv4(ip)) => AddressPolicy::default().permits(ip.into()),
        Some(Host::Ipv6(ip)) => AddressPolicy::default().permits(ip.into()),
        // A name without a dot resolves on one machine or in one network only. A dot at its end changes nothing.
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.contains('.') && !name.ends_with(".localhost")
        }
        None => false,
    };
    match (public, url.scheme() == "https") {
        (false, _) => Some("its host is not public"),
        (true, false) => Some("it is plain http"),
        (true, true) => None,
    }
}

/// Calls the relay without a signature.
async fn unsigned(url: &Url, patience: Duration) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(patience)
        .build()?;
    let request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body("{}");
    let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok((response.status(), body))
}

fn is_our_refusal(status: StatusCode, body: &[u8]) -> bool {
    let problem: Value = nas_cron_protocol::json::from_slice(body).unwrap_or_default();
    status == StatusCode::UNAUTHORIZED && problem["error"] == "invalid_signature"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_out_of_qstashs_reach_are_reported() {
        for (url, expected) in [
            ("https://portal.example/api/agent-cron/relay", None),
            ("http://portal.example/api/agent-cron/relay", Some("it is plain http")),
            ("https://93.184.215.14/relay", None),
            ("https://10.1.2.3/relay", Some("its host is not public")),
            ("https://[::1]/relay", Some("its host is not public")),
            ("https://10.1.2.3./relay", Some("its host is not public")),
            ("https://nas-cron/relay", Some("its host is not public")),
            ("https://nas-cron./relay", Some("its host is not public")),
            ("https://localhost./relay", Some("its host is not public")),
            ("https://nas.localhost./relay", Some("its host is not public")),
            ("https://portal.example./relay", None),
            ("http://nas.localhost:8080/relay", Some("its host is not public")),
        ] {
            assert_eq!(obstacle(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn only_the_services_own_refusal_counts() {
        let ours = br#"{"type":"about:blank","status":401,"error":"invalid_signature"}"#;
        assert!(is_our_refusal(StatusCode::UNAUTHORIZED, ours));
        assert!(!is_our_refusal(StatusCode::FORBIDDEN, ours));
        assert!(!is_our_refusal(StatusCode::UNAUTHORIZED, br#"{"error":"invalid_token"}"#));
        assert!(!is_our_refusal(StatusCode::UNAUTHORIZED, b"<html>"));
    }
}
