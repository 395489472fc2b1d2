//! Authentication of callers: the configured issuers, the portal's lookup API, and the tasks that keep both up to date.

use std::sync::Arc;

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use nas_cron_base::clock::Clock;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::config::{self, Config, PortalJwks};
use crate::db::Db;
use crate::heartbeat::Heartbeats;
use crate::identity::Identities;
use crate::instance::introspection::Endpoint;
use crate::instance::{
    Authenticator, FetchLimits, Issuer, Issuers, KeyRefresh, KeySet, Lookup, PortalKeys, Remembered,
    TokenRules,
};
use crate::keys::KeyRing;

/// A task that runs until the end of the process. It ends last, because the agent API is served during a drain.
pub(super) struct Background(BoxFuture<'static, ()>);

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Background")
    }
}

impl Background {
    /// Starts the task. It runs until the returned handle is dropped.
    pub(super) fn spawn(self, hearts: &Heartbeats) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(hearts.watch("callers", self.0))
    }
}

/// Returns the authenticator for the configured issuers and the tasks that it needs.
pub(super) async fn authenticator(
    config: &Config,
    db: &Db,
    ours: &Arc<KeyRing>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(Authenticator, Vec<Background>)> {
    let portal = &config.portal;
    let mut background = Vec::new();
    let mut refreshed = |issuer: &str, refresh: Option<KeyRefresh>| {
        let span = tracing::info_span!("issuer", issuer);
        background.extend(refresh.map(|refresh| Background(refresh.run().instrument(span).boxed())));
    };

    let (keys, refresh) = keys(&portal.jwks, "portal_jwks_file", ours).await?;
    refreshed(portal.url.as_str(), refresh);
    let own = Issuer {
        rules: TokenRules::new(portal.url.as_str(), portal.audiences.clone())
            .with_agents_by_audience(portal.jwks != PortalJwks::Own),
        keys: Some(keys),
        introspection: introspection(portal.introspection.as_ref())?,
        token_prefix: None,
    };
    let mut others = Vec::new();
    for other in &portal.issuers {
        let (issuer, refresh) = further(other, ours).await?;
        refreshed(&other.issuer, refresh);
        others.push(issuer);
    }
    let issuers = Arc::new(Issuers::new(own, others, portal.introspection_ttl));

    let lookup = portal.lookup.as_ref().map(|at| Lookup::new(at, db.clone())).transpose()?;
    background.extend(lookup.clone().map(|lookup| Background(lookup.run().boxed())));
    let identities = Identities::configured(&config.identity, db, &clock);
    let authenticator = Authenticator {
        issuers,
        lookup,
        identities,
        db: db.clone(),
        clock,
        refusals: Arc::default(),
        remembered: Remembered::default(),
    };
    Ok((authenticator, background))
}

async fn further(
    other: &config::Issuer,
    ours: &Arc<KeyRing>,
) -> anyhow::Result<(Issuer, Option<KeyRefresh>)> {
    let (known, refresh) = match &other.jwks {
        Some(jwks) => {
            let (known, refresh) = keys(jwks, "jwks_file", ours)
                .await
                .with_context(|| format!("issuers_file: the issuer {}", other.issuer))?;
            (Some(known), refresh)
        }
        None => (None, None),
    };
    let rules = TokenRules::new(&other.issuer, other.audiences.clone())
        .for_orgs(other.orgs.clone())
        .with_agents_by_audience(other.agents_by_audience);
    let introspection = introspection(other.introspection.as_ref())?;
    Ok((Issuer { rules, keys: known, introspection, token_prefix: other.token_prefix.clone() }, refresh))
}

fn introspection(at: Option<&config::Introspection>) -> Result<Option<Endpoint>, reqwest::Error> {
    at.map(Endpoint::new).transpose()
}

async fn keys(
    jwks: &PortalJwks,
    setting: &str,
    ours: &Arc<KeyRing>,
) -> anyhow::Result<(PortalKeys, Option<KeyRefresh>)> {
    match jwks {
        PortalJwks::Own => Ok((PortalKeys::own(Arc::clone(ours)), None)),
        PortalJwks::Url(url) => {
            let (keys, refresh) = PortalKeys::from_url(url.clone(), FetchLimits::default())?;
            Ok((keys, Some(refresh)))
        }
        PortalJwks::File(path) => {
            let bytes = tokio::fs::read(path)
                .await
                .with_context(|| format!("{setting}: reading {} failed", path.display()))?;
            let keys = KeySet::from_pinned(&bytes)
                .with_context(|| format!("{setting}: no usable key in {}", path.display()))?;
            Ok((PortalKeys::pinned(keys), None))
        }
    }
}
