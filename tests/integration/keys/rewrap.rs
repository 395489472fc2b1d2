//! A change of the key-encryption key: fallbacks, and `nas-cron keys rewrap`.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron::db::sealed;
use nas_cron::domain::sealed::{Sealed, SecretKind};
use nas_cron::keys::KeyEncryptionKeys;
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Service, Settings, key_encryption_keys};
use nas_cron_testing::world::eventually;
use secrecy::SecretSlice;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::own_portal::fixture::{World, refresh};

const KEY: &str = "NAS_CRON_KEY_ENCRYPTION_KEY";
const FALLBACKS: &str = "NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS";

/// Another key-encryption key than that of the tests.
fn new_key() -> String {
    STANDARD.encode([2; 32])
}

/// Settings with the new key, and the old one as a fallback.
fn rotating(settings: &Settings) -> Settings {
    settings.clone().with(KEY, new_key()).with(FALLBACKS, KEY_ENCRYPTION_KEY)
}

/// Runs `keys rewrap --json`. Returns its exit code, result and errors.
async fn rewrap(settings: &Settings, more: &[&str]) -> (Option<i32>, Value, String) {
    let (status, out, said) = settings.run(&[&["keys", "rewrap", "--json"], more].concat()).await;
    (status.code(), serde_json::from_str(&out).unwrap_or_default(), said)
}

/// Returns status and text of the check of stored secrets.
async fn examined(settings: &Settings) -> (String, String) {
    let (_, out, said) = settings.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{said}"));
    let lines = report["checks"].as_array().expect("checks");
    let line = lines.iter().find(|line| line["check"] == "stored secrets").expect("a line");
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("found"))
}

/// Adds a webhook with a secret that `keys` encrypt. Returns its ID.
async fn webhook(pool: &PgPool, keys: &KeyEncryptionKeys) -> Uuid {
    let id = Uuid::new_v4();
    let secret = SecretSlice::from(vec![7; 32]);
    let sealed = keys.seal(SecretKind::WebhookSecret, &id.to_string(), &secret).unwrap();
    let old = keys.seal(SecretKind::OldWebhookSecret, &id.to_string(), &secret).unwrap();
    sqlx::query(
        "INSERT INTO webhooks (webhook_id, url, secret_nonce, secret, old_secret_nonce, old_secret, old_secret_until)
         VALUES ($1, 'https://receiver.example/', $2, $3, $4, $5, now() + interval '1 h')",
    )
    .bind(id)
    .bind(sealed.nonce)
    .bind(sealed.ciphertext)
    .bind(old.nonce)
    .bind(old.ciphertext)
    .execute(pool)
    .await
    .unwrap();
    id
}

/// Returns the number of stored secrets, and that of those that `keys` decrypt.
async fn readable(url: &str, keys: &KeyEncryptionKeys) -> (usize, usize) {
    let db = connect(url);
    let (mut all, mut readable) = (0, 0);
    for kind in SecretKind::ALL {
        let stored = sealed::page(&db, kind, "", 1_000).await.unwrap();
        all += stored.len();
        readable += stored.iter().filter(|one| keys.open(kind, &one.id, &one.sealed).is_ok()).count();
    }
    (all, readable)
}

