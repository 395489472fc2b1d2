//! The oldest and the newest supported Postgres, and one that is too old. `make postgres-versions` installs them.

use std::path::PathBuf;

use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::database::server_options;
use nas_cron_testing::in_target;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

/// Starts a server of a major version.
async fn server(major: u32) -> PrivatePostgres {
    let bin_dir = in_target(&format!("postgres-versions-node/node_modules/postgres-{major}/native/bin"));
    // The server may run as another user, whose working folder differs.
    let bin_dir = bin_dir.canonicalize().unwrap_or_else(|_| panic!("run `make postgres-versions`"));
    start(bin_dir).await
}

async fn start(bin_dir: PathBuf) -> PrivatePostgres {
    let options = Options { bin_dir: Some(bin_dir), ..server_options() };
    let started = tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.expect("no panic");
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a command of the operator and returns its output.
async fn operate(settings: &Settings, arguments: &[&str]) -> String {
    let (status, out, output) = settings.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {out}{output}");
    out
}

/// Waits until the job is in this state.
async fn becomes(world: &World, job: &str, matches: impl Fn(&Value) -> bool) {
    eventually(job, async || world.listed(job).await.filter(|(_, entry)| matches(entry))).await;
}

/// Goes through the life of one-shots once.
async fn works_on(major: u32) {
    let postgres = server(major).await;
    let url = postgres.tcp_url("postgres").expect("TCP is enabled");
    let settings = Settings::new(&url, &Portal::start().await);
    assert!(operate(&settings, &["migrate"]).await.starts_with("Applied "));
    let world = World::on(url, |settings| {
        settings
            .without("NAS_CRON_MIGRATE")
            .with("NAS_CRON_FIRE_FLOOR", "0s")
            .with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "400ms")
            .with("NAS_CRON_RETRY_CAP", "400ms")
            .with("NAS_CRON_RETRY_GIVE_UP_AFTER", "2s")
            .with("NAS_CRON_SECOND_FIRE_DELAY", "1s")
    })
    .await;
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(version / 10_000, major.cast_signed());

    // A delivery, and a second fire of the same key.
    let (at, schedule) = world.arm("job", 500).await;
    assert_eq!(world.again("job", &at).await, schedule);
    world.delivered("job").await;
    assert_eq!(world.again("job", &at).await, schedule);
    world.agents.wait_for("job", 2).await;
    world.delivered("job").await;

    // A cancel, and a supersede.
    let (_, cancelled) = world.arm("changed", 3_600_000).await;
    world.service.cancel(&world.token, "changed").await;
    let (_, superseded) = world.arm("changed", 3_600_000).await;
    let (_, last) = world.arm("changed", 0).await;
    assert!(cancelled != superseded && superseded != last);
    world.delivered("changed").await;
    assert_eq!(world.agents.fires_of("changed").len(), 1);

    // A retry.
    world.agents.answer(|_, before| if before == 0 { Reply::status(503) } else { Reply::accepted() });
    world.arm("retried", 0).await;
    world.delivered("retried").await;
    let attempts = world.ended("retried", 2).await;
    assert_eq!([attempts[0].outcome.as_str(), attempts[1].outcome.as_str()], ["failed", "delivered"]);

    // A dead letter, and its redrive.
    world.agents.answer(|_, _| Reply::status(500));
    world.arm("dead", 0).await;
    becomes(&world, "dead", |entry| entry["state"] == "dead").await;
    world.agents.answer(|_, _| Reply::accepted());
    operate(&world.settings, &["jobs", "redrive", "inst-1"]).await;
    world.delivered("dead").await;

    // A hold, and its release.
    operate(&world.settings, &["hold", "--org", "org-1"]).await;
    world.arm("held", 0).await;
    becomes(&world, "held", |entry| entry["parked"] == "hold").await;
    assert_eq!(world.agents.fires_of("held").len(), 0);
    operate(&world.settings, &["release", "--org", "org-1"]).await;
    world.delivered("held").await;

    let jwks = format!("{}/api/agent-cron/jwks.json", world.service.url);
    let examined = world.settings.clone().with("NAS_CRON_AGENTS_JWKS_URL", jwks);
    let report: Value = serde_json::from_str(&operate(&examined, &["doctor", "--json"]).await).unwrap();
    assert_eq!(report["ok"], json!(true), "{report:#}");
    history_is_partitioned(&world).await;
    let log = world.service.log();
    let errors: Vec<_> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    assert!(matches!(errors[..], [only] if only.contains("fire given up")), "{errors:#?}");
}

/// Checks that attempts are in the partition of their week, and that old partitions are dropped.
async fn history_is_partitioned(world: &World) {
    let in_weeks: bool =
        sqlx::query_scalar("SELECT bool_and(tableoid::regclass::text ~ '^fires_\\d{8}$') FROM fires")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert!(in_weeks, "no attempt is in the default partition");
    world
        .sql("CREATE TABLE fires_20200106 PARTITION OF fires FOR VALUES FROM ('2020-01-06 UTC') TO ('2020-01-13 UTC')")
        .await;
    let dropped: i32 =
        sqlx::query_scalar("SELECT maintain_history('30 days')").fetch_one(&world.pool).await.unwrap();
    assert_eq!(dropped, 1);
}

#[tokio::test]
async fn nas_cron_works_on_postgres_14() {
    works_on(14).await;
}

#[tokio::test]
async fn nas_cron_works_on_postgres_18() {
    works_on(18).await;
}

#[tokio::test]
async fn postgres_13_is_refused_with_the_version_that_is_needed() {
    let postgres = server(13).await;
    let url = postgres.tcp_url("postgres").expect("TCP is enabled");
    let portal = Portal::start().await;
    let settings = Settings::new(&url, &portal);
    for arguments in [&["migrate"][..], &["serve"], &["agents", "list"], &["doctor"]] {
        let (status, out, output) = settings.run(arguments).await;
        assert_eq!(status.code(), Some(1), "{out}{output}");
        let both = format!("{out}{output}");
        assert!(
            both.contains("Postgres 13.23 is too old: nas-cron needs 14 or newer"),
            "{arguments:?}: {both}"
        );
    }
}
