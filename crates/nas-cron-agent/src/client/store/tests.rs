//! The content and the permissions of the auth store, and its behaviour on errors.

use std::os::unix::fs::PermissionsExt;

use nas_cron_base::testing::Scratch;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::*;

fn server() -> ServerUrl {
    "https://portal.example".parse().unwrap()
}

fn store_in(scratch: &Scratch) -> AuthStore {
    let store = AuthStore::named(Some(scratch.path().join("config/auth.json"))).unwrap();
    store.with_lock_wait(Duration::from_mins(1))
}

fn bearer(token: &str) -> StoredBearer {
    StoredBearer { access_token: token.to_owned().into(), expires_at: None }
}

async fn keep(store: &AuthStore, token: &str) -> Result<(), AuthStoreError> {
    store.change(&server(), |entry| entry.bearer = Some(bearer(token))).await
}

fn stored(store: &AuthStore) -> Option<String> {
    let bearer = store.server(&server()).unwrap()?.bearer?;
    Some(bearer.access_token.expose_secret().to_owned())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A valid store whose file then got this content.
async fn with_content(scratch: &Scratch, content: &str) -> AuthStore {
    let store = store_in(scratch);
    keep(&store, "before").await.unwrap();
    fs::write(store.path(), content).unwrap();
    store
}

#[tokio::test]
async fn the_store_is_readable_by_its_owner_only() {
    let scratch = Scratch::new();
    let store = store_in(&scratch);
    assert_eq!(stored(&store), None, "a file that is not there is an empty store");
    keep(&store, "secret-token").await.unwrap();
    assert_eq!(stored(&store).as_deref(), Some("secret-token"));
    assert_eq!((mode(store.path()), mode(store.path().parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&store.path().with_added_extension("lock")), 0o600);
    let shown = format!("{:?} {:?}", store.read().unwrap(), store.server(&server()).unwrap());
    assert!(shown.contains("https://portal.example") && !shown.contains("secret-token"), "{shown}");
}

#[tokio::test]
async fn store_file_has_exactly_the_documented_fields() {
    let scratch = Scratch::new();
    let store = store_in(&scratch);
    let at: chrono::DateTime<chrono::Utc> = "2026-06-18T12:34:56Z".parse().unwrap();
    let identity = StoredIdentity {
        private_key: SecretString::from("pkcs8"),
        agent_runtime_id: "rt-1".into(),
        registered_at: Some(at),
        background_task_id: Some("task-1".into()),
    };
    let change = |entry: &mut ServerEntry| {
        entry.bearer = Some(StoredBearer { expires_at: Some(at), ..bearer("token") });
        entry.agent_identity = Some(identity);
        entry.pending_private_key = Some(SecretString::from("next"));
        entry.use_agent_identity = Some(Mode::On);
    };
    store.change(&server(), change).await.unwrap();
    let value: Value = serde_json::from_slice(&fs::read(store.path()).unwrap()).unwrap();
    assert_eq!(
        value,
        json!({
            "version": 1,
            "servers": {
                "https://portal.example": {
                    "bearer": {"access_token": "token", "expires_at": "2026-06-18T12:34:56Z"},
                    "agent_identity": {
                        "agent_runtime_id": "rt-1",
                        "private_key": "pkcs8",
                        "registered_at": "2026-06-18T12:34:56Z",
                        "background_task_id": "task-1",
                    },
                    "pending_private_key": "next",
                    "use_agent_identity": "on",
                },
            },
        })
    );
}

#[tokio::test]
async fn entries_of_other_programs_survive() {
    let scratch = Scratch::new();
    let theirs = json!({
        "version": 1,
        "comment": "by hand",
        "servers": {
            "https://portal.example": {
                "sessions": {"s1": {"task_id": "t1"}},
                "agent_identity": {"agent_runtime_id": "rt-1", "private_key": "k", "background_task_id": "old", "session_tasks": ["t2"]},
            },
            "https://other.example": {"bearer": {"access_token": "other"}},
        },
    });
    let store = with_content(&scratch, &theirs.to_string()).await;
    store
        .change(&server(), |entry| {
            entry.bearer = Some(bearer("mine"));
            entry.agent_identity.as_mut().unwrap().background_task_id = None;
        })
        .await
        .unwrap();
    let value: Value = serde_json::from_slice(&fs::read(store.path()).unwrap()).unwrap();
    let mut expected = theirs;
    expected["servers"]["https://portal.example"]["bearer"] = json!({"access_token": "mine"});
    expected["servers"]["https://portal.example"]["agent_identity"] =
        json!({"agent_runtime_id": "rt-1", "private_key": "k", "session_tasks": ["t2"]});
    assert_eq!(value, expected);
}

#[tokio::test]
async fn invalid_store_is_diagnosed_left_unchanged_and_not_shown() {
    let cases = [
        (
            r#"{"version":1,"servers":{"https://portal.example":{"bearer":{"access_token":"s3cret"#,
            "is truncated (line 1, column",
        ),
        ("", "is truncated (line 1, column 0)"),
        ("s3cret", "is not JSON (line 1, column 1)"),
        (r#"["s3cret"]"#, "is not a JSON object"),
        (r#"{"servers":{}}"#, "has no valid `version`"),
        (r#"{"version":"s3cret"}"#, "has no valid `version`"),
        (r#"{"version":1,"servers":["s3cret"]}"#, "`servers` that is not an object"),
        (
            r#"{"version":1,"servers":{"https://portal.example":"s3cret"}}"#,
            "servers[\"https://portal.example\"]",
        ),
        (
            r#"{"version":1,"servers":{"https://portal.example":{"bearer":{"access_token":["s3cret"]}}}}"#,
            ".bearer.access_token",
        ),
        (
            r#"{"version":1,"servers":{"https://portal.example":{"use_agent_identity":"s3cret"}}}"#,
            ".use_agent_identity",
        ),
        (r#"{"version":2,"servers":"s3cret"}"#, "newer nas-cron (format 2"),
    ];
    for (content, expected) in cases {
        let scratch = Scratch::new();
        let store = with_content(&scratch, content).await;
        for error in [store.server(&server()).unwrap_err(), keep(&store, "after").await.unwrap_err()] {
            let text = format!("{error} {error:?}");
            assert!(text.contains(expected) && !text.contains("s3cret"), "{content}: {text}");
            assert!(text.contains("config/auth.json"), "{text}");
        }
        assert_eq!(fs::read_to_string(store.path()).unwrap(), content, "nothing is lost");
    }
    let scratch = Scratch::new();
    let store = with_content(&scratch, &" ".repeat(2 << 20)).await;
    assert!(store.read().unwrap_err().to_string().contains("longer than"));
}

#[tokio::test]
async fn store_accessible_to_others_is_rejected() {
    for bits in [0o644, 0o640, 0o602, 0o660] {
        let scratch = Scratch::new();
        let store = store_in(&scratch);
        keep(&store, "before").await.unwrap();
        fs::set_permissions(store.path(), fs::Permissions::from_mode(bits)).unwrap();
        for error in [store.read().map(drop).unwrap_err(), keep(&store, "after").await.unwrap_err()] {
            assert!(matches!(error, AuthStoreError::Exposed { mode, .. } if mode == bits), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(store.path(), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(stored(&store).as_deref(), Some("before"));
    }
}

#[tokio::test]
async fn store_of_another_user_is_rejected() {
    let scratch = Scratch::new();
    let store = store_in(&scratch);
    keep(&store, "before").await.unwrap();
    let other = 65_534;
    if std::os::unix::fs::chown(store.path(), Some(other), None).is_err() {
        return; // Only root can change the owner.
    }
    let error = store.read().unwrap_err();
    assert!(matches!(error, AuthStoreError::WrongOwner { owner, .. } if owner == other), "{error}");
}

#[tokio::test]
async fn lock_that_is_never_released_is_reported() {
    let scratch = Scratch::new();
    let store = store_in(&scratch);
    keep(&store, "before").await.unwrap();
    let held = store.lock().await.unwrap();
    let hasty = store.clone().with_lock_wait(Duration::from_millis(10));
    let error = keep(&hasty, "after").await.unwrap_err();
    assert!(error.to_string().contains("auth.json.lock") && error.to_string().contains("fuser"), "{error}");
    assert_eq!(stored(&store).as_deref(), Some("before"), "readers need no lock");
    drop(held);
    keep(&store, "after").await.unwrap();
}

#[tokio::test]
async fn unwritable_folder_is_reported() {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("file"), "").unwrap();
    let store = AuthStore::named(Some(scratch.path().join("file/auth.json"))).unwrap();
    let error = keep(&store, "token").await.unwrap_err();
    assert!(matches!(error, AuthStoreError::Unwritable { .. }), "{error}");
    assert!(error.to_string().contains("--auth-store"), "{error}");
}

#[tokio::test]
async fn symbolic_link_to_the_store_is_followed() {
    let scratch = Scratch::new();
    let store = store_in(&scratch);
    keep(&store, "before").await.unwrap();
    let link = scratch.path().join("link.json");
    std::os::unix::fs::symlink(store.path(), &link).unwrap();
    keep(&AuthStore::named(Some(link.clone())).unwrap(), "after").await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(stored(&store).as_deref(), Some("after"));
}

#[tokio::test]
async fn concurrent_writers_do_not_lose_each_other() {
    let scratch = Scratch::new();
    let store = store_in(&scratch);
    let writers = (0..20).map(|number| {
        let store = store.clone();
        let server: ServerUrl = format!("https://portal-{number}.example").parse().unwrap();
        tokio::spawn(async move { store.change(&server, |entry| entry.bearer = Some(bearer("t"))).await })
    });
    for written in futures::future::join_all(writers).await {
        written.unwrap().unwrap();
    }
    assert_eq!(store.read().unwrap().servers().count(), 20);
}

#[test]
fn mode_accepts_the_usual_boolean_words() {
    let parsed = |word| <Mode as clap::ValueEnum>::from_str(word, true);
    for (words, mode) in [(["on", "true", "1", "ON"], Mode::On), (["off", "false", "0", "False"], Mode::Off)]
    {
        assert!(words.iter().all(|word| parsed(word) == Ok(mode)), "{mode:?}");
    }
    assert!(parsed("perhaps").is_err());
}
