//! Checks of the service as seen from outside: its URLs and the admin API.

use std::time::Duration;

use nas_cron_base::terminal::counted;
use url::{Host, Url};

use super::deployment::{Deployment, Needs};
use crate::config::{BaseUrl, Config};
use crate::db::admin_tokens;
use crate::diagnosis::{Finding, failed};
use crate::domain::admin_token::ValidTokens;

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

/// Time before the end of an admin token from which it is a warning.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// Checks that an admin token is valid, and that none ends soon. Without any, agents are registered on the command line
/// only.
pub(super) async fn admin_api(deployment: &Deployment) -> Finding {
    let configured = deployment.config.admin_token_sha256.len();
    let stored = match deployment.lacks(Needs::Schema).await {
        Some(_) => ValidTokens::default(),
        None => match admin_tokens::valid(&deployment.db, ENDS_SOON).await {
            Ok(stored) => stored,
            Err(error) => return failed(error),
        },
    };
    judge_tokens(configured, &stored)
}

fn judge_tokens(configured: usize, stored: &ValidTokens) -> Finding {
    let count = i64::try_from(configured).unwrap_or(i64::MAX).saturating_add(stored.count);
    if count == 0 {
        return Finding::warning(
            "disabled: no admin token is valid",
            "create one with `nas-cron admin-tokens create`, unless agents are registered with `nas-cron agents` only",
        );
    }
    if stored.end_soon.is_empty() {
        return Finding::ok(format!("enabled, with {}", counted(count, "token")));
    }
    Finding::warning(
        format!("admin tokens that expire within 14 days: {}", stored.end_soon.join(", ")),
        "create their successors with `nas-cron admin-tokens create`, and revoke those that are no longer used",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

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
    #[test]
    fn missing_admin_token_is_a_warning_and_so_is_one_that_ends_soon() {
        let stored = |count, end_soon: &[&str]| ValidTokens {
            count,
            end_soon: end_soon.iter().map(|&name| name.to_owned()).collect(),
        };
        assert_eq!(judge_tokens(0, &stored(0, &[])).status, Status::Warning);
        assert_eq!(judge_tokens(1, &stored(0, &[])).found, "enabled, with 1 token");
        assert_eq!(judge_tokens(1, &stored(2, &[])).found, "enabled, with 3 tokens");
        let ends = judge_tokens(1, &stored(2, &["ci", "portal"]));
        assert_eq!(
            (ends.status, ends.found.as_str()),
            (Status::Warning, "admin tokens that expire within 14 days: ci, portal")
        );
    }
}
