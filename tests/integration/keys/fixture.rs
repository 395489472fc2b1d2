//! Fixtures: key rings, a database whose time can pass, and a verifier that uses the JWKS only.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{TimeZone, Utc};
use nas_cron::db::Db;
use nas_cron::domain::SigningAlg;
use nas_cron::keys::{
    FireSubject, KeyEncryptionKeys, KeyRing, KeyRingOptions, MintError, RotationPolicy, TokenTtl,
};
use nas_cron_base::clock::ManualClock;
use nas_cron_protocol::{FireAt, InstanceId, JobId};
use nas_cron_testing::database::database;
use nas_cron_testing::service::key_encryption_keys;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

/// A migrated database for one test.
pub(crate) struct TestDatabase {
    /// The service's handle.
    pub(crate) db: Db,
    /// Direct access, for reading and changing rows.
    pub(crate) pool: PgPool,
}

/// Runs `test` on a new database.
pub(crate) async fn with_database(test: impl AsyncFnOnce(TestDatabase)) {
    let (db, url) = database().await;
    let pool = PgPool::connect(&url).await.expect("the new database is reachable");
    test(TestDatabase { db, pool }).await;
}

/// Runs one statement.
pub(crate) async fn execute(pool: &PgPool, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("the statement runs");
}

pub(crate) fn kek(byte: u8) -> KeyEncryptionKeys {
    key_encryption_keys(&STANDARD.encode([byte; 32]))
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(Utc.timestamp_opt(1_800_000_000, 0).unwrap())
}

pub(crate) fn ring_with(
    alg: SigningAlg,
    kek: Option<KeyEncryptionKeys>,
    clock: &ManualClock,
) -> Arc<KeyRing> {
    let options = KeyRingOptions {
        issuer: "https://portal.example".to_owned(),
        token_ttl: TokenTtl::default(),
        alg,
        policy: RotationPolicy::default(),
        kek,
    };
    Arc::new(KeyRing::new(options, Arc::new(clock.clone())))
}

/// Lets time pass by moving all recorded times into the past.
pub(crate) async fn pass(database: &TestDatabase, seconds: i64) {
    let columns = ["published_at", "activated_at", "retired_at", "gone_at", "seen_at"];
    let moved =
        columns.map(|column| format!("{column} = {column} - interval '{seconds} seconds'")).join(", ");
    execute(&database.pool, format!("UPDATE signing_keys SET {moved}")).await;
}

/// Returns kid and state of the keys, in the order of publication.
pub(crate) async fn states(database: &TestDatabase) -> Vec<(String, String)> {
    sqlx::query_as("SELECT kid, state::text FROM signing_keys ORDER BY published_at, kid")
        .fetch_all(&database.pool)
        .await
        .unwrap()
}

pub(crate) fn mint(ring: &KeyRing) -> Result<SecretString, MintError> {
    let fire = FireSubject {
        attempt_id: Uuid::new_v4(),
        instance_id: &InstanceId::new("i-1").unwrap(),
        job_id: &JobId::new("a1b2c3").unwrap(),
        fire_at: &FireAt::parse("2026-06-18T12:34:56+00:00").unwrap(),
        auth: None,
    };
    ring.mint(fire)
}

pub(crate) fn jwks(ring: &KeyRing) -> Value {
    serde_json::from_slice(&ring.jwks().expect("there are keys").body).unwrap()
}

pub(crate) fn kids(jwks: &Value) -> Vec<String> {
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Verifies a token with the key of its `kid` in the JWKS. Returns header and claims.
pub(crate) fn verify(token: &SecretString, jwks: &Value) -> Result<(Value, Value), String> {
    let (signed, signature) = token.expose_secret().rsplit_once('.').ok_or("no token")?;
    let (header, claims) = signed.split_once('.').ok_or("no token")?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string());
    let parse = |text: &str| -> Result<Value, String> {
        serde_json::from_slice(&decode(text)?).map_err(|error| error.to_string())
    };
    let (header, claims, signature) = (parse(header)?, parse(claims)?, decode(signature)?);
    let keys = jwks["keys"].as_array().ok_or("no JWKS")?;
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).ok_or("unknown kid")?;
    if key["alg"] != header["alg"] || key["use"] != "sig" {
        return Err("the key has another purpose".to_owned());
    }
    let member = |name: &str| decode(key[name].as_str().unwrap_or("missing"));
    let verified = match key["kty"].as_str() {
        Some("EC") => {
            let point = [vec![4], member("x")?, member("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature)
        }
        Some("RSA") => RsaPublicKeyComponents { n: member("n")?, e: member("e")? }.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            signed.as_bytes(),
            &signature,
        ),
        other => return Err(format!("unknown kty {other:?}")),
    };
    verified.map_err(|_| "bad signature".to_owned())?;
    Ok((header, claims))
}
