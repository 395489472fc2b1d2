//! The user of a database URL that names none, over Postgres's Unix socket.

use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

/// Returns the operating system's name of this process's user.
fn own_name() -> String {
    let output = std::process::Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8(output.stdout).expect("a name").trim().to_owned()
}

/// Starts a server with a role and a database of this process's user, and returns settings whose URL names neither user
/// nor host.
async fn on_a_socket() -> (PrivatePostgres, Settings) {
    let server = tokio::task::spawn_blocking(|| {
        let server = PrivatePostgres::start(Options::temporary()).expect("a server");
        let user = own_name();
        if user != "postgres" {
            server.execute(&format!("CREATE ROLE \"{user}\" LOGIN")).expect("a role");
        }
        server.execute(&format!("CREATE DATABASE nas_cron OWNER \"{user}\"")).expect("a database");
        server
    });
    let server = server.await.expect("no panic");
    let url: url::Url = server.url("nas_cron").parse().unwrap();
    let (_, socket_dir) = url.query_pairs().find(|(name, _)| name == "host").expect("a socket");
    let settings = Settings::new("postgres:///nas_cron", &Portal::start().await)
        .with("PGHOST", socket_dir)
        .with("PGPORT", server.port().to_string());
    (server, settings)
}

#[tokio::test]
async fn database_url_without_a_user_connects_as_the_operating_systems_user() {
    let (server, settings) = on_a_socket().await;
    // Empty is unset, as in libpq.
    let (status, out, error) = settings.clone().with("PGUSER", "").run(&["migrate"]).await;
    assert!(status.success() && out.starts_with("Applied "), "{out}{error}");
    let mut superuser = PgConnection::connect(&server.url("nas_cron")).await.unwrap();
    let owner: String =
        sqlx::query_scalar("SELECT tableowner::text FROM pg_tables WHERE tablename = 'one_shots'")
            .fetch_one(&mut superuser)
            .await
            .unwrap();
    assert_eq!(owner, own_name());

    let (_, out, error) = settings.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"));
    let checks = report["checks"].as_array().unwrap();
    for name in ["database", "schema"] {
        let check = checks.iter().find(|check| check["check"] == name).unwrap();
        assert_eq!(check["status"], "ok", "{check}");
    }
}

#[tokio::test]
async fn pguser_comes_before_the_operating_systems_user_and_the_url_before_both() {
    let (_server, settings) = on_a_socket().await;
    let settings = settings.with("PGUSER", "of_the_environment");
    for (url, role) in [
        ("postgres:///nas_cron", "of_the_environment"),
        ("postgres:///nas_cron?user=of_the_parameter", "of_the_parameter"),
        ("postgres://of_the_url@/nas_cron", "of_the_url"),
    ] {
        let (status, _, error) = settings.clone().with("NAS_CRON_DATABASE_URL", url).run(&["migrate"]).await;
        assert_eq!(status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("role \"{role}\" does not exist")), "{url}: {error}");
    }
}
