//! The key ring: bootstrap, minting, rotation, JWKS.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use chrono::TimeDelta;
use nas_cron::domain::SigningAlg;
use nas_cron::http::jwks::router;
use nas_cron::keys::{KeyRing, MintError};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::fixture::{clock, execute, jwks, kek, kids, mint, pass, ring_with, states, verify, with_database};

#[tokio::test]
async fn keys_a_minted_token_verifies_by_the_jwks_alone() {
    for alg in [SigningAlg::Es256, SigningAlg::Rs256] {
        with_database(async |database| {
            let ring = ring_with(alg, Some(kek(1)), &clock());
            assert!(!ring.ready());
            assert!(matches!(mint(&ring), Err(MintError::NoKey)));
            ring.bootstrap(&database.db).await.unwrap();
            assert!(ring.ready());

            let token = mint(&ring).unwrap();
            let (header, claims) = verify(&token, &jwks(&ring)).unwrap();
            assert_eq!(header["alg"], alg.as_str());
            assert_eq!(claims["aud"], "agent:i-1");
            let exp = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            assert_eq!(exp, 90);

            let private: Vec<u8> = sqlx::query_scalar("SELECT private_key FROM signing_keys")
                .fetch_one(&database.pool)
                .await
                .unwrap();
            assert!(private.len() > 100, "the private half is stored encrypted");
            let document = jwks(&ring);
            let mut members: Vec<_> = document["keys"][0].as_object().unwrap().keys().cloned().collect();
            members.sort();
            let public: &[&str] = match alg {
                SigningAlg::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
                SigningAlg::Rs256 => &["alg", "e", "kid", "kty", "n", "use"],
            };
            assert_eq!(members, public, "nothing private is published");
        })
        .await;
    }
}

#[tokio::test]
async fn keys_replicas_that_start_together_make_one_key() {
    with_database(async |database| {
        let rings: Vec<_> = (0..6).map(|_| ring_with(SigningAlg::Es256, Some(kek(1)), &clock())).collect();
        let starts = rings.iter().map(|ring| ring.bootstrap(&database.db));
        for started in futures::future::join_all(starts).await {
            started.unwrap();
        }
        assert_eq!(states(&database).await.len(), 1);
        let bodies: Vec<_> = rings.iter().map(|ring| ring.jwks().unwrap()).collect();
        assert!(bodies.iter().all(|one| one == &bodies[0]), "all replicas serve the same bytes and ETag");
        assert!(verify(&mint(&rings[0]).unwrap(), &jwks(&rings[5])).is_ok());
    })
    .await;
}

#[tokio::test]
async fn keys_a_stale_ring_serves_its_jwks_but_does_not_sign() {
    with_database(async |database| {
        let clock = clock();
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock);
        ring.bootstrap(&database.db).await.unwrap();
        clock.advance(TimeDelta::seconds(10));
        assert!(mint(&ring).is_ok(), "10 s are allowed");
        clock.advance(TimeDelta::milliseconds(1));
        assert!(matches!(mint(&ring), Err(MintError::Stale)));
        assert!(!ring.ready());
        assert!(ring.jwks().is_some());

        database.db.close();
        assert!(ring.refresh(&database.db).await.is_err());
        assert!(ring.jwks().is_some(), "an outage of the database changes nothing");
    })
    .await;
}

#[tokio::test]
async fn keys_a_wrong_key_encryption_key_fails_the_start_and_changes_nothing() {
    with_database(async |database| {
        let clock = clock();
        ring_with(SigningAlg::Es256, Some(kek(1)), &clock).bootstrap(&database.db).await.unwrap();
        // A successor is due: a replica with the wrong key must not generate it.
        pass(&database, 91 * 24 * 3600).await;
        let before = states(&database).await;
        for (wrong, part) in [(Some(kek(2)), "was encrypted with another key"), (None, "is not set")] {
            let ring = ring_with(SigningAlg::Es256, wrong, &clock);
            let error = ring.bootstrap(&database.db).await.unwrap_err().to_string();
            assert!(error.contains("NAS_CRON_KEY_ENCRYPTION_KEY") && error.contains(part), "{error}");
        }
        assert_eq!(states(&database).await, before);
    })
    .await;
    with_database(async |database| {
        let ring = ring_with(SigningAlg::Es256, None, &clock());
        let error = ring.bootstrap(&database.db).await.unwrap_err().to_string();
        assert!(error.contains("NAS_CRON_KEY_ENCRYPTION_KEY is not set"), "{error}");
        assert_eq!(states(&database).await, []);
    })
    .await;
}

#[tokio::test]
async fn keys_a_tampered_public_half_is_rejected() {
    with_database(async |database| {
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        ring.bootstrap(&database.db).await.unwrap();
        let sql = r#"UPDATE signing_keys SET public_jwk = public_jwk || '{"x": "AAAA"}'"#;
        execute(&database.pool, sql.to_owned()).await;
        let fresh = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        let error = fresh.bootstrap(&database.db).await.unwrap_err().to_string();
        assert!(error.contains("does not belong to its published public half"), "{error}");
        // A running replica continues without the key.
        fresh.refresh(&database.db).await.unwrap();
        assert!(matches!(mint(&fresh), Err(MintError::NoKey)));
    })
    .await;
}

