//! Lists, explains, cancels and fires jobs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron::domain::job_filter::JobFilter;
use nas_cron::domain::quota::DefaultQuotas;
use nas_cron::operations::Operations;
use nas_cron_testing::database::database;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::fixture::{Admin, names};

#[tokio::test]
async fn list_selects_by_every_condition_and_by_all_given_ones() {
    let admin = Admin::new().await;
    let error = ("last_error", "'the agent answered 503: Busy'");
    let failed = ("last_outcome", "'failed'");
    admin.store("inst-1", "armed", "armed", &[]).await;
    admin.store("inst-1", "dead", "dead", &[error, failed]).await;
    admin
        .store("inst-1", "late", "delivered", &[("fire_at", "'2030-01-01'"), ("last_outcome", "'delivered'")])
        .await;
    admin
        .store("other", "parked", "armed", &[("parked", "'hold'"), ("next_attempt_at", "'2050-01-01'")])
        .await;
    admin
        .store(
            "other",
            "retry",
            "waiting",
            &[error, failed, ("attempts", "3"), ("next_attempt_at", "'2090-01-01'")],
        )
        .await;
    admin.store("other", "stuck", "stuck", &[]).await;
    // Nothing may release or fire them.
    admin.world.sql("INSERT INTO holds (scope, scope_id) VALUES ('org', 'org-2')").await;
    for (query, expected) in [
        ("limit=2", "inst-1/armed inst-1/dead inst-1/late other/parked other/retry other/stuck"),
        ("org_id=org-2", "other/parked other/retry other/stuck"),
        ("org_id=unknown", ""),
        ("instance_id=inst-1&limit=1", "inst-1/armed inst-1/dead inst-1/late"),
        ("instance_id=inst-1&org_id=org-2", ""),
        ("state=dead,stuck&limit=1", "inst-1/dead other/stuck"),
        ("state=dead,stuck&org_id=org-2", "other/stuck"),
        ("state=waiting", "other/retry"),
        ("parked=true", "other/parked"),
        ("parked=false&state=armed", "inst-1/armed other/parked"),
        ("outcome=failed", "inst-1/dead other/retry"),
        ("outcome=failed&state=dead", "inst-1/dead"),
        ("error=BUSY", "inst-1/dead other/retry"),
        ("error=5%25", ""),
        ("fire_at_before=2030-01-02T00:00:00Z", "inst-1/late"),
        ("fire_at_from=2030-01-02T00:00:00Z&state=dead", "inst-1/dead"),
        ("next_attempt_from=2040-01-01T00:00:00Z&limit=1", "other/parked other/retry inst-1/armed"),
        (
            "next_attempt_from=2051-01-01T00:00:00Z&next_attempt_before=2099-01-01T00:00:00%2B01:00",
            "other/retry",
        ),
        ("next_attempt_before=2099-01-01T00:00:00Z&instance_id=other", "other/parked other/retry"),
        ("next_attempt_before=2099-01-01T00:00:00Z&parked=true", "other/parked"),
        ("overdue=true", ""),
    ] {
        assert_eq!(admin.listed(query).await.join(" "), expected, "{query}");
    }
}

#[tokio::test]
async fn overdue_jobs_are_listed_by_the_time_at_which_they_were_due() {
    // Without a service that would fire them.
    let (db, url) = database().await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO instances (instance_id, org_id) VALUES ('a', 'o');
         INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                next_attempt_at, awaits, parked)
         SELECT 'a', job, gen_random_uuid(), 'k', 't', at, 'https://a.example', 'armed', at, awaits, parked
         FROM (VALUES ('third', now() - interval '1 min', NULL::scheduler_backend, NULL::park_reason),
                      ('first', now() - interval '1 day', NULL, NULL), ('second', now() - interval '1 h', 'nats', NULL),
                      ('held', now() - interval '1 h', NULL, 'hold'), ('later', now() + interval '1 h', NULL, NULL))
              AS j(job, at, awaits, parked)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let operations = Operations::new(db, DefaultQuotas { instance: 10, org: 100 });
    let filter = JobFilter { overdue: true, ..JobFilter::default() };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = operations.list_jobs(&filter, 1, after.as_deref()).await.unwrap();
        found.extend(page.jobs.into_iter().map(|shown| shown.job.job_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["first", "second", "third"]);
}

