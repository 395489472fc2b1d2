//! The 429 of a quota with its headers (docs/contract.md#quotas).

use nas_cron_testing::service::client;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{arms_eventually, world};

/// Provisions a job. Returns status, headers and body.
async fn ask(world: &World, job: &str, fire_at: &str) -> (u16, HeaderMap, Value) {
    let key = format!("{job}:{fire_at}");
    let body = json!({ "job_id": job, "fire_at": fire_at, "agent_callback_url": world.callback(), "dedup_key": key });
    let url = format!("{}/api/agent-cron/provision", world.service.url);
    let answer = client().post(url).bearer_auth(&world.token).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone(), answer.json().await.unwrap())
}

#[tokio::test]
async fn new_job_at_a_quota_is_429_with_the_numbers_and_known_jobs_are_200() {
    let [json_type, no_store] = ["application/json", "no-store"].map(HeaderValue::from_static);
    for (scope, word, instance, org) in [("instance", "agent", 2, 100), ("org", "org", 100, 2)] {
        let world = world(instance, org).await;
        let (first_at, _) = world.arm("delivered", 0).await;
        world.agents.wait_for("delivered", 1).await;
        world.delivered("delivered").await;
        for job in ["armed", "another"] {
            arms_eventually(&world, &world.token, job).await;
        }
        let at = fire_at(3_600_000);
        let (status, headers, refused) = ask(&world, "new", &at).await;
        assert_eq!(
            (status, &headers["content-type"], &headers["cache-control"]),
            (429, &json_type, &no_store)
        );
        assert!(headers.contains_key("x-request-id"), "{headers:?}");
        assert!(!headers.contains_key("retry-after"), "only the end of a job or a higher quota helps");
        let description = format!(
            "2 jobs of this {word} are armed, and its quota is 2: cancel a job that is not needed, or ask the operator for a \
             higher quota"
        );
        assert_eq!(
            refused,
            json!({
                "error": "quota_exceeded", "error_description": description, "scope": scope, "quota": 2, "armed": 2,
            })
        );
        // A new key of an armed job and of a delivered one, and the key that was delivered.
        for (job, at) in [("armed", &at), ("delivered", &first_at), ("delivered", &at)] {
            let (status, _, answer) = ask(&world, job, at).await;
            assert_eq!(status, 200, "{scope}, {job} at {at}: {answer}");
            assert!(answer["schedule_id"].is_string(), "{answer}");
        }
        assert_eq!(ask(&world, "new", &at).await.0, 429);
    }
}
