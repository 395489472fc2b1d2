//! `nas-cron status`, on the database and on a server.

use nas_cron_testing::service::ADMIN_TOKEN;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use crate::admin_operations::fixture::Admin;

#[tokio::test]
async fn status_shows_the_same_from_the_database_and_from_a_server() {
    let admin = Admin::new().await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    eventually("the replica is registered", async || {
        let count =
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM replicas").fetch_one(&admin.world.pool);
        (count.await.unwrap() == 1).then_some(())
    })
    .await;
    let settings = admin.world.settings.clone().with("NAS_CRON_ADMIN_TOKEN", ADMIN_TOKEN);
    let remote = settings.clone().without("NAS_CRON_DATABASE_URL");
    let server = ["status", "--server", &admin.world.service.url];
    let (status, out, error) = remote.run(&server).await;
    assert!(status.success(), "{error}");
    for line in [
        "overdue             0",
        "dead letters        1",
        "fires per minute     0",
        "due within an hour   0 one-shots, at most 0 per minute",
        "REPLICA  HOST",
        "warning  dead letters  1 dead letter, 0 stuck: these jobs do not run",
        "fix: `nas-cron jobs list --state dead,stuck` shows the errors; `nas-cron jobs redrive --all` fires all dead letters again",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let json_of = |out: &str| {
        let mut value: Value = serde_json::from_str(out).expect(out);
        // They change all the time.
        for path in [
            "/at",
            "/service/fires",
            "/service/load",
            "/service/replicas/0/seen_at",
            "/service/replicas/0/clock_offset_ms",
        ] {
            *value.pointer_mut(path).expect(path) = Value::Null;
        }
        value
    };
    let (_, from_server, error) = remote.run(&[&server[..], &["--json"]].concat()).await;
    let (_, from_database, database_error) = settings.run(&["status", "--json"]).await;
    assert_eq!(json_of(&from_server), json_of(&from_database), "{error}{database_error}");
    assert_eq!(json_of(&from_server)["counts"]["dead"], json!({"count": 1}));
}
