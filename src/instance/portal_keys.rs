//! The keys of an issuer's tokens: pinned, fetched from a JWKS URL, or those of the built-in portal.

use std::sync::Arc;

use tokio::time::Instant;
use url::Url;

use super::claims::AccessClaims;
use super::fetched_keys::{FetchedKeys, KeyRefresh};
use super::jwks_fetch::FetchLimits;
use super::jwks_http;
use super::key_set::{KeySet, NotVerified};
use super::own_keys::OwnKeys;
use super::token::Presented;
use super::token_error::TokenError;
use super::verify_error::VerifyError;
use crate::keys::KeyRing;

/// The keys of an issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PortalKeys(Source);

#[derive(Clone, Debug)]
enum Source {
    Pinned(Arc<KeySet>),
    Url(FetchedKeys),
    Own(Arc<OwnKeys>),
}

impl PortalKeys {
    /// A fixed set of keys. A token with an unknown key is rejected at once.
    pub fn pinned(keys: KeySet) -> Self {
        Self(Source::Pinned(Arc::new(keys)))
    }

    /// Keys from a JWKS URL, initially none. Spawn [`KeyRefresh::run`], and end it last, because the agent API is
    /// served during a drain.
    pub fn from_url(url: Url, limits: FetchLimits) -> Result<(Self, KeyRefresh), reqwest::Error> {
        let (keys, refresh) = FetchedKeys::new(jwks_http::fetch_from(url)?, limits);
        Ok((Self(Source::Url(keys)), refresh))
    }

    /// The keys of the built-in portal.
    pub fn own(ring: Arc<KeyRing>) -> Self {
        Self(Source::Own(Arc::new(OwnKeys::new(ring))))
    }

    /// True if these are the keys of the built-in portal.
    pub(super) fn are_own(&self) -> bool {
        matches!(self.0, Source::Own(_))
    }

    /// Returns the number of known keys.
    pub fn known(&self) -> usize {
        match &self.0 {
            Source::Pinned(keys) => keys.len(),
            Source::Url(keys) => keys.known(),
            Source::Own(keys) => keys.known(),
        }
    }

    /// Verifies a token. Call it as soon as the request has arrived. Waits only if the key is unknown, until
    /// `deadline`.
    pub async fn verify(
        &self,
        token: &Presented<'_>,
        deadline: Instant,
    ) -> Result<AccessClaims, VerifyError> {
        match &self.0 {
            Source::Pinned(keys) => keys.verify(token).map_err(|why| match why {
                NotVerified::Refused(error) => error.into(),
                NotVerified::UnknownKey => TokenError::UnknownKey.into(),
            }),
            Source::Url(keys) => keys.verify(token, deadline).await,
            Source::Own(keys) => keys.verify(token, deadline).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use chrono::DateTime;
    use nas_cron_jwt::testing::{Signing, jwks};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::token_rules::TokenRules;
    use super::*;

    /// One request with a token that this key signed; its deadline is 12 s from now.
    async fn call(keys: PortalKeys, signing: Signing) -> Result<(), VerifyError> {
        let token = signing.sign(&json!({"iss": "p", "exp": 100}));
        let presented = Presented::read(&token, &TokenRules::new("p", []), DateTime::UNIX_EPOCH).unwrap();
        keys.verify(&presented, Instant::now() + Duration::from_secs(12)).await.map(|_| ())
    }

    #[tokio::test]
    async fn herd_over_real_sockets_causes_few_fetches_and_the_new_key_is_accepted() {
        let (old, new) = (Signing::es256("old"), Signing::es256("new"));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (count, first, later) = (Arc::clone(&fetches), jwks([&old]), jwks([&old, &new]));
        // The portal publishes the new key from the second fetch on.
        let router = Router::new().route(
            "/jwks",
            get(move || async move { if count.fetch_add(1, Ordering::SeqCst) == 0 { first } else { later } }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let limits = FetchLimits { spacing: Duration::from_millis(100), ..FetchLimits::default() };
        let (keys, refresh) = PortalKeys::from_url(url, limits).unwrap();
        tokio::spawn(refresh.run());

        assert_eq!(call(keys.clone(), old).await, Ok(()));
        let mut herd = JoinSet::new();
        let mut unknown = Signing::es256("");
        for n in 0..1000 {
            unknown.kid = Some(format!("invented-{n}"));
            herd.spawn(call(keys.clone(), unknown.clone()));
        }
        herd.spawn(call(keys.clone(), new));
        let answers = herd.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        let refused = Err(VerifyError::Refused(TokenError::UnknownKey));
        assert_eq!(answers.iter().filter(|answer| **answer == refused).count(), 1000);
        assert!(fetches.load(Ordering::SeqCst) <= 5, "{fetches:?}");
    }

    #[tokio::test]
    async fn pinned_keys_reject_an_unknown_key_at_once() {
        let known = Signing::es256("k1");
        let keys = PortalKeys::pinned(KeySet::from_jwks(&jwks([&known])).unwrap());
        assert_eq!(call(keys.clone(), known).await, Ok(()));
        assert_eq!(call(keys.clone(), Signing::es256("zz")).await, Err(TokenError::UnknownKey.into()));
        assert_eq!(keys.known(), 1);
    }
}
