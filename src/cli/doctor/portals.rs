//! Checks of the portal and other issuers: lookup of instances, token introspection, and the further issuers' keys.

use futures::future::join_all;
use url::Url;

use super::deployment::Deployment;
use super::keys::usable_keys;
use crate::config::Introspection;
use crate::diagnosis::{Finding, Status};
use crate::instance::{introspection, lookup};

/// Checks that the lookup at the portal responds, and reports an invented instance as unknown.
pub(super) async fn directory(deployment: &Deployment) -> Finding {
    let Some(at) = &deployment.config.portal.lookup else {
        return Finding::skipped("built-in directory: agents are registered with this service");
    };
    let url = without_query(&at.url);
    match lookup::probe(at).await {
        Ok(false) => Finding::ok(format!("the lookup at {url} responds")),
        Ok(true) => Finding::wrong(
            format!("the lookup at {url} returned an instance for an invented id"),
            "it must return {\"instance\":null} for an unknown instance: see docs/portals.md",
        ),
        Err(error) => Finding::wrong(
            format!("the lookup at {url}: {error}"),
            "check NAS_CRON_LOOKUP_URL and NAS_CRON_LOOKUP_TOKEN against the portal, and that this machine can reach it",
        ),
    }
}

/// Checks that token introspection responds, and reports an invented token as inactive.
pub(super) async fn introspection(deployment: &Deployment) -> Finding {
    let portal = &deployment.config.portal;
    let others = portal.issuers.iter().filter_map(|other| other.introspection.as_ref());
    let findings = join_all(portal.introspection.iter().chain(others).map(introspects)).await;
    together(findings, "not configured: opaque tokens are rejected")
}

async fn introspects(at: &Introspection) -> Finding {
    let url = without_query(&at.url);
    match introspection::probe(at).await {
        Ok(false) => Finding::ok(format!("{url} responds")),
        Ok(true) => Finding::wrong(
            format!("{url} reported an invented token as active"),
            "it must return {\"active\":false} for a token that it did not issue (RFC 7662)",
        ),
        Err(error) => Finding::wrong(
            format!("{url}: {error}"),
            "check the introspection URL, client and secret against the issuer, and that this machine can reach it",
        ),
    }
}

/// Checks that the keys of each further issuer are usable. Without them, its agents are rejected.
pub(super) async fn issuers(deployment: &Deployment) -> Finding {
    let with_keys = deployment.config.portal.issuers.iter();
    let with_keys = with_keys.filter_map(|other| other.jwks.as_ref().map(|jwks| (&other.issuer, jwks)));
    let findings = join_all(with_keys.map(async |(issuer, jwks)| match usable_keys(jwks).await {
        Ok(found) => Finding::ok(format!("{issuer}: {found}")),
        Err(error) => Finding::wrong(
            format!("{issuer}: {error}"),
            "set its jwks_url or jwks_file in NAS_CRON_ISSUERS_FILE to its public keys, and check that this machine can reach them",
        ),
    }))
    .await;
    together(findings, "no further issuer with keys is configured")
}

/// Returns the URL without its query, which may hold a secret.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// Merges findings into one, with the status and the fix of the first wrong one.
fn together(findings: Vec<Finding>, none: &str) -> Finding {
    if findings.is_empty() {
        return Finding::skipped(none);
    }
    let found = findings.iter().map(|one| one.found.as_str()).collect::<Vec<_>>().join("\n");
    match findings.into_iter().find(|one| one.status == Status::Wrong) {
        Some(wrong) => Finding { found, ..wrong },
        None => Finding::ok(found),
    }
}
