//! Checks of the service as seen from outside: its URLs and the admin API.

use url::{Host, Url};

use super::deployment::Deployment;
use crate::config::{BaseUrl, Config};
use crate::diagnosis::Finding;

/// Checks that tokens are not sent over plain http, except on loopback.
pub(super) async fn public_urls(deployment: &Deployment) -> Finding {
    let Config { portal, http, .. } = &deployment.config;
    let urls = [("portal_url", &portal.url), ("public_url", &http.public_url)];
    let is_plain = |url: &BaseUrl| url.url().scheme() != "https" && !is_loopback(url.url());
    let plain: Vec<_> = urls.iter().filter(|(_, url)| is_plain(url)).map(|(key, _)| *key).collect();
    if plain.is_empty() {
        let all_https = urls.iter().all(|(_, url)| url.url().scheme() == "https");
        return Finding::ok(if all_https { "https" } else { "https, or http on loopback" });
    }
    Finding::warning(
        format!("plain http in {}: tokens can be read on the network", plain.join(" and ")),
        "use https, with TLS terminated in front of the service; http is fine on loopback only",
    )
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Checks that the admin API is enabled. Without it, agents are registered on the command line only.
pub(super) async fn admin_api(deployment: &Deployment) -> Finding {
    match deployment.config.admin_token_sha256.len() {
        0 => Finding::warning(
            "disabled: no admin token is configured",
            "set NAS_CRON_ADMIN_TOKEN_SHA256, unless agents are registered with `nas-cron agents` only",
        ),
        1 => Finding::ok("enabled, with 1 token"),
        several => Finding::ok(format!("enabled, with {several} tokens")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_accepted_on_loopback_only() {
        for (url, loopback) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:8080", true),
            ("http://localhost:8080", true),
            ("http://portal.localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
            ("http://127.0.0.1.example", false),
            ("http://0.0.0.0", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}
