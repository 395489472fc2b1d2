//! One fetch of the portal's JWKS, over HTTP.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use url::Url;

use super::key_set::KeySet;
use super::portal_http::{away, bounded, client};
use super::portal_jwks::{Fetch, FetchError, Fetched};

const MAX_BODY: usize = 1 << 20;

/// Fetches from this URL: no redirects, no proxies from the environment.
pub(super) fn fetch_from(url: Url) -> Result<Fetch, reqwest::Error> {
    // Minutes lie between two fetches: a kept connection would mostly be a dead one.
    let client = client(0)?;
    Ok(Box::new(move || {
        let (client, url) = (client.clone(), url.clone());
        Box::pin(async move { fetch(&client, url).await })
    }))
}

/// Fetches the keys at this URL once, and says how many are usable, or in words why none is.
pub async fn count_keys_at(url: Url) -> Result<usize, String> {
    let fetch = fetch_from(url).map_err(|error| error.to_string())?;
    fetch().await.map(|fetched| fetched.keys.len()).map_err(|error| error.to_string())
}

async fn fetch(client: &Client, url: Url) -> Result<Fetched, FetchError> {
    let response = client
        .get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        // A shared cache on the way must not hide a new key.
        .header(CACHE_CONTROL, "no-cache")
        .send()
        .await
        .map_err(away)?;
    let status = response.status();
    if status.is_server_error() {
        return Err(FetchError::Away(format!("status {status}")));
    }
    if !status.is_success() {
        return Err(FetchError::Useless(format!("status {status}")));
    }
    let max_age = max_age(response.headers());
    let body = bounded(response, MAX_BODY).await?;
    let keys = KeySet::from_jwks(&body).map_err(|error| FetchError::Useless(error.to_string()))?;
    Ok(Fetched { keys, max_age })
}

/// `max-age` of `Cache-Control`; zero where caching is forbidden.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    directives.flat_map(|value| value.split(',')).find_map(|directive| {
        let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => Some(Duration::ZERO),
            "max-age" => value.trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::header::LOCATION;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use chrono::DateTime;
    use jsonwebtoken::Algorithm;
    use nas_cron_jwt::testing::{Signing, jwks};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;
    use crate::instance::token::{Presented, TokenError, TokenRules};
    use crate::instance::{FetchLimits, PortalKeys, VerifyError};

    async fn serve(router: Router) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn fetched<R: IntoResponse + Clone + Send + Sync + 'static>(
        answer: R,
    ) -> Result<Fetched, FetchError> {
        let router = Router::new()
            .route("/jwks", get(move || async move { answer }))
            .route("/other", get(async || jwks([&Signing::es256("k")])));
        fetch_from(serve(router).await).unwrap()().await
    }

    #[tokio::test]
    async fn a_good_answer_brings_keys_and_their_age() {
        let body = jwks([&Signing::es256("a"), &Signing::rsa(Algorithm::RS256, "b")]);
        let good =
            fetched(([("cache-control", "public, max-age=300, must-revalidate")], body)).await.unwrap();
        assert_eq!((good.keys.len(), good.max_age), (2, Some(Duration::from_mins(5))));
    }

    #[tokio::test]
    async fn useless_answers_are_told_from_none() {
        let useless = |answer: Result<Fetched, FetchError>| matches!(answer, Err(FetchError::Useless(_)));
        assert!(useless(fetched("<html>").await));
        assert!(useless(fetched(r#"{"keys":[]}"#).await));
        assert!(useless(fetched((reqwest::StatusCode::NOT_FOUND, "")).await));
        assert!(useless(fetched("x".repeat(MAX_BODY + 1)).await));
        let redirect = (reqwest::StatusCode::FOUND, [(LOCATION, "/other")], "");
        assert!(useless(fetched(redirect).await), "redirects are not followed");
        assert!(matches!(fetched((reqwest::StatusCode::BAD_GATEWAY, "")).await, Err(FetchError::Away(_))));

        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nobody =
            fetch_from(format!("http://u:secret@{free}/").parse().unwrap()).unwrap()().await.unwrap_err();
        assert!(matches!(nobody, FetchError::Away(_)));
        assert!(!nobody.to_string().contains("secret"), "{nobody}");
    }

    #[test]
    fn max_age_is_found_in_any_clothes() {
        let told = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(told("public, max-age=300"), Some(300));
        assert_eq!(told("Max-Age=\"60\""), Some(60));
        assert_eq!(told("no-store"), Some(0));
        assert_eq!(told("public"), None);
        assert_eq!(told("max-age=soon"), None);
        assert_eq!(max_age(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_herd_over_real_sockets_is_few_fetches_and_the_new_key_gets_through() {
        let (old, new) = (Signing::es256("old"), Signing::es256("new"));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (count, first, later) = (Arc::clone(&fetches), jwks([&old]), jwks([&old, &new]));
        // From its second fetch on, the portal has the new key.
        let router = Router::new().route(
            "/jwks",
            get(move || async move { if count.fetch_add(1, Ordering::SeqCst) == 0 { first } else { later } }),
        );
        let limits = FetchLimits { spacing: Duration::from_millis(100), ..FetchLimits::default() };
        let (keys, refresh) = PortalKeys::from_url(serve(router).await, limits).unwrap();
        tokio::spawn(refresh.run());

        let call = async |keys: PortalKeys, signing: Signing| {
            let token = signing.sign(&json!({"iss": "p", "exp": 100}));
            let presented = Presented::read(&token, &TokenRules::new("p", []), DateTime::UNIX_EPOCH).unwrap();
            keys.verify(&presented, Instant::now() + Duration::from_secs(12)).await.map(|_| ())
        };
        assert_eq!(call(keys.clone(), old).await, Ok(()));
        let mut herd = JoinSet::new();
        let mut stranger = Signing::es256("");
        for n in 0..1000 {
            stranger.kid = Some(format!("invented-{n}"));
            herd.spawn(call(keys.clone(), stranger.clone()));
        }
        herd.spawn(call(keys.clone(), new));
        let answers = herd.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        let refused = Err(VerifyError::Refused(TokenError::UnknownKey));
        assert_eq!(answers.iter().filter(|answer| **answer == refused).count(), 1000);
        assert!(fetches.load(Ordering::SeqCst) <= 5, "{fetches:?}");
    }
}
