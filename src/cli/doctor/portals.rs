//! Whom the portal and its like let us ask: the lookup of instances, introspection, and the further issuers' keys.

use futures::future::join_all;
use url::Url;

use super::deployment::Deployment;
use super::keys::usable_keys;
use crate::config::Introspection;
use crate::diagnosis::{Finding, Status};
use crate::instance::{introspection, lookup};

/// Where the portal is asked which instances there are, it must say a clear no to one that nobody has.
pub(super) async fn directory(deployment: &Deployment) -> Finding {
    let Some(at) = &deployment.config.portal.lookup else {
        return Finding::skipped("our own table: agents are registered here");
    };
    let url = place(&at.url);
    match lookup::probe(at).await {
        Ok(false) => Finding::ok(format!("the portal's lookup at {url} answers")),
        Ok(true) => Finding::wrong(
            format!("the lookup at {url} knows an agent that was invented a moment ago"),
            "it must say {\"instance\":null} of what it does not know: see docs/portals.md",
        ),
        Err(error) => Finding::wrong(
            format!("the lookup at {url}: {error}"),
            "set NAS_CRON_LOOKUP_URL and NAS_CRON_LOOKUP_TOKEN to what the portal has, and let this machine reach it",
        ),
    }
}

/// Introspection must say of a token that nobody has issued that it is not active.
pub(super) async fn introspection(deployment: &Deployment) -> Finding {
    let portal = &deployment.config.portal;
    let others = portal.issuers.iter().filter_map(|other| other.introspection.as_ref());
    let findings = join_all(portal.introspection.iter().chain(others).map(introspects)).await;
    together(findings, "not configured: opaque tokens are refused")
}

async fn introspects(at: &Introspection) -> Finding {
    let url = place(&at.url);
    match introspection::probe(at).await {
        Ok(false) => Finding::ok(format!("{url} answers")),
        Ok(true) => Finding::wrong(
            format!("{url} takes a token for active that was invented a moment ago"),
            "it must answer {\"active\":false} to what it has not issued (RFC 7662)",
        ),
        Err(error) => Finding::wrong(
            format!("{url}: {error}"),
            "set the introspection URL, its client and its secret to what the issuer has, and let this machine reach it",
        ),
    }
}

/// Without its keys no agent of an issuer is let in.
pub(super) async fn issuers(deployment: &Deployment) -> Finding {
    let with_keys = deployment.config.portal.issuers.iter();
    let with_keys = with_keys.filter_map(|other| other.jwks.as_ref().map(|jwks| (&other.issuer, jwks)));
    let findings = join_all(with_keys.map(async |(issuer, jwks)| match usable_keys(jwks).await {
        Ok(found) => Finding::ok(format!("{issuer}: {found}")),
        Err(error) => Finding::wrong(
            format!("{issuer}: {error}"),
            "set its jwks_url or jwks_file in NAS_CRON_ISSUERS_FILE to its public keys, and let this machine reach them",
        ),
    }))
    .await;
    together(findings, "none with keys beside the portal")
}

/// Without what a query may hold.
fn place(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// As bad as the worst, and mended as that.
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