#[tokio::test]
async fn invalid_conditions_and_cursors_are_rejected_by_name() {
    let admin = Admin::new().await;
    admin.store("inst-1", "a", "armed", &[]).await;
    admin.store("inst-1", "b", "armed", &[]).await;
    let page = admin.ok("GET", "/api/admin/jobs?state=armed&limit=1", None).await;
    let cursor = page["next"].as_str().expect("more follow");
    for (query, problem) in [
        ("states=dead", "states: unknown parameter; use org_id, instance_id, job_id, parked,"),
        ("state=lost", "state: unknown value `lost`: one of armed, leased,"),
        ("state=parked", "state: a parked one-shot keeps its state"),
        ("limit=201", "limit: must be a number from 1 to 200"),
        ("limit=0", "limit: must be"),
        ("overdue=1", "overdue: must be true or false"),
        ("error=", "error: must have 1 to 200 bytes"),
        ("outcome=ok", "outcome: unknown value `ok`"),
        ("fire_at_from=2030-01-01", "fire_at_from: must be an ISO 8601 date-time with an offset"),
        ("org_id=%20", "org_id: must not be blank"),
        ("after=x", "after: not a cursor; use the `next` of the previous page"),
        (&format!("after={cursor}"), "after: the cursor belongs to another selection"),
        (&format!("state=dead&after={cursor}"), "after: the cursor belongs to another selection"),
    ] {
        let found = admin.refused(400, "GET", &format!("/api/admin/jobs?{query}"), None).await;
        assert!(found.starts_with(problem), "{query}: {found}");
    }
    // The job of the cursor may be gone.
    admin.ok("POST", "/api/admin/jobs/inst-1/a/cancel", None).await;
    let rest = admin.ok("GET", &format!("/api/admin/jobs?state=armed&after={cursor}"), None).await;
    assert_eq!(names(&rest), ["inst-1/b"]);
}

#[tokio::test]
async fn page_examines_a_limited_number_of_one_shots() {
    let admin = Admin::new().await;
    admin.store("inst-1", "0", "delivered", &[]).await;
    admin
        .world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state)
             SELECT instance_id, 'x' || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, state
             FROM one_shots, generate_series(1, 10100) AS n",
        )
        .await;
    admin.store("other", "z", "waiting", &[]).await;
    let first = admin.ok("GET", "/api/admin/jobs?state=waiting", None).await;
    assert_eq!(names(&first), Vec::<String>::new());
    let next = first["next"].as_str().expect("more follow");
    let second = admin.ok("GET", &format!("/api/admin/jobs?state=waiting&after={next}"), None).await;
    assert_eq!((names(&second), second["next"].as_str()), (vec!["other/z".to_owned()], None));
}

#[tokio::test]
async fn job_is_shown_with_its_explanation_and_attempts() {
    let admin = Admin::new().await;
    let world = &admin.world;
    world.arm("job", 0).await;
    world.delivered("job").await;
    let details = admin.ok("GET", "/api/admin/jobs/inst-1/job", None).await;
    assert_eq!(details["job"]["state"], "delivered");
    assert_eq!(details["why"]["code"], "delivered");
    assert_eq!(details["attempts"][0]["outcome"], "delivered");
    assert_eq!(admin.ok("GET", "/api/admin/jobs/inst-1/job?attempts=0", None).await["attempts"], json!([]));
    admin.store("inst-1", "dead", "dead", &[("last_error", "'boom'")]).await;
    let why = admin.ok("GET", "/api/admin/jobs/inst-1/dead/why", None).await;
    assert_eq!(
        why,
        json!({"code": "budget_spent", "text": "dead letter: boom",
               "fix": "`nas-cron jobs redrive inst-1 dead` fires it again"})
    );
    admin.ok("POST", "/api/admin/jobs/inst-1/dead/cancel", None).await;
    let cancelled = admin.ok("GET", "/api/admin/jobs/inst-1/dead", None).await;
    assert_eq!((&cancelled["job"], &cancelled["why"]["code"]), (&json!(null), &json!("cancelled")));
    for path in ["", "/why", "/attempts"] {
        let problem = admin.refused(404, "GET", &format!("/api/admin/jobs/inst-1/none{path}"), None).await;
        assert!(problem.starts_with("unknown job none of agent inst-1"), "{problem}");
    }
}

