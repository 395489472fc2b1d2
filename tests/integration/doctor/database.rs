//! Checks of the configuration and the database.

use std::time::{Duration, Instant};

use nas_cron_testing::database::empty_database;
use nas_cron_testing::service::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fixture::{NOTHING_LISTENS, Report, bare, examined, reports, served};

#[tokio::test]
async fn a_healthy_deployment_passes_every_check() {
    let (_world, settings) = served(|settings| settings).await;
    let report = examined(&settings, |report| report.complaints().is_empty()).await;
    assert_eq!(report.code, Some(0));
    assert_eq!(report.line("configuration"), ("ok", "valid", ""));
    assert!(report.line("schema").1.ends_with("as required by this release"));
    assert_eq!(report.line("notifications").1, "LISTEN receives NOTIFY");
    assert!(report.line("signing key").1.ends_with("(ES256) is active and usable"), "{report:#?}");
    assert_eq!(report.line("NATS"), ("skipped", "not configured", ""));
}

#[tokio::test]
async fn table_is_plain_ascii_in_a_pipe() {
    let (settings, _portal, _) = bare().await;
    let (_, out, _) = settings.without("NAS_CRON_ADMIN_TOKEN_SHA256").run(&["doctor"]).await;
    assert!(out.is_ascii(), "{out}");
    let line = |name: &str| out.lines().find(|line| line.contains(name)).expect(&out);
    assert!(line("configuration").starts_with("ok "), "{out}");
    assert!(line("admin API").starts_with("warning "), "{out}");
    assert!(line("fix: create one with `nas-cron admin-tokens create`").starts_with("   "), "{out}");
}

#[tokio::test]
async fn all_configuration_errors_are_reported() {
    let (settings, _portal, _) = bare().await;
    let settings = settings.without("NAS_CRON_PORTAL_URL").with("NAS_CRON_LISTEN", "nowhere");
    let report =
        reports(&settings, "configuration", "wrong", "portal_url is not set", "nas-cron config show").await;
    assert!(report.line("configuration").1.contains("listen = `nowhere`"), "{report:#?}");
}

fn skips_what_needs_the_database(report: &Report) {
    for check in ["schema", "notifications", "signing key", "active backend", "overdue"] {
        assert_eq!(report.line(check), ("skipped", "not checked: the database is unavailable", ""));
    }
}

#[tokio::test]
async fn an_unreachable_database_is_reported() {
    let (settings, _portal, _) = bare().await;
    let settings = settings.with("NAS_CRON_DATABASE_URL", format!("postgres://u:SECRET@{NOTHING_LISTENS}/x"));
    let report = reports(&settings, "database", "wrong", "unavailable: ", "NAS_CRON_DATABASE_URL").await;
    skips_what_needs_the_database(&report);
    assert!(!report.json.to_string().contains("SECRET"));
    // Checks that do not need the database are made.
    assert_eq!(report.line("public URLs").0, "ok");
}

#[tokio::test]
async fn a_hanging_database_is_reported_within_a_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (settings, _portal, _) = bare().await;
    let url = format!("postgres://u@{}/x", listener.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let begun = Instant::now();
    let settings = settings.with("NAS_CRON_DATABASE_URL", url);
    let report = reports(&settings, "database", "wrong", "unavailable: ", "").await;
    assert!(begun.elapsed() < Duration::from_mins(2), "{:?}", begun.elapsed());
    skips_what_needs_the_database(&report);
    held.abort();
}

async fn run(url: &str, statements: &str) {
    let pool = sqlx::PgPool::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&pool).await.expect(statements);
    pool.close().await;
}

#[tokio::test]
async fn a_schema_of_another_release_is_reported() {
    let (settings, _portal, url) = bare().await;
    let behind = settings.clone().with("NAS_CRON_DATABASE_URL", empty_database().await);
    let report = reports(&behind, "schema", "warning", "migrations 1, ", "`nas-cron serve` migrates").await;
    assert_eq!(report.line("signing key").1, "not checked: the schema is not the one of this release");
    reports(&behind.without("NAS_CRON_MIGRATE"), "schema", "wrong", "migrations 1, ", "`nas-cron migrate`")
        .await;

    run(&url, "UPDATE _sqlx_migrations SET success = false WHERE version = 1").await;
    reports(
        &settings,
        "schema",
        "wrong",
        "migration 1 differs from the one of this release",
        "`nas-cron migrate --dry-run`",
    )
    .await;
    run(&url, "UPDATE _sqlx_migrations SET success = true WHERE version = 1").await;
    run(&url, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', true, 'x', 0)").await;
    reports(&settings, "schema", "warning", "version 9999", "deploy the release that migrated it").await;
    run(&url, "UPDATE schema_compatibility SET usable_from = 9999").await;
    let ahead =
        reports(&settings, "schema", "wrong", "version 9999", "use the release that migrated it").await;
    assert_eq!(ahead.line("overdue").0, "ok", "a later schema can be read: {ahead:#?}");
}

#[tokio::test]
async fn a_clock_offset_is_reported() {
    let (settings, _portal, url) = bare().await;
    let name = url.rsplit('/').next().unwrap();
    // A clock function of this database that shadows the system's.
    run(&url, &format!("ALTER DATABASE {name} SET search_path = public, pg_catalog")).await;
    let set = async |offset: &str| {
        let body = format!("SELECT pg_catalog.clock_timestamp() + interval '{offset}'");
        run(&url, &format!("CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $${body}$$")).await;
    };
    set("90 min 30 s").await;
    reports(&settings, "database clock", "warning", "1 h 30 min ahead of this machine's", "NTP").await;
    set("-15 s").await;
    reports(&settings, "database clock", "warning", "behind this machine's", "NTP").await;
}

/// Starts a proxy that drops notifications, as a pooler without sessions does.
async fn deaf_proxy(to: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = TcpStream::connect(&to).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                // A message starts with its kind, and a length that includes itself.
                while let Ok(kind) = from_server.read_u8().await {
                    let length = from_server.read_u32().await?;
                    let mut body = vec![0; length as usize - 4];
                    from_server.read_exact(&mut body).await?;
                    if kind == b'A' {
                        continue;
                    }
                    let head = [&[kind][..], &length.to_be_bytes()].concat();
                    to_client.write_all(&[&head[..], &body].concat()).await?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

fn through(settings: Settings, url: &str, proxy: std::net::SocketAddr) -> Settings {
    let mut url: url::Url = url.parse().unwrap();
    url.set_ip_host(proxy.ip()).unwrap();
    url.set_port(Some(proxy.port())).unwrap();
    // Unencrypted: the proxy must parse the messages.
    url.query_pairs_mut().append_pair("sslmode", "disable");
    settings.with("NAS_CRON_DATABASE_URL", url.as_str())
}

#[tokio::test]
async fn a_pooler_without_sessions_is_reported() {
    let (settings, _portal, url) = bare().await;
    let parsed: url::Url = url.parse().unwrap();
    let server = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap());
    let settings = through(settings, &url, deaf_proxy(server).await);
    let report =
        reports(&settings, "notifications", "wrong", "LISTEN does not receive NOTIFY", "pool sessions").await;
    assert_eq!(report.line("schema").0, "ok", "{report:#?}");
}
