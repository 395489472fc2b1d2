//! Fetches the JWKS as agents get it.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use nas_cron_base::http_client;
use serde_json::Value;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 256 * 1024;

/// Fetches the JWK with this `kid` from `url` as an agent would: redirects are followed, and caches may respond.
///
/// Returns `None` if the JWKS has no such key, and an error if the URL is unreachable or does not serve a JWKS.
pub async fn find(url: &Url, kid: &str) -> anyhow::Result<Option<Value>> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::limited(5))
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let response = client.get(url.clone()).header("accept", "application/json").send().await;
    let mut response = response.map_err(reqwest::Error::without_url)?;
    ensure!(response.status().is_success(), "it returned {}", response.status());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(
            body.len() + chunk.len() <= MAX_BYTES,
            "the response is larger than 256 KiB, the limit for a JWKS"
        );
        body.extend_from_slice(&chunk);
    }
    let document: Value = nas_cron_protocol::json::from_slice(&body)
        .map_err(|error| anyhow!("the response is not JSON: {error}"))?;
    let keys = document["keys"].as_array().context("the response has no list `keys`")?;
    Ok(keys.iter().find(|key| key["kid"] == kid).cloned())
}

/// Formats an error of [`find`] without the words of the HTTP client.
pub fn reason(error: anyhow::Error) -> String {
    match error.downcast::<reqwest::Error>() {
        Ok(error) => http_client::reason(error),
        Err(error) => format!("{error:#}"),
    }
}
