//! A look at the JWKS as agents get it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 256 * 1024;

/// The JWK called `kid` at `url`, fetched as an agent would: redirects are followed, and caches may answer.
pub(in crate::cli) async fn find(url: &Url, kid: &str) -> anyhow::Result<Option<Value>> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::limited(5))
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let response = client.get(url.clone()).header("accept", "application/json").send().await;
    let mut response = response.map_err(reqwest::Error::without_url)?;
    ensure!(response.status().is_success(), "it answers {}", response.status());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(body.len() + chunk.len() <= MAX_BYTES, "it is larger than 256 KiB: that is no JWKS");
        body.extend_from_slice(&chunk);
    }
    let document: Value = serde_json::from_slice(&body).context("it is not JSON")?;
    let keys = document["keys"].as_array().context("it is no JWKS: there is no list `keys` in it")?;
    Ok(keys.iter().find(|key| key["kid"] == kid).cloned())
}
