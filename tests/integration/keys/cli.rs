//! `nas-cron keys`, called below the command line.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use clap::Parser;
use nas_cron::cli::keys::{KeysArgs, run};
use nas_cron::cli::operator::Place;
use nas_cron::domain::SigningAlg;
use nas_cron::keys::RotationPolicy;
use nas_cron::operations::keys::KeyOperations;
use serde_json::{Value, json};

use super::fixture::{
    TestDatabase, clock, jwks, kek, kids, mint, pass, ring_with, states, verify, with_database,
};
use super::pem;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    keys: KeysArgs,
}

fn context(database: &TestDatabase, agents_jwks_url: Option<&str>) -> KeyOperations {
    KeyOperations {
        db: database.db.clone(),
        kek: Some(Arc::new(kek(1))),
        refresh_keys: None,
        policy: RotationPolicy::default(),
        alg: SigningAlg::Es256,
        agents_jwks_url: agents_jwks_url.map(|url| url.parse().unwrap()),
    }
}

async fn keys(context: &KeyOperations, line: &[&str]) -> Result<String, String> {
    let line = Line::try_parse_from([&["keys"], line].concat()).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    match run(line.keys, &Place::Database(context.clone()), &mut out).await {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => Err(format!("{error:#}")),
    }
}

async fn keys_json(context: &KeyOperations, line: &[&str]) -> Value {
    serde_json::from_str(&keys(context, line).await.unwrap()).unwrap()
}

/// Imports a PEM file.
async fn import(context: &KeyOperations, name: &str, more: &[&str]) -> Result<String, String> {
    let path = pem::path(name);
    keys(context, &[&["import", "--pem", path.to_str().unwrap()], more].concat()).await
}

/// Serves a JWKS for agents, whose content the test sets.
async fn portal() -> (String, Arc<Mutex<Value>>) {
    // As in `main`: reqwest has no default TLS provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let document = Arc::new(Mutex::new(json!({ "keys": [] })));
    let answer = async |State(document): State<Arc<Mutex<Value>>>| Json(document.lock().unwrap().clone());
    let app =
        axum::Router::new().route("/jwks.json", axum::routing::get(answer)).with_state(document.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, document)
}

#[tokio::test]
async fn keys_rotate_starts_a_rotation_that_the_service_completes() {
    with_database(async |database| {
        let context = context(&database, None);
        assert!(keys(&context, &["list"]).await.unwrap().contains("No signing keys yet"));
        assert!(keys(&context, &["export-jwks"]).await.is_err());
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        ring.bootstrap(&database.db).await.unwrap();

        let output = keys_json(&context, &["rotate", "--json"]).await;
        assert_eq!(output["state"], "next");
        let next = output["kid"].as_str().unwrap();
        let again = keys(&context, &["rotate"]).await.unwrap();
        assert!(again.contains("A rotation has already begun"), "{again}");
        let early = keys(&context, &["activate", next]).await.unwrap_err();
        assert!(early.contains("may not know it before") && early.contains("UTC"), "{early}");

        pass(&database, 910).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap().len(), 1);
        let listed = keys_json(&context, &["list", "--json"]).await;
        assert_eq!(listed["rotation"], "automatic");
        assert_eq!(listed["keys"][0]["state"], "retired");
        assert_eq!(listed["keys"][1]["state"], "active");
        assert_eq!(listed["keys"][1]["kid"], next);
        assert!(listed["keys"][0]["upcoming"]["step"].as_str().unwrap().starts_with("remove"));
        let table = keys(&context, &["list"]).await.unwrap();
        for part in [next, "retired", "successor published in 89 d", "removed in 5 min"] {
            assert!(table.contains(part), "{part}: {table}");
        }
        let exported: Value = serde_json::from_str(&keys(&context, &["export-jwks"]).await.unwrap()).unwrap();
        assert_eq!(exported, jwks(&ring));
        assert!(keys(&context, &["withdraw", next]).await.unwrap_err().contains("is active"));
    })
    .await;
}

