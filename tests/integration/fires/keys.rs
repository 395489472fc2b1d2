//! docs/contract.md#keys: the JWKS, and the storage of private keys.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use nas_cron::domain::SigningAlg;
use nas_cron::keys::{KeyRing, KeyRingOptions, RotationPolicy, TokenTtl};
use nas_cron_base::clock::SystemClock;
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::jwt::verify;
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Service, client, key_encryption_keys};
use nas_cron_testing::world::{World, eventually};
use reqwest::Method;
use serde_json::Value;
use sqlx::PgPool;

const PATHS: [&str; 2] = ["/.well-known/jwks.json", "/api/agent-cron/jwks.json"];

#[tokio::test]
async fn contract_keys_both_paths_serve_the_same_set_with_its_validators() {
    let world = World::new().await;
    let ask = async |method: Method, path: &str, etag: Option<&str>| {
        let mut request = client().request(method, format!("{}{path}", world.service.url));
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.text().await.unwrap())
    };
    let mut bodies = Vec::new();
    for path in PATHS {
        let (status, headers, body) = ask(Method::GET, path, None).await;
        assert_eq!((status, &headers["content-type"]), (200, &"application/json".parse().unwrap()));
        assert_eq!(headers["cache-control"], "public, max-age=300");
        let etag = headers["etag"].to_str().unwrap().to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");
        let length = headers["content-length"].clone();

        let (status, headers, empty) = ask(Method::HEAD, path, None).await;
        assert_eq!(
            (status, &headers["etag"], &headers["content-length"], empty.as_str()),
            (200, &etag.parse().unwrap(), &length, "")
        );
        for names_it in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
            let (status, headers, empty) = ask(Method::GET, path, Some(&names_it)).await;
            assert_eq!((status, empty.as_str()), (304, ""), "{names_it}");
            assert_eq!(
                (&headers["etag"], &headers["cache-control"]),
                (&etag.parse().unwrap(), &"public, max-age=300".parse().unwrap())
            );
        }
        assert_eq!(ask(Method::GET, path, Some("\"other\"")).await.0, 200);
        assert_eq!(ask(Method::POST, path, None).await.0, 405);
        bodies.push((body, etag));
    }
    assert_eq!(bodies[0], bodies[1]);
    let set: Value = serde_json::from_str(&bodies[0].0).unwrap();
    for key in set["keys"].as_array().unwrap() {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
            assert!(key.get(private).is_none(), "{private} is the private half");
        }
    }
}

/// Returns all rows of the database as text, without the renewals of replicas, and their bytea columns as hex.
async fn everything(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I', table_name) FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() >= 6, "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let query = format!("SELECT (to_jsonb(t) - 'renewals' - 'renewed_at')::text FROM {table} t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(pool).await.unwrap();
        all += &rows.join("\n");
    }
    all
}

/// Returns a mark of an unencrypted private key in `text`: the algorithm identifier of a PKCS#8 document in hex or in
/// base64 at each of its three offsets, or the PEM frame.
fn plain_key_in(text: &str) -> Option<String> {
    const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let mut marks = vec!["PRIVATE KEY".to_owned(), "\"d\":".to_owned(), "\"d\" :".to_owned()];
    for oid in [EC, RSA] {
        marks.push(hex::encode(oid));
        for offset in 0..3 {
            let shifted = STANDARD_NO_PAD.encode([vec![0; offset], oid.to_vec()].concat());
            // The characters at both ends depend on the surrounding bytes.
            marks.push(shifted[if offset == 0 { 0 } else { 4 }..shifted.len() - 2].to_owned());
        }
    }
    marks.into_iter().find(|mark| text.contains(mark))
}

#[tokio::test]
async fn contract_keys_no_private_key_is_in_the_database_in_plaintext() {
    for alg in ["ES256", "RS256"] {
        let world = World::with(|s| s.with("NAS_CRON_SIGNING_ALG", alg)).await;
        world.arm("job", -1_000).await;
        world.delivered("job").await;
        let all = everything(&world.pool).await;
        assert!(all.contains(alg) && all.contains("\\x"), "the sealed key is among it");
        assert_eq!(plain_key_in(&all), None, "{alg}");
    }
    // The search finds an unencrypted key.
    let (_, url) = database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(
        &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &random,
    )
    .unwrap();
    sqlx::raw_sql("CREATE TABLE leak (key bytea)").execute(&pool).await.unwrap();
    sqlx::query("INSERT INTO leak VALUES ($1)").bind(pkcs8.as_ref()).execute(&pool).await.unwrap();
    assert!(plain_key_in(&everything(&pool).await).is_some());
}

