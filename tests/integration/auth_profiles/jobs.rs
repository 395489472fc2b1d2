//! A job's own profile: requests that keep or change it, without re-arming the one-shot.

use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::fixture::{call, done, listed, patch, provision};

const FAR: i64 = 3_600_000;

/// Returns the row of the one-shot, without `updated_at`.
async fn row(world: &World, job: &str) -> Value {
    let row: Value = sqlx::query_scalar(
        "SELECT to_jsonb(o) - 'updated_at' - 'asked_again_at' FROM one_shots o WHERE job_id = $1",
    )
    .bind(job)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    row
}

#[tokio::test]
async fn an_absent_auth_keeps_the_profile_null_clears_it_and_neither_supersedes() {
    let world = World::new().await;
    let at = json!({"fire_at": fire_at(FAR), "dedup_key": "key"});
    let with = |auth: Value| {
        let mut body = at.clone();
        body["auth"] = auth;
        body
    };
    let first = provision(&world, "job", 0, &at).await;
    assert_eq!(first.as_object().unwrap().len(), 1, "{first}");
    let armed = row(&world, "job").await;
    let plain = listed(&world, "job").await;
    assert!(plain.get("auth").is_none() && plain.get("effective_auth").is_none(), "{plain}");

    for (body, own) in [
        (with(json!("claude:one")), Some("claude:one")),
        (at.clone(), Some("claude:one")),
        (with(json!("claude:two")), Some("claude:two")),
        (with(json!("claude:two")), Some("claude:two")),
        (with(json!(null)), None),
        (with(json!(null)), None),
        (at.clone(), None),
        (with(json!("claude:three")), Some("claude:three")),
    ] {
        let again = provision(&world, "job", 0, &body).await;
        assert_eq!(again["schedule_id"], first["schedule_id"], "the same key, whatever its auth: {body}");
        let listed = listed(&world, "job").await;
        assert_eq!(listed["auth"], json!(own), "{body}");
        assert_eq!(listed["effective_auth"]["auth"], json!(own), "{body}");
        assert_eq!(row(&world, "job").await, armed, "{body}");
    }

    // A new key supersedes, and the profile stays, because it belongs to the job.
    let other = provision(&world, "job", FAR, &json!({})).await;
    assert_ne!(other["schedule_id"], first["schedule_id"]);
    assert_eq!(listed(&world, "job").await["auth"], "claude:three");
    // Agents pause a job by a cancel, and resume it by a provision.
    world.service.cancel(&world.token, "job").await;
    provision(&world, "job", FAR, &json!({})).await;
    assert_eq!(listed(&world, "job").await["auth"], "claude:three");
    world.service.cancel(&world.token, "job").await;
    provision(&world, "job", FAR, &json!({"auth": null})).await;
    assert_eq!(listed(&world, "job").await.get("auth"), None);
}

#[tokio::test]
async fn patch_sets_and_clears_without_re_arming() {
    let world = World::new().await;
    let job = "a job/ü?";
    let path = "a%20job%2F%C3%BC%3F";
    provision(&world, job, FAR, &json!({})).await;
    super::fixture::default(&world, super::fixture::ORG, json!("claude:org")).await;
    let armed = row(&world, job).await;
    assert_eq!(
        patch(&world, path, json!("claude:work")).await,
        json!({
            "job_id": job, "auth": "claude:work", "effective_auth": {"auth": "claude:work", "source": "job"},
            "warnings": [super::warnings::unknown("claude:work")],
        })
    );
    assert_eq!(row(&world, job).await, armed);
    for _ in 0..2 {
        assert_eq!(
            patch(&world, path, json!(null)).await,
            json!({"job_id": job, "auth": null, "effective_auth": {"auth": "claude:org", "source": "org"}})
        );
    }
    super::fixture::default(&world, super::fixture::ORG, json!(null)).await;
    let bare = json!({"job_id": job, "auth": null, "effective_auth": null});
    assert_eq!(patch(&world, path, json!(null)).await, bare);
    assert_eq!(row(&world, job).await, armed);
    let page = world.service.metrics().await;
    assert!(
        page.contains("nas_cron_agent_api_requests_total{endpoint=\"update\",status_class=\"2xx\"} 4\n"),
        "{page}"
    );
}

