//! Events about dormant jobs.

use std::time::Duration;

use nas_cron::db::events;
use serde_json::Value;

use super::fixture::Chains;

/// Returns the type, the instances and the jobs of the events that are due.
async fn events(chains: &Chains) -> Vec<(String, i64)> {
    let made = events::sweep(&chains.db, Duration::ZERO, Duration::ZERO).await.unwrap();
    made.into_iter().map(|one| (one.kind, one.count)).collect()
}

#[tokio::test]
async fn dormant_job_and_its_return_are_one_event_each() {
    let chains = Chains::new().await;
    chains
        .sql("INSERT INTO webhooks (url, secret_nonce, secret) VALUES ('https://ops.example', '', '')")
        .await;
    chains.hourly("a", 3).await;
    chains.hourly("b", 3).await;
    chains.fired("stopped", &[7, 6, 5, 4, 3].map(|hours| hours * 3_600), "dropped").await;
    chains.round().await;
    assert_eq!(events(&chains).await, [("job.became_dormant".to_owned(), 2)]);
    let data: Value = chains.one("SELECT data FROM events").await;
    let item = &data["items"][0];
    assert_eq!(
        (&item["instance_id"], &item["job_id"], &item["recurrence"]),
        (&"inst-1".into(), &"a".into(), &"interval".into())
    );
    assert!(item["expected_at"].is_string() && item["delivered_at"].is_string(), "{item}");

    chains.arms_again("a").await;
    chains.arms_again("stopped").await;
    chains.next_round().await;
    // The one that was stopped on purpose was never reported.
    assert_eq!(events(&chains).await, [("job.became_active".to_owned(), 1)]);
    chains.next_round().await;
    assert!(events(&chains).await.is_empty());
}