#[tokio::test]
async fn contract_keys_serve_does_not_start_without_the_key_encryption_key_or_with_another() {
    const OTHER: &str = "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyISE=";
    let world = World::new().await;
    let before = everything(&world.pool).await;
    let wrong = world.settings.clone().with("NAS_CRON_KEY_ENCRYPTION_KEY", OTHER);
    let none = world.settings.clone().without("NAS_CRON_KEY_ENCRYPTION_KEY");
    for settings in [wrong, none.clone()] {
        let (status, out, said) = settings.run(&["serve"]).await;
        assert!(!status.success());
        assert!(said.contains("NAS_CRON_KEY_ENCRYPTION_KEY"), "{said}");
        assert!(!said.contains(OTHER) && !out.contains(OTHER));
        assert!(
            !said.contains("openssl rand") || said.contains("only for a new database, generate one"),
            "a new key beside encrypted ones does not help: {said}"
        );
    }
    assert_eq!(everything(&world.pool).await, before, "nothing was changed");

    // The same for a service without keys: the error names the setting and the command that generates a value.
    let (_, url) = database().await;
    let (status, _, said) = none.with("NAS_CRON_DATABASE_URL", &url).run(&["serve"]).await;
    assert!(!status.success());
    assert!(
        said.contains("NAS_CRON_KEY_ENCRYPTION_KEY") && said.contains("openssl rand -base64 32"),
        "{said}"
    );
}

/// Returns a key ring besides the service's, as the operator's commands use it.
fn ring() -> KeyRing {
    let options = KeyRingOptions {
        issuer: nas_cron_testing::portal::PORTAL_URL.to_owned(),
        token_ttl: TokenTtl::default(),
        alg: SigningAlg::Es256,
        policy: RotationPolicy::default(),
        kek: Some(key_encryption_keys(KEY_ENCRYPTION_KEY)),
    };
    KeyRing::new(options, std::sync::Arc::new(SystemClock))
}

async fn kids(service: &Service) -> Vec<String> {
    let (_, set) = service.get(PATHS[0]).await;
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn contract_keys_every_replica_follows_a_rotation_and_no_token_is_ever_unknown() {
    let world = World::new().await;
    let other = Service::start(&world.settings).await;
    let old = kids(&world.service).await;
    assert_eq!(kids(&other).await, old);
    let both = async |what: &str, done: &dyn Fn(&[String]) -> bool| {
        for service in [&world.service, &other] {
            eventually(what, async || done(&kids(service).await).then_some(())).await;
        }
    };

    // The key is old enough for a successor: the next sweep publishes it.
    let (db, ring) = (connect(&world.url), ring());
    world.sql("UPDATE signing_keys SET published_at = published_at - interval '89.995 days', activated_at = activated_at - interval '89.995 days'").await;
    assert_eq!(ring.sweep(&db).await.unwrap().len(), 1, "a successor is due");
    both("both are published", &|kids| kids.len() == 2).await;
    let published = kids(&world.service).await;
    let fresh = published.iter().find(|kid| !old.contains(kid)).unwrap().clone();
    world.arm("before", -1_000).await;

    // It signs 15 minutes later.
    world.sql("UPDATE signing_keys SET published_at = published_at - interval '911 s', activated_at = activated_at - interval '911 s'").await;
    assert_eq!(ring.sweep(&db).await.unwrap().len(), 1, "its activation is due");
    eventually("fires are signed with the new key", async || {
        let count = world.agents.fires().len();
        world.arm(&format!("after-{count}"), -1_000).await;
        world.agents.wait_for(&format!("after-{count}"), 1).await;
        world
            .agents
            .fires()
            .iter()
            .any(|fire| {
                let header = fire.token.split('.').next().unwrap();
                let header = URL_SAFE_NO_PAD.decode(header).unwrap();
                serde_json::from_slice::<Value>(&header).unwrap()["kid"] == fresh
            })
            .then_some(())
    })
    .await;
    for service in [&world.service, &other] {
        let (_, set) = service.get(PATHS[1]).await;
        for fire in world.agents.fires() {
            verify(&fire.token, &set);
        }
    }

    // The old key is removed 300 s and a margin after it last signed.
    world
        .sql("UPDATE signing_keys SET retired_at = retired_at - interval '320 s' WHERE state = 'retired'")
        .await;
    assert_eq!(ring.sweep(&db).await.unwrap().len(), 1);
    both("the old one is gone", &|kids| kids == [fresh.clone()]).await;
}