#[tokio::test]
async fn keys_a_rotation_keeps_the_margins_of_the_contract() {
    with_database(async |database| {
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        let other = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        let signs = |ring: &KeyRing, with: &KeyRing| {
            let (header, _) = verify(&mint(ring).unwrap(), &jwks(with)).unwrap();
            header["kid"].as_str().unwrap().to_owned()
        };
        ring.bootstrap(&database.db).await.unwrap();
        let first = signs(&ring, &ring);
        assert_eq!(ring.sweep(&database.db).await.unwrap(), []);

        pass(&database, 90 * 24 * 3600 - 909).await;
        let done = ring.sweep(&database.db).await.unwrap();
        assert_eq!(done.len(), 1, "the successor is published: {done:?}");
        let second = done[0].kid.clone();
        assert_eq!(kids(&jwks(&ring)), [first.clone(), second.clone()]);
        assert_eq!(signs(&ring, &ring), first, "the successor does not sign yet");
        other.bootstrap(&database.db).await.unwrap();

        pass(&database, 905).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap(), []);
        pass(&database, 5).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap().len(), 1);
        assert_eq!(signs(&ring, &ring), second);
        assert_eq!(signs(&other, &ring), first, "a replica with an older view; its tokens verify");
        other.refresh(&database.db).await.unwrap();
        assert_eq!(signs(&other, &other), second);

        pass(&database, 305).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap(), []);
        assert_eq!(kids(&jwks(&ring)).len(), 2);
        pass(&database, 5).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap().len(), 1);
        assert_eq!(kids(&jwks(&ring)), [second]);
        let erased: bool = sqlx::query_scalar("SELECT private_key IS NULL FROM signing_keys WHERE kid = $1")
            .bind(first)
            .fetch_one(&database.pool)
            .await
            .unwrap();
        assert!(erased);
    })
    .await;
}

#[tokio::test]
async fn keys_replicas_that_sweep_together_take_each_step_once() {
    with_database(async |database| {
        let rings: Vec<_> = (0..4).map(|_| ring_with(SigningAlg::Es256, Some(kek(1)), &clock())).collect();
        rings[0].bootstrap(&database.db).await.unwrap();
        for seconds in [90 * 24 * 3600, 910, 310] {
            pass(&database, seconds).await;
            let sweeps = rings.iter().map(|ring| ring.sweep(&database.db));
            let taken: usize =
                futures::future::join_all(sweeps).await.into_iter().map(|done| done.unwrap().len()).sum();
            assert_eq!(taken, 1);
            let states = states(&database).await;
            assert_eq!(states.iter().filter(|one| one.1 == "active").count(), 1, "{states:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn keys_the_loop_makes_a_replica_ready() {
    with_database(async |database| {
        ring_with(SigningAlg::Es256, Some(kek(1)), &clock()).bootstrap(&database.db).await.unwrap();
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        let looping = {
            let (ring, db) = (Arc::clone(&ring), database.db.clone());
            tokio::spawn(async move { ring.keep_fresh(&db).await })
        };
        let patience = Duration::from_mins(1);
        tokio::time::timeout(patience, ring.wait_until_ready()).await.expect("the loop refreshes");
        looping.abort();
    })
    .await;
}

#[tokio::test]
async fn keys_an_undecryptable_next_key_is_never_activated() {
    with_database(async |database| {
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        ring.bootstrap(&database.db).await.unwrap();
        pass(&database, 90 * 24 * 3600).await;
        ring.sweep(&database.db).await.unwrap();
        let sql =
            "UPDATE signing_keys SET private_nonce = '\\x000000000000000000000000' WHERE state = 'next'";
        execute(&database.pool, sql.to_owned()).await;
        pass(&database, 2000).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap(), []);
        ring.refresh(&database.db).await.unwrap();
        assert!(mint(&ring).is_ok(), "the old key still signs");
    })
    .await;
}

async fn get(
    ring: &Arc<KeyRing>,
    method: Method,
    path: &str,
    etag: Option<&str>,
) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
    let (service, _) = router::<()>(Arc::clone(ring)).split_for_parts();
    let mut request = Request::builder().method(method).uri(path);
    if let Some(etag) = etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let response = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
}

#[tokio::test]
async fn keys_the_jwks_is_cacheable_and_needs_no_database() {
    with_database(async |database| {
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        let (status, headers, body) = get(&ring, Method::GET, "/.well-known/jwks.json", None).await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &problem["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(503)), "{problem}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store", "an empty set must not be cached");

        ring.bootstrap(&database.db).await.unwrap();
        database.db.close();
        for path in ["/.well-known/jwks.json", "/api/agent-cron/jwks.json"] {
            let (status, headers, body) = get(&ring, Method::GET, path, None).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=300");
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            let document: Value = serde_json::from_slice(&body).unwrap();
            assert!(verify(&mint(&ring).unwrap(), &document).is_ok());

            let etag = headers[header::ETAG].to_str().unwrap();
            assert!(etag.starts_with('"') && etag.ends_with('"'), "a strong ETag: {etag}");
            for known in [etag.to_owned(), format!("\"x\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
                let (status, headers, body) = get(&ring, Method::GET, path, Some(&known)).await;
                assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
                assert_eq!(headers[header::ETAG], etag);
                assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=300");
            }
            let (status, ..) = get(&ring, Method::GET, path, Some("\"other\"")).await;
            assert_eq!(status, StatusCode::OK);

            let (status, headers, empty) = get(&ring, Method::HEAD, path, None).await;
            assert_eq!((status, empty.len()), (StatusCode::OK, 0));
            assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
            let (status, ..) = get(&ring, Method::POST, path, None).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        }
    })
    .await;
}
