//! The check of the relay, as QStash would find it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::{Host, Url};

use crate::backends::checks::{Examined, NOT_CONFIGURED};
use crate::diagnosis::{Finding, Status, never_answered};
use crate::fire::address_policy::AddressPolicy;

/// Our own refusal is a few hundred bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Whether its URL can be called by QStash, and leads to us: nobody else refuses an unsigned call as we do.
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
            format!("{url} answers {status} where the service would refuse with 401 invalid_signature"),
            "lead its path to the service, unchanged, or set NAS_CRON_RELAY_URL to where QStash finds it",
        ),
        Err(error) if never_answered(&error) => Finding::warning(
            format!("{url} cannot be reached from here: {error:#}"),
            "QStash may see more than this machine: an unsigned POST from outside must be answered 401",
        ),
        Err(error) => Finding::wrong(
            format!("{url} does not answer as the service: {error:#}"),
            "lead its path to the service, unchanged",
        ),
    };
    match obstacle(url) {
        Some(obstacle) if finding.status == Status::Ok => Finding::warning(
            format!("{}, but {obstacle}", finding.found),
            "set NAS_CRON_RELAY_URL to its public https URL, unless your QStash runs beside it",
        ),
        Some(obstacle) => Finding { found: format!("{}; and {obstacle}", finding.found), ..finding },
        None => finding,
    }
}

/// What keeps strangers from calling it, or shows them what is in it.
fn obstacle(url: &Url) -> Option<&'static str> {
    let public = match url.host() {
        Some(Host::Ipv4(ip)) => AddressPolicy::default().permits(ip.into()),
        Some(Host::Ipv6(ip)) => AddressPolicy::default().permits(ip.into()),
        // A name without a dot is known to one machine, or one network.
        Some(Host::Domain(name)) => name.contains('.') && !name.ends_with(".localhost"),
        None => false,
    };
    match (public, url.scheme() == "https") {
        (false, _) => Some("its host is not public"),
        (true, false) => Some("it is plain http"),
        (true, true) => None,
    }
}

/// Calls it as nobody in particular.
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
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    status == StatusCode::UNAUTHORIZED && problem["error"] == "invalid_signature"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_qstash_cannot_call_are_reported() {
        for (url, expected) in [
            ("https://portal.example/api/agent-cron/relay", None),
            ("http://portal.example/api/agent-cron/relay", Some("it is plain http")),
            ("https://93.184.215.14/relay", None),
            ("https://10.1.2.3/relay", Some("its host is not public")),
            ("https://[::1]/relay", Some("its host is not public")),
            ("https://nas-cron/relay", Some("its host is not public")),
            ("http://nas.localhost:8080/relay", Some("its host is not public")),
        ] {
            assert_eq!(obstacle(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn only_our_own_refusal_counts() {
        let ours = br#"{"type":"about:blank","status":401,"error":"invalid_signature"}"#;
        assert!(is_our_refusal(StatusCode::UNAUTHORIZED, ours));
        assert!(!is_our_refusal(StatusCode::FORBIDDEN, ours));
        assert!(!is_our_refusal(StatusCode::UNAUTHORIZED, br#"{"error":"invalid_token"}"#));
        assert!(!is_our_refusal(StatusCode::UNAUTHORIZED, b"<html>"));
    }
}