#[tokio::test]
async fn attempts_are_paged_newest_first() {
    let admin = Admin::new().await;
    admin
        .world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                                ended_at, outcome)
             SELECT gen_random_uuid(), 'inst-1', 'job', gen_random_uuid(), 'key', now(), n, now() - (n / 2) * interval '1 day',
                    now(), 'failed'
             FROM generate_series(1, 5) AS n",
        )
        .await;
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/admin/jobs/inst-1/job/attempts?limit=2{after}");
        let page = admin.ok("GET", &path, None).await;
        found.extend(page["attempts"].as_array().unwrap().iter().map(|one| one["attempt"].as_i64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let mut days: Vec<_> = found.iter().map(|number| number / 2).collect();
    assert!(days.is_sorted(), "{found:?}");
    found.sort_unstable();
    days.dedup();
    assert_eq!((found, days), (vec![1, 2, 3, 4, 5], vec![0, 1, 2]));
    // A place that no list has is an invalid cursor.
    let cursor = URL_SAFE_NO_PAD.decode(after.trim_start_matches("&after=")).unwrap();
    let mut place: Value = serde_json::from_slice(&cursor).unwrap();
    for time in [i64::MAX, i64::MIN, -1] {
        place[1][0] = time.into();
        let forged = URL_SAFE_NO_PAD.encode(place.to_string());
        let path = format!("/api/admin/jobs/inst-1/job/attempts?after={forged}");
        let problem = admin.refused(400, "GET", &path, None).await;
        assert!(problem.starts_with("after: not a cursor"), "{problem}");
    }
    let other = format!("/api/admin/jobs/inst-1/other/attempts?limit=2{after}");
    let problem = admin.refused(400, "GET", &other, None).await;
    assert!(problem.starts_with("after: the cursor belongs to another selection"), "{problem}");
}

#[tokio::test]
async fn cancelled_job_never_fires() {
    let admin = Admin::new().await;
    let (_, schedule) = admin.world.arm("job", 3_600_000).await;
    let cancel = "/api/admin/jobs/inst-1/job/cancel";
    let first = admin.ok("POST", cancel, None).await;
    assert_eq!(first, json!({"cancelled": true, "schedule_id": schedule}));
    let second = admin.ok("POST", cancel, None).await;
    assert_eq!(second, json!({"cancelled": false, "schedule_id": null}));
    assert_eq!(admin.world.listed("job").await, None);
}

#[tokio::test]
async fn job_is_fired_before_its_instant_once() {
    let admin = Admin::new().await;
    let world = &admin.world;
    let (at, schedule) = world.arm("job", 3_600_000).await;
    let path = "/api/admin/jobs/inst-1/job/fire";
    let wrong = json!({"schedule_id": "00000000-0000-0000-0000-000000000001"});
    let problem = admin.refused(409, "POST", path, Some(&wrong)).await;
    assert_eq!(problem, format!("schedule_id: the job's current one-shot is {schedule}"));
    let body = json!({"schedule_id": schedule});
    assert_eq!(admin.ok("POST", path, Some(&body)).await["schedule_id"], schedule.as_str());
    world.delivered("job").await;
    let fires = world.agents.fires_of("job");
    assert_eq!(fires.len(), 1);
    assert_eq!(fires[0].body["fire_at"], at.as_str(), "the agent gets the instant that it sent");
    let problem = admin.refused(409, "POST", path, Some(&body)).await;
    assert_eq!(problem, "it was delivered already; the agent arms the next one");
    // The agent's next one-shot is not the one that was asked for.
    world.service.provision(&world.token, "job", &fire_at(7_200_000), &world.callback()).await;
    admin.refused(409, "POST", path, Some(&body)).await;
    assert_eq!(world.agents.fires_of("job").len(), 1);
}

#[tokio::test]
async fn held_unknown_and_ended_jobs_are_not_fired_now() {
    let admin = Admin::new().await;
    let (_, schedule) = admin.world.arm("job", 3_600_000).await;
    let body = json!({"schedule_id": schedule});
    let path = "/api/admin/jobs/inst-1/job/fire";
    for hold in ["instances/inst-1", "jobs/inst-1/job", "service"] {
        admin.ok("PUT", &format!("/api/admin/holds/{hold}"), Some(&json!({}))).await;
        let problem = admin.refused(409, "POST", path, Some(&body)).await;
        assert_eq!(problem, "its fires are on hold; end the hold or enable the agent first", "{hold}");
        admin.ok("DELETE", &format!("/api/admin/holds/{hold}"), None).await;
    }
    admin.store("inst-1", "dead", "dead", &[("schedule_id", &format!("'{schedule}'"))]).await;
    let problem = admin.refused(409, "POST", "/api/admin/jobs/inst-1/dead/fire", Some(&body)).await;
    assert_eq!(problem, "it is dead; redrive it instead");
    admin.refused(404, "POST", "/api/admin/jobs/inst-1/none/fire", Some(&body)).await;
    for (body, problem) in [
        (json!({}), "schedule_id: is missing"),
        (json!({"schedule_id": "x"}), "schedule_id: must be one that a provision returned"),
    ] {
        assert_eq!(admin.refused(400, "POST", path, Some(&body)).await, problem);
    }
    assert!(admin.world.agents.fires_of("job").is_empty());
}

#[tokio::test]
async fn failing_job_is_retried_at_once_by_fire_now() {
    let admin = Admin::with(|settings| settings.with("NAS_CRON_RETRY_DEFINITE_BASE", "1h")).await;
    let world = &admin.world;
    world.agents.answer(|_, before| match before {
        0 => nas_cron_testing::agent::Reply::status(500),
        _ => nas_cron_testing::agent::Reply::accepted(),
    });
    let (_, schedule) = world.arm("job", 0).await;
    eventually("a retry is due in an hour", async || {
        let (_, entry) = world.listed("job").await?;
        (entry["state"] == "waiting").then_some(())
    })
    .await;
    admin.ok("POST", "/api/admin/jobs/inst-1/job/fire", Some(&json!({"schedule_id": schedule}))).await;
    world.delivered("job").await;
}

#[tokio::test]
async fn job_of_another_org_is_as_unknown_as_one_that_does_not_exist() {
    let admin = Admin::new().await;
    admin.store("other", "job", "dead", &[("last_outcome", "'failed'")]).await;
    admin.store("inst-1", "own", "dead", &[]).await;
    admin.world.sql("INSERT INTO cancelled_jobs (instance_id, job_id) VALUES ('other', 'cancelled')").await;
    admin
        .world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                                ended_at, outcome)
             VALUES (gen_random_uuid(), 'other', 'past', gen_random_uuid(), 'key', now(), 1, now(), now(), 'failed')",
        )
        .await;
    let token = admin.token_of("org-1", "operator").await;
    let fire = json!({"schedule_id": "00000000-0000-0000-0000-000000000001"});
    for (method, path, body) in [
        ("GET", "", None),
        ("GET", "/why", None),
        ("GET", "/attempts", None),
        ("POST", "/cancel", None),
        ("POST", "/fire", Some(&fire)),
        ("POST", "/redrive", None),
    ] {
        let answer = async |job: &str| {
            let url = format!("/api/admin/jobs/{job}{path}");
            let (status, body) = admin.call_as(&token, method, &url, body).await;
            let (instance, name) = job.split_once('/').unwrap();
            let text = body.to_string().replace(instance, "I").replace(&format!("job {name} "), "job J ");
            (status, text)
        };
        let unknown = answer("nobody/none").await;
        for job in ["other/job", "other/cancelled", "other/past"] {
            assert_eq!(answer(job).await, unknown, "{method} {path} {job}");
        }
    }
    for (query, expected) in
        [("", vec!["inst-1/own"]), ("?org_id=org-2", vec![]), ("?instance_id=other", vec![])]
    {
        let (_, page) = admin.call_as(&token, "GET", &format!("/api/admin/jobs{query}"), None).await;
        assert_eq!(
            (names(&page), &page["next"]),
            (expected.iter().map(ToString::to_string).collect(), &json!(null))
        );
    }
    assert_eq!(admin.listed("state=dead").await, ["inst-1/own", "other/job"], "nothing has changed");
}
