//! From facts to events: what happens to many at once is one event for each type and scope.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use nas_cron::db::{Db, events, expiry, outages};
use nas_cron_protocol::{InstanceId, JobId};
use nas_cron_testing::database::database;
use nas_cron_testing::world::World;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::receiver::{Call, Receiver};
use super::{add, at_once, note};

const NONE: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_hours(1);

/// A database with a webhook of the service and one of org `a`, and 5,000 instances, half of them of this org.
struct Facts {
    db: Db,
    pool: PgPool,
}

impl Facts {
    async fn new() -> Self {
        let (db, url) = database().await;
        let facts = Self { db, pool: PgPool::connect(&url).await.unwrap() };
        facts
            .sql(
                "INSERT INTO webhooks (url, secret_nonce, secret) VALUES ('https://all.example', '', '');
                 INSERT INTO webhooks (url, secret_nonce, secret, org_id) VALUES ('https://a.example', '', '', 'a');
                 INSERT INTO instances (instance_id, org_id)
                 SELECT 'inst-' || n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 5000) n;",
            )
            .await;
        facts
    }

    async fn sql(&self, statements: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&self.pool)
            .await
            .expect(statements);
    }

    async fn one<T>(&self, query: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&self.pool).await.expect(query)
    }

    /// Returns the events of a sweep as type, org and count.
    async fn sweep(&self, wait: Duration, pause: Duration) -> Vec<(String, Option<String>, i64)> {
        let made = events::sweep(&self.db, wait, pause).await.unwrap();
        made.into_iter().map(|one| (one.kind, one.org_id, one.count)).collect()
    }
}

fn both(kind: &str, all: i64, of_org: i64) -> Vec<(String, Option<String>, i64)> {
    let one = |org: Option<&str>, count| (kind.to_owned(), org.map(str::to_owned), count);
    vec![one(None, all), one(Some("a"), of_org)]
}

/// Sorts what a sweep returns: facts of two scopes may begin in any order.
fn sorted(mut events: Vec<(String, Option<String>, i64)>) -> Vec<(String, Option<String>, i64)> {
    events.sort();
    events
}

#[tokio::test]
async fn five_thousand_dead_letters_are_one_event_with_a_count_and_examples() {
    let facts = Facts::new().await;
    facts
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, not_after, callback_url,
                                    state, next_attempt_at)
             SELECT instance_id, 'job', gen_random_uuid(), 'k', '2027-01-01T00:00:00Z', '2027-01-01T00:00:00Z',
                    now() - interval '1 s', 'https://agent.example', 'armed', now() - interval '1 min'
             FROM instances",
        )
        .await;
    assert_eq!(expiry::expire(&facts.db, 10_000).await.unwrap().len(), 5_000);
    assert_eq!(sorted(facts.sweep(NONE, NONE).await), both("dead_letter.created", 5_000, 2_500));
    let data: Value = facts.one("SELECT data FROM events WHERE org_id = 'a'").await;
    assert_eq!(
        (&data["count"], &data["instances"], &data["orgs"]),
        (&json!(2_500), &json!(2_500), &json!(1))
    );
    let items = data["items"].as_array().unwrap();
    assert_eq!(items.len(), 10);
    assert!(items.iter().all(|item| item["org_id"] == "a" && item["reason"] == "expired"), "{data}");
    let queued: i64 = facts.one("SELECT count(*) FROM webhook_deliveries").await;
    assert_eq!(queued, 2);
    assert!(facts.sweep(NONE, NONE).await.is_empty());
}

#[tokio::test]
async fn outage_of_a_fleet_is_one_event_and_its_end_another() {
    let facts = Facts::new().await;
    let ids: Vec<_> = (1..=5_000).map(|n| InstanceId::new(format!("inst-{n}")).unwrap()).collect();
    let job = JobId::new("job").unwrap();
    for some in ids.chunks(500) {
        let found: Vec<_> = some.iter().map(|id| (id, &job, "https://agent.example")).collect();
        assert_eq!(outages::open_outages(&facts.db, &found).await.unwrap(), 500);
    }
    // Found once more: nothing new has happened.
    outages::open_outages(&facts.db, &[(&ids[0], &job, "https://agent.example")]).await.unwrap();
    assert_eq!(sorted(facts.sweep(NONE, NONE).await), both("instance.became_unreachable", 5_000, 2_500));
    outages::close_outages(&facts.db, &ids).await.unwrap();
    outages::close_outages(&facts.db, &ids).await.unwrap();
    assert_eq!(sorted(facts.sweep(NONE, NONE).await), both("instance.became_reachable", 5_000, 2_500));
}

