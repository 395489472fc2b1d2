//! Several issuers, each with its own rules and keys.

use std::path::PathBuf;

use nas_cron_testing::portal::{PORTAL_URL, Portal, all_claims};
use nas_cron_testing::service::Settings;
use serde_json::{Value, json};

use super::fixture::{Fixture, VPS};

const OTHER: &str = "https://other.test";

/// A file of issuers that is removed after the test.
struct File(PathBuf);

impl File {
    fn of(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-issuers-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A portal with `inst-1` of `org-1`, and another issuer for `org-2` and its `inst-2`.
async fn two() -> (Fixture, Portal, File) {
    let other = Portal::start().await;
    let file = File::of(&format!(
        "[[issuer]]\nissuer = '{OTHER}'\njwks_url = '{}'\naudiences = ['nas-cron']\norgs = ['org-2', 'org-3']\n",
        other.jwks_url()
    ));
    let fixture = Fixture::with(|settings, _| settings.with("NAS_CRON_ISSUERS_FILE", file.path())).await;
    fixture
        .sql(
            "INSERT INTO instances (instance_id, org_id, bootstrap_session_id) \
         VALUES ('inst-1', 'org-1', 'sid-1'), ('inst-2', 'org-2', 'sid-2')",
        )
        .await;
    (fixture, other, file)
}

#[tokio::test]
async fn each_issuers_tokens_are_judged_by_its_own_rules() {
    let (fixture, other, _file) = two().await;
    let theirs = |changes: Value| {
        let mut claims =
            json!({"iss": OTHER, "aud": "nas-cron", "iat": nas_cron_testing::time::now().timestamp() - 700});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        other.sign(claims)
    };
    // The portal's tokens still work.
    fixture.list(&fixture.portal.session_token("org-1", "sid-1")).await.is(200, "");
    fixture.list(&fixture.portal.client_token("org-2", "inst-2")).await.is(200, "");
    for (claims, expected) in [
        (json!({"client_id": VPS, "org_id": "org-2", "sid": "sid-2"}), (200, "")),
        (json!({"client_id": "agent:inst-2", "org_id": "org-2"}), (200, "")),
        (json!({"client_id": "agent:inst-2"}), (200, "")),
        // Its tokens are also checked for audience, expiry and purpose.
        (json!({"client_id": "agent:inst-2", "aud": "hermes-cli-vps"}), (401, "invalid_token")),
        (json!({"client_id": "agent:inst-2", "exp": 1_000_000_000}), (401, "invalid_token")),
        (json!({"client_id": "agent:inst-2", "purpose": "cron_fire"}), (401, "invalid_token")),
        // It cannot access another org's instance, neither with the org in the token nor without.
        (json!({"client_id": "agent:inst-1", "org_id": "org-1"}), (401, "invalid_token")),
        (json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-1"}), (401, "invalid_token")),
        (json!({"client_id": "agent:inst-1"}), (403, "invalid_client")),
        (json!({"client_id": "agent:inst-1", "org_id": "org-2"}), (403, "invalid_client")),
        (json!({"client_id": "agent:nobody"}), (403, "invalid_client")),
    ] {
        let answer = fixture.list(&theirs(claims.clone())).await;
        assert_eq!(answer.word(), expected, "{claims}: {answer:?}");
    }
    let (known, unknown) = (
        fixture.list(&theirs(json!({"client_id": "agent:inst-1"}))).await,
        fixture.list(&theirs(json!({"client_id": "agent:nobody"}))).await,
    );
    assert_eq!(known.body, unknown.body, "callers cannot distinguish them");
}

#[tokio::test]
async fn one_issuers_key_never_signs_for_another() {
    let (fixture, other, _file) = two().await;
    let claims = |iss: &str| {
        all_claims(&json!({"iss": iss, "aud": "nas-cron", "client_id": "agent:inst-2", "org_id": "org-2"}))
    };
    // Signed by one issuer in the name of the other, with the `kid` of either or none.
    let mut no_kid = other.header();
    no_kid.as_object_mut().unwrap().remove("kid");
    for header in [other.header(), fixture.portal.header(), no_kid] {
        fixture.list(&other.sign_as_is(&header, &claims(PORTAL_URL))).await.is(401, "invalid_token");
        fixture.list(&fixture.portal.sign_as_is(&header, &claims(OTHER))).await.is(401, "invalid_token");
    }
    for iss in [format!("{OTHER}/"), OTHER.to_uppercase(), String::new(), "https://third.test".to_owned()] {
        fixture.list(&other.sign_as_is(&other.header(), &claims(&iss))).await.is(401, "invalid_token");
    }
    fixture.list(&other.sign_as_is(&other.header(), &claims(OTHER))).await.is(200, "");
    // Its keys are refreshed like the portal's.
    other.rotate();
    fixture.list(&other.sign_as_is(&other.header(), &claims(OTHER))).await.is(200, "");
}

#[tokio::test]
async fn an_issuer_cannot_deny_instances_outside_its_orgs() {
    let other = Portal::start().await;
    let file = File::of(&format!(
        "[[issuer]]\nissuer = '{OTHER}'\njwks_url = '{}'\norgs = ['org-2']\n",
        other.jwks_url()
    ));
    let fixture = Fixture::looking_up(|settings| settings.with("NAS_CRON_ISSUERS_FILE", file.path())).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.list(&fixture.portal.session_token("org-1", "sid-1")).await.is(200, "");
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '1 h'").await;
    // The portal does not find the instance in org-2.
    let old = nas_cron_testing::time::now().timestamp() - 700;
    let named = json!({"iss": OTHER, "client_id": "agent:inst-1", "org_id": "org-2", "iat": old});
    fixture.list(&other.sign(named)).await.is(403, "invalid_client");
    assert_eq!(fixture.authority.knows().lookups[1..], ["v=1&client=agent%3Ainst-1&org=org-2"]);
    assert!(fixture.value::<bool>("SELECT denied_by_portal IS NULL FROM instances").await);
    fixture.list(&fixture.old_client("org-1", "inst-1")).await.is(200, "");
}

#[tokio::test]
async fn invalid_issuers_file_fails_the_start_with_its_table_and_field() {
    let portal = Portal::start().await;
    let sound = Settings::new("postgres://nobody@127.0.0.1:1/none", &portal);
    let refused = async |settings: Settings, text: &str| {
        let (status, _, said) = settings.run(&["serve"]).await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains(text) && said.contains("issuers_file"), "{text}: {said}");
    };
    for (text, expected) in [
        (
            "[[issuer]]\nissuer = 'https://a'\njwks_url = 'https://a/keys'\n",
            "[[issuer]] table 1 (https://a): orgs",
        ),
        ("[[issuer]]\njwks_urls = 'x'\n", "jwks_urls"),
        ("", "has 0 [[issuer]] tables"),
        (
            "[[issuer]]\nissuer = 'https://portal.test'\njwks_url = 'https://a/keys'\nall_orgs = true\n",
            "the issuers file contains the portal itself",
        ),
    ] {
        let file = File::of(text);
        refused(sound.clone().with("NAS_CRON_ISSUERS_FILE", file.path()), expected).await;
    }
    refused(sound.clone().with("NAS_CRON_ISSUERS_FILE", "/nowhere/issuers.toml"), "could not be read").await;
    // An unreadable key file fails the start a little later.
    let file = File::of("[[issuer]]\nissuer = 'https://a'\njwks_file = 'nowhere.pem'\nall_orgs = true\n");
    let (_, url) = nas_cron_testing::database::database().await;
    let settings = Settings::new(&url, &portal).with("NAS_CRON_ISSUERS_FILE", file.path());
    let (status, _, said) = settings.run(&["serve"]).await;
    assert!(!status.success() && said.contains("issuer https://a") && said.contains("nowhere.pem"), "{said}");

    for (name, value, expected) in [
        ("NAS_CRON_DIRECTORY", "lookup", "lookup_url"),
        ("NAS_CRON_DIRECTORY", "tables", "set table or lookup"),
        ("NAS_CRON_LOOKUP_URL", "https://portal.test/lookup", "set directory to lookup"),
        ("NAS_CRON_INTROSPECTION_URL", "https://portal.test/i", "introspection_client_secret"),
    ] {
        let (status, _, said) = sound.clone().with(name, value).run(&["serve"]).await;
        assert!(status.code() == Some(2) && said.contains(expected), "{name}: {said}");
    }
    let clear = sound
        .with("NAS_CRON_DIRECTORY", "lookup")
        .with("NAS_CRON_LOOKUP_URL", "http://portal.test/lookup")
        .with("NAS_CRON_LOOKUP_TOKEN", "hunter2");
    let (status, _, said) = clear.run(&["serve"]).await;
    assert!(
        status.code() == Some(2) && said.contains("sent unencrypted") && !said.contains("hunter2"),
        "{said}"
    );
}