#[tokio::test]
async fn keys_rotate_now_explains_its_risk_before_it_acts() {
    with_database(async |database| {
        let context = context(&database, None);
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        ring.bootstrap(&database.db).await.unwrap();
        let before = states(&database).await;
        let error = keys(&context, &["rotate", "--now"]).await.unwrap_err();
        assert!(
            error.contains("agents with a cached JWKS may reject fires") && error.contains("--yes"),
            "{error}"
        );
        assert_eq!(states(&database).await, before);
        keys(&context, &["rotate", "--now", "--yes"]).await.unwrap();
        let after = states(&database).await;
        assert_eq!(after[0].1, "retired");
        assert_eq!(after[1].1, "active");
    })
    .await;
}

#[tokio::test]
async fn keys_imported_sign_only_when_agents_can_see_them() {
    with_database(async |database| {
        let (url, document) = portal().await;
        let context = context(&database, Some(&url));
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        ring.bootstrap(&database.db).await.unwrap();

        let output = import(&context, "rsa-pkcs1", &["--kid", "portal-1", "--json"]).await.unwrap();
        let output: Value = serde_json::from_str(&output).unwrap();
        assert_eq!((&output["kid"], &output["state"]), (&json!("portal-1"), &json!("next")));
        let again = import(&context, "rsa-pkcs8", &[]).await.unwrap_err();
        assert!(again.contains("already known: `portal-1`"), "the same key under another name: {again}");
        let error = keys(&context, &["rotate"]).await.unwrap_err();
        assert!(error.contains("by hand"), "{error}");
        assert!(keys(&context, &["rotate", "--now", "--yes"]).await.unwrap_err().contains("refused"));

        // The key is missing, another key has its kid, it is present, it is missing again.
        let unseen = keys(&context, &["activate", "portal-1"]).await.unwrap_err();
        assert!(unseen.contains("is not in the JWKS at"), "{unseen}");
        ring.refresh(&database.db).await.unwrap();
        let published = jwks(&ring);
        let mut imposter = published["keys"][0].clone();
        imposter["kid"] = json!("portal-1");
        *document.lock().unwrap() = json!({ "keys": [imposter] });
        let other = keys(&context, &["activate", "portal-1"]).await.unwrap_err();
        assert!(other.contains("it is another key"), "{other}");
        *document.lock().unwrap() = published.clone();
        let young = keys(&context, &["activate", "portal-1"]).await.unwrap_err();
        assert!(young.contains("run this command again"), "{young}");
        pass(&database, 90 * 24 * 3600).await;
        assert_eq!(ring.sweep(&database.db).await.unwrap(), [], "nothing is activated automatically");
        *document.lock().unwrap() = json!({ "keys": [] });
        assert!(keys(&context, &["activate", "portal-1"]).await.unwrap_err().contains("is not in the JWKS"));
        *document.lock().unwrap() = published;
        let anew = keys(&context, &["activate", "portal-1"]).await.unwrap_err();
        assert!(anew.contains("run this command again"), "the time counts from its last appearance: {anew}");

        pass(&database, 910).await;
        keys(&context, &["activate", "portal-1"]).await.unwrap();
        ring.refresh(&database.db).await.unwrap();
        let (header, _) = verify(&mint(&ring).unwrap(), &jwks(&ring)).unwrap();
        assert_eq!((&header["kid"], &header["alg"]), (&json!("portal-1"), &json!("RS256")));
        let table = keys(&context, &["list"]).await.unwrap();
        assert!(table.contains("imported") && table.contains("Rotation is by hand"), "{table}");

        // Back to a generated key: rotation and activation are by hand.
        let own = keys_json(&context, &["rotate", "--json"]).await;
        pass(&database, 910).await;
        let done = ring.sweep(&database.db).await.unwrap();
        assert_eq!(done.len(), 1, "the retired key is removed: {done:?}");
        assert!(keys(&context, &["activate", own["kid"].as_str().unwrap()]).await.is_err());
        ring.refresh(&database.db).await.unwrap();
        *document.lock().unwrap() = jwks(&ring);
        assert!(keys(&context, &["activate", own["kid"].as_str().unwrap()]).await.is_err());
        pass(&database, 910).await;
        keys(&context, &["activate", own["kid"].as_str().unwrap()]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn keys_an_imported_first_key_is_activated_by_hand_once_agents_can_see_it() {
    with_database(async |database| {
        let (url, document) = portal().await;
        let blind = context(&database, None);
        let file = std::env::temp_dir().join(format!("nas-cron-{}.pem", uuid::Uuid::new_v4()));
        std::fs::copy(pem::path("ec-sec1"), &file).unwrap();
        let file = file.to_str().unwrap();
        let output = keys_json(&blind, &["import", "--pem", file, "--in-place", "--json"]).await;
        let kid = output["kid"].as_str().unwrap();

        // No key-encryption key is needed while all private halves are in files.
        let ring = ring_with(SigningAlg::Es256, None, &clock());
        ring.bootstrap(&database.db).await.unwrap();
        assert!(!ring.ready(), "no key is generated beside an imported one");
        let unknown = keys(&blind, &["activate", kid]).await.unwrap_err();
        assert!(unknown.contains("nas_jwks_url"), "{unknown}");

        *document.lock().unwrap() = jwks(&ring);
        keys(&context(&database, Some(&url)), &["activate", kid]).await.unwrap();
        ring.refresh(&database.db).await.unwrap();
        assert!(verify(&mint(&ring).unwrap(), &jwks(&ring)).is_ok());

        let sealed: i64 =
            sqlx::query_scalar("SELECT count(*) FROM signing_keys WHERE private_key IS NOT NULL")
                .fetch_one(&database.pool)
                .await
                .unwrap();
        assert_eq!(sealed, 0, "the private half stays in its file");
        std::fs::remove_file(file).unwrap();
        let fresh = ring_with(SigningAlg::Es256, None, &clock());
        let error = fresh.bootstrap(&database.db).await.unwrap_err().to_string();
        assert!(error.contains(file), "the file is named: {error}");
        ring.refresh(&database.db).await.unwrap();
        assert!(ring.ready(), "a replica with the key in memory continues");
    })
    .await;
}

#[tokio::test]
async fn keys_withdrawn_before_they_signed_can_be_replaced() {
    with_database(async |database| {
        let context = context(&database, None);
        let ring = ring_with(SigningAlg::Es256, Some(kek(1)), &clock());
        ring.bootstrap(&database.db).await.unwrap();
        import(&context, "rsa-pkcs8", &["--kid", "p"]).await.unwrap();
        let second = import(&context, "ec-sec1", &[]).await.unwrap_err();
        assert!(second.contains("there is already a next key"), "{second}");
        keys(&context, &["withdraw", "p"]).await.unwrap();
        ring.refresh(&database.db).await.unwrap();
        assert_eq!(kids(&jwks(&ring)).len(), 1);
        assert_eq!(keys_json(&context, &["list", "--json"]).await["rotation"], "automatic");
        let missing = keys(&context, &["activate", "other"]).await.unwrap_err();
        assert!(missing.contains("unknown key `other`; known keys:"), "{missing}");
    })
    .await;
}

#[tokio::test]
async fn keys_are_never_sealed_with_a_key_other_than_the_services() {
    with_database(async |database| {
        ring_with(SigningAlg::Es256, Some(kek(1)), &clock()).bootstrap(&database.db).await.unwrap();
        let before = states(&database).await;
        for (wrong, part) in
            [(Some(Arc::new(kek(2))), "was encrypted with another key"), (None, "is not set")]
        {
            let context = KeyOperations { kek: wrong, ..context(&database, None) };
            for error in [keys(&context, &["rotate"]).await, import(&context, "rsa-pkcs8", &[]).await] {
                let error = error.unwrap_err();
                assert!(error.contains("NAS_CRON_KEY_ENCRYPTION_KEY") && error.contains(part), "{error}");
            }
        }
        assert_eq!(states(&database).await, before);
    })
    .await;
}