/// The order of docs/keys.md, with a replica of the old settings that runs all the time.
#[tokio::test]
async fn key_encryption_key_is_replaced_while_replicas_serve() {
    let world = World::new().await;
    let (old, new) = (key_encryption_keys(KEY_ENCRYPTION_KEY), key_encryption_keys(&new_key()));
    webhook(&world.pool, &old).await;
    let first = world.enroll("agent-1").await;
    let away = world.enroll("agent-2").await;

    // 1. The new key as a fallback: nothing changes.
    let prepared = world.settings.clone().with(FALLBACKS, new_key());
    let (code, result, said) = rewrap(&prepared, &["--dry-run"]).await;
    assert_eq!(
        (code, &result["rewrapped"], &result["keys"]["current"]),
        (Some(0), &json!(0), &json!(3)),
        "{said}"
    );
    assert_eq!(examined(&prepared).await.0, "ok");

    // 2. The new key encrypts, and the old one is the fallback. Replicas of both settings run.
    let settings = rotating(&world.settings);
    let service = Service::start(&settings).await;
    let (code, result, said) = rewrap(&settings, &["--dry-run"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        result["keys"],
        json!({ "current": 0, "fallback": 3, "unreadable": [], "logins_current": 0, "logins_fallback": 2, "logins_unreadable": 0 })
    );
    assert_eq!(readable(&world.url, &old).await, (3, 3), "a dry run changes nothing");
    let (status, found) = examined(&settings).await;
    assert!(status == "warning" && found.starts_with("3 secrets still"), "{found}");

    // 3. Through the admin API, with the keys of the replica that answers.
    let (status, result) = service.admin("POST", "/api/admin/keys/rewrap", Some(&json!({}))).await;
    assert_eq!(
        (status, &result["rewrapped"], &result["keys"]["fallback"]),
        (200, &json!(3), &json!(0)),
        "{result}"
    );
    assert_eq!(readable(&world.url, &new).await, (3, 3));
    let (_, result, _) = rewrap(&settings, &[]).await;
    assert_eq!((&result["rewrapped"], &result["keys"]["current"]), (&json!(0), &json!(3)), "once");

    // The replica with the old settings goes on with the keys that it has, and could not start again.
    let second = refresh(&world.service, &first).await.field("refresh_token");
    let (status, _, said) = world.settings.run(&["serve"]).await;
    assert!(status.code() == Some(1) && said.contains("decrypting signing key"), "{said}");

    // 4. A login changes when its agent has a token of the new key, and not before.
    let third = refresh(&service, &second).await.field("refresh_token");
    assert_eq!(third, refresh(&service, &second).await.field("refresh_token"), "the same successor");
    let (status, found) = examined(&settings).await;
    assert!(status == "warning" && found.starts_with("2 logins"), "{found}");
    let fourth = refresh(&service, &third).await.field("refresh_token");
    assert!(examined(&settings).await.1.starts_with("1 login "), "agent-2 has not called");
    let only_new = settings.clone().without(FALLBACKS);
    let (status, _, said) = only_new.run(&["serve"]).await;
    assert!(status.code() == Some(1) && said.contains("would lose their logins (agent-2)"), "{said}");
    let fifth = refresh(&service, &away).await.field("refresh_token");
    refresh(&service, &fifth).await.field("refresh_token");

    // 5. Without the fallback.
    let (status, found) = examined(&settings).await;
    assert!(status == "ok" && found.contains("can be removed"), "{found}");
    let service = Service::start(&only_new).await;
    refresh(&service, &fourth).await.field("refresh_token");
}

#[tokio::test]
async fn killed_rewrap_is_resumed() {
    const WEBHOOKS: usize = 120;
    let world = World::new().await;
    let (old, new) = (key_encryption_keys(KEY_ENCRYPTION_KEY), key_encryption_keys(&new_key()));
    let mut ids = Vec::new();
    for _ in 0..WEBHOOKS {
        ids.push(webhook(&world.pool, &old).await);
    }
    ids.sort();
    let all = 1 + 2 * WEBHOOKS;
    // It waits for a row of its second batch.
    let mut transaction = world.pool.begin().await.unwrap();
    let lock = "SELECT FROM webhooks WHERE webhook_id = $1 FOR UPDATE";
    sqlx::query(lock).bind(ids[70]).execute(&mut *transaction).await.unwrap();
    let settings = rotating(&world.settings);
    let mut command = settings.command(&["keys", "rewrap"]);
    let mut running = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("it waits", async || {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(readable(&world.url, &new).await, (all, 51), "the first batches are done");
    // Its last statement is not.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sqlx::query(end).execute(&world.pool).await.unwrap();
    transaction.rollback().await.unwrap();

    let (code, result, said) = rewrap(&settings, &[]).await;
    assert_eq!((code, &result["rewrapped"]), (Some(0), &json!(all - 51)), "{said}");
    assert_eq!(readable(&world.url, &new).await, (all, all));
}

#[tokio::test]
async fn secret_of_another_key_is_named_and_the_others_are_done() {
    let world = World::new().await;
    let lost = webhook(&world.pool, &key_encryption_keys(&STANDARD.encode([3; 32]))).await;
    let expired = webhook(&world.pool, &key_encryption_keys(&STANDARD.encode([3; 32]))).await;
    let readable_again = key_encryption_keys(KEY_ENCRYPTION_KEY)
        .seal(SecretKind::WebhookSecret, &expired.to_string(), &SecretSlice::from(vec![7; 32]))
        .unwrap();
    let Sealed { nonce, ciphertext } = readable_again;
    let replaced =
        "UPDATE webhooks SET secret_nonce = $2, secret = $3, old_secret_until = now() WHERE webhook_id = $1";
    sqlx::query(replaced).bind(expired).bind(nonce).bind(ciphertext).execute(&world.pool).await.unwrap();
    let settings = rotating(&world.settings);
    let (code, result, said) = rewrap(&settings, &[]).await;
    assert_eq!((code, &result["rewrapped"]), (Some(1), &json!(2)), "{said}");
    let named =
        json!([format!("secret of webhook `{lost}`"), format!("previous secret of webhook `{lost}`")]);
    assert_eq!(result["keys"]["unreadable"], named);
    assert!(said.contains(&lost.to_string()) && said.contains("rotate-secret"), "{said}");
    let (status, found) = examined(&settings).await;
    assert!(status == "wrong" && found.contains(&lost.to_string()), "{found}");
    // A previous secret that signs no more is erased instead.
    let old: Option<Vec<u8>> = sqlx::query_scalar("SELECT old_secret FROM webhooks WHERE webhook_id = $1")
        .bind(expired)
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(old, None);

    // A wrong fallback changes nothing.
    let before = readable(&world.url, &key_encryption_keys(&new_key())).await;
    let wrong = settings.with(KEY, STANDARD.encode([4; 32])).with(FALLBACKS, STANDARD.encode([5; 32]));
    let (code, result, said) = rewrap(&wrong, &[]).await;
    assert_eq!((code, &result["rewrapped"]), (Some(1), &json!(0)), "{said}");
    assert!(said.contains("signing key `"), "{said}");
    assert_eq!(readable(&world.url, &key_encryption_keys(&new_key())).await, before);
    let (status, _, said) = wrong.run(&["serve"]).await;
    assert!(status.code() == Some(1) && said.contains("and its fallbacks failed"), "{said}");
}

#[tokio::test]
async fn rewrap_without_a_key_and_with_invalid_fallbacks_is_refused() {
    let world = World::new().await;
    let none = world.settings.clone().without(KEY).without("NAS_CRON_OWN_PORTAL");
    let (code, _, said) =
        rewrap(&none.clone().with("NAS_CRON_PORTAL_JWKS_URL", "https://portal.example/jwks"), &[]).await;
    assert!(code == Some(1) && said.contains("NAS_CRON_KEY_ENCRYPTION_KEY is not set"), "{said}");
    for (settings, problem) in [
        (none.with(FALLBACKS, new_key()), "a fallback only decrypts"),
        (rotating(&world.settings).with(FALLBACKS, new_key()), "one key is there twice"),
        (
            rotating(&world.settings).with(FALLBACKS, format!("{KEY_ENCRYPTION_KEY},{KEY_ENCRYPTION_KEY}")),
            "twice",
        ),
        (
            rotating(&world.settings).with(FALLBACKS, "c2VjcmV0LWJ1dC1zaG9ydA=="),
            "16 bytes long instead of 32",
        ),
    ] {
        let (code, _, said) = rewrap(&settings, &[]).await;
        assert!(code == Some(2) && said.contains(problem), "{said}");
        assert!(!said.contains("c2VjcmV0") && !said.contains(&new_key()), "{said}");
    }
}

/// Columns of bytes without secrets: hashes, IDs, public keys and traces.
const PLAIN: [&str; 13] = [
    "admin_tokens.hash",
    "agent_identities.public_key",
    "logins.key_id",
    "one_shots.provision_trace",
    "operator_sessions.session_hash",
    "operator_sessions.token_hash",
    "operator_sign_in_links.link_hash",
    "operator_sign_in_links.token_hash",
    "operator_submissions.session_hash",
    "signing_keys.private_nonce",
    "webhooks.old_secret_nonce",
    "webhooks.secret_nonce",
    "_sqlx_migrations.checksum",
];

#[tokio::test]
async fn every_column_of_bytes_is_rewrapped_or_known_not_to_be_a_secret() {
    let (_, url) = database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let columns = "SELECT table_name || '.' || column_name FROM information_schema.columns
                   WHERE table_schema = 'public' AND data_type = 'bytea'";
    let columns: BTreeSet<String> =
        sqlx::query_scalar::<_, String>(columns).fetch_all(&pool).await.unwrap().into_iter().collect();
    let sealed = SecretKind::ALL.map(sealed::columns);
    let covered = sealed.iter().map(|column| format!("{}.{}", column.table, column.ciphertext));
    let expected: BTreeSet<String> = covered.chain(PLAIN.map(str::to_owned)).collect();
    assert_eq!(columns, expected, "add an encrypted column to `SecretKind`, and any other one to `PLAIN`");
    for column in sealed {
        assert!(columns.contains(&format!("{}.{}", column.table, column.nonce)));
    }
}