#[tokio::test]
async fn facts_wait_for_the_group_and_for_the_interval_of_their_topic() {
    let facts = Facts::new().await;
    let fact =
        |kind: &str| format!("INSERT INTO event_facts (type, instance_id) VALUES ('{kind}', 'inst-1')");
    facts.sql(&fact("instance.became_unreachable")).await;
    assert!(facts.sweep(HOUR, NONE).await.is_empty(), "the group is still open");
    let ripe = events::look(&facts.db, HOUR, NONE).await.unwrap().ripe;
    assert!(!ripe);
    assert_eq!(facts.sweep(NONE, HOUR).await, [("instance.became_unreachable".to_owned(), None, 1)]);
    // The end of the outage is of the same topic, a dead letter of another.
    facts.sql(&fact("instance.became_reachable")).await;
    facts.sql(&fact("dead_letter.created")).await;
    assert_eq!(facts.sweep(NONE, HOUR).await, [("dead_letter.created".to_owned(), None, 1)]);
    facts.sql("UPDATE events SET created_at = created_at - interval '2 h'").await;
    assert_eq!(facts.sweep(NONE, HOUR).await, [("instance.became_reachable".to_owned(), None, 1)]);
}

#[tokio::test]
async fn events_of_a_topic_are_in_the_order_of_their_first_facts() {
    let facts = Facts::new().await;
    for kind in ["instance.became_unreachable", "instance.became_reachable", "instance.became_unreachable"] {
        facts.sql(&format!("INSERT INTO event_facts (type, instance_id) VALUES ('{kind}', 'inst-1')")).await;
    }
    facts.sweep(NONE, NONE).await;
    let kinds: Vec<String> = facts.one("SELECT array_agg(type ORDER BY sequence) FROM events").await;
    assert_eq!(kinds, ["instance.became_unreachable", "instance.became_reachable"]);
}

#[tokio::test]
async fn concurrent_sweeps_report_every_fact_once() {
    let facts = Facts::new().await;
    let writing = async {
        for _ in 0..20 {
            facts
                .sql("INSERT INTO event_facts (type, instance_id) SELECT 'dead_letter.created', instance_id FROM instances LIMIT 50")
                .await;
        }
    };
    let sweeping = join_all((0..4).map(async |_| {
        let mut made = Vec::new();
        for _ in 0..30 {
            made.extend(events::sweep(&facts.db, NONE, NONE).await.unwrap());
        }
        made
    }));
    let ((), made) = tokio::join!(writing, sweeping);
    let mut made: Vec<_> = made.into_iter().flatten().collect();
    made.extend(events::sweep(&facts.db, NONE, NONE).await.unwrap());
    let ids: HashSet<_> = made.iter().map(|one| one.event_id).collect();
    assert_eq!(ids.len(), made.len());
    let of_service = made.iter().filter(|one| one.org_id.is_none());
    assert_eq!(of_service.map(|one| one.count).sum::<i64>(), 1_000);
}

#[tokio::test]
async fn nothing_is_stored_without_webhooks() {
    let world = World::with(at_once).await;
    note(&world, Some("inst-1"), "nobody listens").await;
    let facts: i64 =
        sqlx::query_scalar("SELECT count(*) FROM event_facts").fetch_one(&world.pool).await.unwrap();
    assert_eq!(facts, 0);
}

#[tokio::test]
async fn outage_of_a_fleet_of_many_orgs_with_webhooks_is_grouped_within_the_deadline() {
    let facts = Facts::new().await;
    facts
        .sql(
            "INSERT INTO webhooks (url, secret_nonce, secret, org_id)
             SELECT 'https://hook.example', '', '', 'org-' || n FROM generate_series(1, 3000) n;
             INSERT INTO instances (instance_id, org_id) SELECT 'many-' || n, 'org-' || n % 3000 + 1 FROM generate_series(1, 60000) n;
             INSERT INTO event_facts (type, instance_id) SELECT 'instance.became_unreachable', 'many-' || n FROM generate_series(1, 60000) n",
        )
        .await;
    let begun = std::time::Instant::now();
    let events = facts.sweep(NONE, NONE).await;
    // The deadline of the statement is 30 s. Comparing each fact with each org takes longer.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(events.len(), 3_001);
    assert!(events.contains(&("instance.became_unreachable".to_owned(), Some("org-7".to_owned()), 20)));
    assert_eq!(facts.one::<i64>("SELECT count(*) FROM webhook_deliveries").await, 3_001);
}

#[tokio::test]
async fn webhook_gets_only_events_of_its_org_and_types() {
    let world = World::with(at_once).await;
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('other', 'org-2')").await;
    let [all, org, stuck] = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    add(&world, &all.url, json!({})).await;
    add(&world, &org.url, json!({ "org_id": "org-1" })).await;
    add(&world, &stuck.url, json!({ "types": ["one_shot.stuck"] })).await;
    for (n, instance) in ["inst-1", "other", "inst-1"].into_iter().enumerate() {
        note(&world, Some(instance), &n.to_string()).await;
        all.wait_for(n + 1).await;
    }
    world.sql("INSERT INTO event_facts (type) VALUES ('one_shot.stuck')").await;
    stuck.wait_for_type("one_shot.stuck").await;
    all.wait_for(4).await;
    let calls = org.wait_for(2).await;
    assert_eq!(calls.iter().map(Call::mark).collect::<Vec<_>>(), ["0", "2"]);
    assert!(calls.iter().all(|call| call.event["org_id"] == "org-1" && call.event["data"]["count"] == 1));
    assert_eq!((stuck.calls().len(), all.calls().len(), org.calls().len()), (1, 4, 2));
    assert!(all.calls().iter().all(|call| call.event["org_id"].is_null()));
}
