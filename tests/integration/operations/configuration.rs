//! Configuration errors are reported at the start, and secrets are never printed.

use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Settings, binary};
use serde_json::Value;

async fn settings() -> Settings {
    Settings::new("postgres://user:hunter2hunter2@127.0.0.1:1/none", &Portal::start().await)
}

#[tokio::test]
async fn an_invalid_setting_is_named_and_serve_exits_with_2() {
    let sound = settings().await;
    for (name, value, expected) in [
        ("NAS_CRON_FIRE_TIMOUT", "30s", "NAS_CRON_FIRE_TIMEOUT"),
        ("NAS_CRON_UTTER_NONSENSE", "1", "NAS_CRON_UTTER_NONSENSE"),
        ("NAS_CRON_DATABASE_URL", "mysql://x:hunter2hunter2@y/z", "database_url"),
        ("NAS_CRON_PORTAL_URL", "portal.example", "portal_url"),
        ("NAS_CRON_LISTEN", "8080", "listen"),
        ("NAS_CRON_FIRE_TIMEOUT", "half an hour", "fire_timeout"),
        ("NAS_CRON_FIRE_TIMEOUT", "1h", "fire_timeout"),
        ("NAS_CRON_FIRE_TOKEN_TTL", "121s", "fire_token_ttl"),
        ("NAS_CRON_SIGNING_ALG", "HS256", "signing_alg"),
        ("NAS_CRON_KEY_ENCRYPTION_KEY", "hunter2hunter2", "key_encryption_key"),
        ("NAS_CRON_CALLBACK_ALLOW", "10.0.0.0/33", "callback_allow"),
        ("NAS_CRON_IN_FLIGHT_MAX", "0", "in_flight_max"),
        ("NAS_CRON_IN_FLIGHT_MAX", "100000", "lease_capacity"),
        ("NAS_CRON_LEASE_MARGIN", "10ms", "lease_margin"),
        ("NAS_CRON_MIGRATE", "perhaps", "migrate"),
        ("NAS_CRON_ADMIN_TOKEN_SHA256", "abc", "admin_token_sha256"),
        ("NAS_CRON_LOG_FILTER", "loud=very", "log_filter"),
        ("NAS_CRON_BACKEND", "sundial", "backend"),
        ("NAS_CRON_CONFIG", "/nowhere/nas-cron.toml", "/nowhere/nas-cron.toml"),
    ] {
        let (status, out, stderr) = sound.clone().with(name, value).run(&["serve"]).await;
        assert_eq!(status.code(), Some(2), "{name}={value}: {stderr}");
        assert!(stderr.contains(expected), "{name}={value}: {stderr}");
        assert!(!stderr.contains("hunter2") && out.is_empty(), "{name}: {stderr}");
    }
    for name in ["NAS_CRON_DATABASE_URL", "NAS_CRON_PORTAL_URL"] {
        let (status, _, stderr) = sound.clone().without(name).run(&["serve"]).await;
        assert!(status.code() == Some(2) && stderr.contains(name), "{stderr}");
    }
    // All errors are reported at once.
    let two = sound.with("NAS_CRON_LISTEN", "x").with("NAS_CRON_RETRY_CAP", "y");
    let (_, _, stderr) = two.run(&["serve"]).await;
    assert!(stderr.contains("NAS_CRON_LISTEN") && stderr.contains("NAS_CRON_RETRY_CAP"), "{stderr}");
}

#[tokio::test]
async fn config_show_prints_no_secret_of_valid_or_invalid_settings() {
    let right = settings().await;
    let wrong =
        right.clone().with("NAS_CRON_KEY_ENCRYPTION_KEY", "hunter2hunter2").with("NAS_CRON_LISTEN", "x");
    for settings in [right, wrong] {
        for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
            let (_, out, stderr) = settings.run(arguments).await;
            assert!(out.contains("database_url") && out.contains("***"), "{out}");
            for secret in ["hunter2", KEY_ENCRYPTION_KEY] {
                assert!(!out.contains(secret) && !stderr.contains(secret), "{secret} in {out}{stderr}");
            }
        }
    }
}

#[tokio::test]
async fn the_example_file_is_current_and_valid() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/nas-cron.example.toml");
    let (_, printed, _) = settings().await.run(&["config", "example"]).await;
    assert_eq!(
        printed,
        std::fs::read_to_string(file).unwrap(),
        "nas-cron config example > nas-cron.example.toml"
    );
    let plain = settings().await.run(&["config", "show", "--json"]).await.1;
    let with_file = settings().await.run(&["config", "show", "--json", "--config", file]).await.1;
    let values = |shown: &str| -> Vec<(String, Value)> {
        let shown: serde_json::Map<String, Value> = serde_json::from_str(shown).unwrap();
        shown
            .into_iter()
            .filter(|(key, _)| key != "portal_jwks_url")
            .map(|(key, one)| (key, one["value"].clone()))
            .collect()
    };
    assert_eq!(values(&with_file), values(&plain), "the example file has the defaults");
}

#[tokio::test]
async fn an_invalid_command_line_exits_with_2() {
    for arguments in [&["serv"][..], &["serve", "--no-such-flag"], &["migrate", "now"], &[]] {
        let mut command = binary();
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let version = binary().arg("--version").output().unwrap();
    assert!(version.status.success());
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.starts_with(concat!("nas-cron ", env!("CARGO_PKG_VERSION"), " (commit ")), "{version}");
}

#[tokio::test]
async fn serve_names_a_listener_that_could_not_be_bound() {
    let (_, url) = nas_cron_testing::database::database().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (name, setting) in [("NAS_CRON_LISTEN", "(listen)"), ("NAS_CRON_METRICS_LISTEN", "(metrics_listen)")]
    {
        let settings = Settings::new(&url, &Portal::start().await).with(name, &address);
        let (status, _, stderr) = settings.run(&["serve"]).await;
        assert!(!status.success() && stderr.contains(&address) && stderr.contains(setting), "{stderr}");
    }
}

#[tokio::test]
async fn configuration_page_has_the_table_of_all_settings() {
    let page = include_str!("../../../docs/configuration.md");
    let (_, table, _) = settings().await.run(&["config", "table"]).await;
    assert!(
        page.contains(table.trim()),
        "put the output of `nas-cron config table` into docs/configuration.md"
    );
}

#[tokio::test]
async fn every_command_in_the_readme_and_the_pages_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    let entries = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut paths = std::collections::BTreeSet::new();
    for page in pages {
        let page = std::fs::read_to_string(page).unwrap();
        for code in page.split('`').skip(1).step_by(2) {
            let Some(command) = code.trim().strip_prefix("nas-cron ") else { continue };
            let words: Vec<_> = command
                .split_whitespace()
                .take_while(|word| {
                    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
                })
                .collect();
            let groups = ["agents", "auth-profiles", "backend", "config", "cron", "jobs", "keys"];
            let depth = if words.first().is_some_and(|name| groups.contains(name)) { 2 } else { 1 };
            paths.insert(words[..words.len().min(depth)].join(" "));
        }
    }
    assert!(paths.len() > 30, "{paths:?}");
    let mut unknown = Vec::new();
    for path in &paths {
        let mut command = binary();
        command.args(path.split_whitespace()).arg("--help");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        if !output.status.success() {
            unknown.push(path);
        }
    }
    assert!(unknown.is_empty(), "no such commands: {unknown:?}");
}
