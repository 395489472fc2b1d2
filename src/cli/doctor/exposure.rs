//! Checks of what the service shows to the outside: its URLs and the admin API.

use super::deployment::Deployment;
use crate::config::{BaseUrl, Config};
use crate::diagnosis::Finding;

/// Plain http shows tokens to everybody on the way.
pub(super) async fn public_urls(deployment: &Deployment) -> Finding {
    let Config { portal, http, .. } = &deployment.config;
    let urls = [("portal_url", &portal.url), ("public_url", &http.public_url)];
    let is_plain = |url: &BaseUrl| url.url().scheme() != "https";
    let plain: Vec<_> = urls.iter().filter(|(_, url)| is_plain(url)).map(|(key, _)| *key).collect();
    if plain.is_empty() {
        return Finding::ok("https");
    }
    Finding::warning(
        format!("plain http in {}: tokens can be read on the way", plain.join(" and ")),
        "use https outside of a development machine, and let TLS end in front of the service",
    )
}

/// Without it agents are registered by hand.
pub(super) async fn admin_api(deployment: &Deployment) -> Finding {
    match deployment.config.admin_token_sha256.len() {
        0 => Finding::warning(
            "closed: no token opens it",
            "set NAS_CRON_ADMIN_TOKEN_SHA256, unless agents are registered with `nas-cron agents` alone",
        ),
        1 => Finding::ok("one token opens it"),
        several => Finding::ok(format!("{several} tokens open it")),
    }
}