#[tokio::test]
async fn a_cleared_profile_stays_cleared_when_the_connection_breaks_afterwards() {
    let world = World::new().await;
    provision(&world, "paused", FAR, &json!({"auth": "claude:work"})).await;
    let cancel = json!({"job_id": "paused"});
    done(&world, "POST", "/api/agent-cron/cancel", &world.token, Some(&cancel)).await;
    // The first statement removes the profile. The second one, which reads the defaults, waits for a lock and loses its
    // connection.
    let mut others = world.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE auth_defaults").execute(&mut *others).await.unwrap();
    let patching = patch(&world, "paused", json!(null));
    let breaking = async {
        eventually("the second statement waits", async || {
            let ended: i64 = sqlx::query_scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'
                   AND NOT EXISTS (SELECT FROM job_auth)",
            )
            .fetch_one(&world.pool)
            .await
            .unwrap();
            (ended > 0).then_some(())
        })
        .await;
        others.rollback().await.unwrap();
    };
    let (changed, ()) = tokio::join!(patching, breaking);
    assert_eq!(changed, json!({"job_id": "paused", "auth": null, "effective_auth": null}));
    let body = json!({"auth": null});
    let again = call(&world, "PATCH", "/api/agent-cron/jobs/paused", &world.token, Some(&body)).await;
    assert_eq!(again.0, 404, "the job no longer exists");
}

#[tokio::test]
async fn patch_rejects_unknown_jobs_and_invalid_profiles() {
    let world = World::new().await;
    provision(&world, "job", FAR, &json!({"auth": "claude:kept"})).await;
    let try_patch = async |job: &str, body: Value| {
        let path = format!("/api/agent-cron/jobs/{job}");
        let (status, answer) = call(&world, "PATCH", &path, &world.token, Some(&body)).await;
        let description = answer["error_description"].as_str().unwrap_or_default().to_owned();
        (status, answer["error"].as_str().unwrap_or_default().to_owned(), description)
    };
    for (body, begins) in [
        (json!({}), "auth: is missing"),
        (json!({"auth": 7}), "auth: must be false, a profile or a list of profiles, not a number"),
        (
            json!({"auth": {"provider": "claude"}}),
            "auth: must be false, a profile or a list of profiles, not an object",
        ),
        (json!({"auth": "claude"}), "auth: must be provider:name"),
        (json!({"auth": ""}), "auth: must be provider:name"),
        (json!({"auth": "Claude:work"}), "auth: must be provider:name"),
        (json!([]), "the body must be a JSON object"),
    ] {
        let (status, error, description) = try_patch("job", body.clone()).await;
        assert_eq!((status, error.as_str()), (400, "invalid_request"), "{body}");
        assert!(description.starts_with(begins), "{body}: {description}");
    }
    let (status, error, _) = try_patch("nobody", json!({"auth": "claude:work"})).await;
    assert_eq!((status, error.as_str()), (404, "not_found"));
    let (status, error, description) = try_patch("%ff", json!({"auth": "claude:work"})).await;
    assert_eq!((status, error.as_str()), (400, "invalid_request"), "{description}");
    let (status, error, _) = try_patch(&"j".repeat(256), json!({"auth": "claude:work"})).await;
    assert_eq!((status, error.as_str()), (400, "invalid_request"));
    assert_eq!(listed(&world, "job").await["auth"], "claude:kept");
    let (status, _) =
        call(&world, "PATCH", "/api/agent-cron/jobs/job", "no-token", Some(&json!({"auth": null}))).await;
    assert_eq!(status, 401);
    assert_eq!(listed(&world, "job").await["auth"], "claude:kept");
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_auth").fetch_one(&world.pool).await.unwrap();
    assert_eq!(stored, 1);
}
