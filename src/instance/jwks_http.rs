//! Fetches the portal's JWKS over HTTP.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use url::Url;

use super::fetch_error::FetchError;
use super::jwks_fetch::{Fetch, Fetched};
use super::key_set::KeySet;
use super::portal_http::{bounded, client, unavailable};

const MAX_BODY: usize = 1 << 20;

/// Returns a function that fetches from this URL, without redirects and without proxies from the environment.
pub(super) fn fetch_from(url: Url) -> Result<Fetch, reqwest::Error> {
    // Fetches are minutes apart, so a pooled connection would usually be dead.
    let client = client(0)?;
    Ok(Box::new(move || {
        let (client, url) = (client.clone(), url.clone());
        Box::pin(async move { fetch(&client, url).await })
    }))
}

/// Fetches the keys at this URL once. Returns the number of usable keys, or a description of the failure.
pub async fn count_keys_at(url: Url) -> Result<usize, String> {
    let fetch = fetch_from(url).map_err(|error| error.to_string())?;
    fetch().await.map(|fetched| fetched.keys.len()).map_err(|error| error.to_string())
}

async fn fetch(client: &Client, url: Url) -> Result<Fetched, FetchError> {
    let response = client
        .get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        // A shared cache must not hide a new key.
        .header(CACHE_CONTROL, "no-cache")
        .send()
        .await
        .map_err(unavailable)?;
    let status = response.status();
    if status.is_server_error() {
        return Err(FetchError::Unavailable(format!("status {status}")));
    }
    if !status.is_success() {
        return Err(FetchError::Invalid(format!("status {status}")));
    }
    let max_age = max_age(response.headers());
    let body = bounded(response, MAX_BODY).await?;
    let keys = KeySet::from_jwks(&body).map_err(|error| FetchError::Invalid(error.to_string()))?;
    Ok(Fetched { keys, max_age })
}

/// Returns the `max-age` of `Cache-Control`; zero if caching is forbidden.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
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
    use axum::Router;
    use axum::http::header::LOCATION;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use jsonwebtoken::Algorithm;
    use nas_cron_jwt::testing::{Signing, jwks};
    use tokio::net::TcpListener;

    use super::*;

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
    async fn valid_response_has_keys_and_a_max_age() {
        let body = jwks([&Signing::es256("a"), &Signing::rsa(Algorithm::RS256, "b")]);
        let good =
            fetched(([("cache-control", "public, max-age=300, must-revalidate")], body)).await.unwrap();
        assert_eq!((good.keys.len(), good.max_age), (2, Some(Duration::from_mins(5))));
    }

    #[tokio::test]
    async fn invalid_responses_are_distinguished_from_unavailability() {
        let invalid = |answer: Result<Fetched, FetchError>| matches!(answer, Err(FetchError::Invalid(_)));
        assert!(invalid(fetched("<html>").await));
        assert!(invalid(fetched(r#"{"keys":[]}"#).await));
        assert!(invalid(fetched((reqwest::StatusCode::NOT_FOUND, "")).await));
        assert!(invalid(fetched("x".repeat(MAX_BODY + 1)).await));
        let redirect = (reqwest::StatusCode::FOUND, [(LOCATION, "/other")], "");
        assert!(invalid(fetched(redirect).await), "redirects are not followed");
        assert!(matches!(
            fetched((reqwest::StatusCode::BAD_GATEWAY, "")).await,
            Err(FetchError::Unavailable(_))
        ));

        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let unreachable =
            fetch_from(format!("http://u:secret@{free}/").parse().unwrap()).unwrap()().await.unwrap_err();
        assert!(matches!(unreachable, FetchError::Unavailable(_)));
        assert!(!unreachable.to_string().contains("secret"), "{unreachable}");
    }

    #[test]
    fn max_age_is_parsed_in_any_notation() {
        let parsed = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(parsed("public, max-age=300"), Some(300));
        assert_eq!(parsed("Max-Age=\"60\""), Some(60));
        assert_eq!(parsed("no-store"), Some(0));
        assert_eq!(parsed("public"), None);
        assert_eq!(parsed("max-age=soon"), None);
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
