//! The forms of `auth`: `false`, one profile, and a list in order of preference.

use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{
    INSTANCE, ORG, REGISTRY, SERVICE, admin, call, carried_auth, default, done, listed, patch, provision,
};
use super::warnings::unknown;

const FAR: i64 = 3_600_000;

/// Fires a job without naming `auth`, and returns the `auth` that the fire carries.
async fn fired(world: &World, job: &str) -> Option<Value> {
    let before = world.agents.fires_of(job).len();
    provision(world, job, 0, &json!({})).await;
    carried_auth(&world.agents.wait_for(job, before + 1).await)
}

#[tokio::test]
async fn fires_carry_each_form_as_it_was_set_for_the_job() {
    let world = World::new().await;
    let forms = [
        json!(false),
        json!("claude:work"),
        json!(["claude:work"]),
        json!(["claude:work", "codex:default", "claude:budget"]),
    ];
    for (number, form) in forms.iter().enumerate() {
        let job = format!("job-{number}");
        provision(&world, &job, FAR, &json!({"auth": form})).await;
        let shown = listed(&world, &job).await;
        assert_eq!(shown["auth"], *form);
        assert_eq!(shown["effective_auth"], json!({"auth": form, "source": "job"}));
        assert_eq!(fired(&world, &job).await.as_ref(), Some(form), "{form}");
        // By PATCH, from every other form.
        for other in &forms {
            assert_eq!(patch(&world, &job, other.clone()).await["auth"], *other);
            assert_eq!(patch(&world, &job, form.clone()).await["effective_auth"]["auth"], *form);
        }
    }
    assert_eq!(patch(&world, "job-0", json!(null)).await["effective_auth"], json!(null));
}

#[tokio::test]
async fn a_default_of_any_scope_may_be_false_or_a_list() {
    let world = World::new().await;
    let list = json!(["claude:work", "codex:default"]);
    for (place, scope) in [(SERVICE, "service"), (ORG, "org"), (INSTANCE, "instance")] {
        for form in [json!(false), list.clone(), json!("claude:one")] {
            default(&world, place, form.clone()).await;
            assert_eq!(admin(&world, "GET", place, None).await["defaults"][scope], form, "{place}");
            assert_eq!(fired(&world, "plain").await, Some(form), "{place}");
        }
    }
    // `false` of a nearer place hides the defaults behind it, and so does that of the job.
    default(&world, INSTANCE, json!(false)).await;
    assert_eq!(fired(&world, "plain").await, Some(json!(false)));
    default(&world, INSTANCE, json!(null)).await;
    assert_eq!(fired(&world, "plain").await, Some(json!("claude:one")), "the org's");
    provision(&world, "own", FAR, &json!({"auth": false})).await;
    assert_eq!(fired(&world, "own").await, Some(json!(false)));
    // The agent sets its own default, too.
    let wanted = json!({"profiles": [], "default": list});
    let seen = done(&world, "PUT", REGISTRY, &world.token, Some(&wanted)).await;
    assert_eq!(seen["defaults"]["instance"], list);
    assert_eq!(
        seen["warnings"],
        json!([unknown("claude:one"), unknown("claude:work"), unknown("codex:default")])
    );
}

#[tokio::test]
async fn a_change_of_form_never_supersedes_and_is_kept_when_absent() {
    let world = World::new().await;
    let at = json!({"fire_at": fire_at(FAR), "dedup_key": "key"});
    let first = provision(&world, "job", 0, &at).await;
    for form in
        [json!(false), json!(["claude:a", "claude:b"]), json!("claude:a"), json!(["claude:a"]), json!(false)]
    {
        let mut with = at.clone();
        with["auth"] = form.clone();
        assert_eq!(provision(&world, "job", 0, &with).await["schedule_id"], first["schedule_id"], "{form}");
        assert_eq!(provision(&world, "job", 0, &at).await["schedule_id"], first["schedule_id"]);
        assert_eq!(listed(&world, "job").await["auth"], form, "an absent auth keeps it");
    }
    world.service.cancel(&world.token, "job").await;
    provision(&world, "job", FAR, &json!({})).await;
    assert_eq!(listed(&world, "job").await["auth"], json!(false), "it outlives a pause");
    provision(&world, "job", FAR, &json!({"auth": null})).await;
    assert_eq!(listed(&world, "job").await.get("auth"), None);
}

#[tokio::test]
async fn each_unknown_profile_of_a_list_causes_a_warning() {
    let world = World::new().await;
    let wanted = json!({"profiles": ["claude:known"]});
    done(&world, "PUT", REGISTRY, &world.token, Some(&wanted)).await;
    let list = json!(["claude:lost", "claude:known", "codex:lost"]);
    let answer = provision(&world, "job", FAR, &json!({"auth": list})).await;
    let warned = json!([unknown("claude:lost"), unknown("codex:lost")]);
    assert_eq!(answer["warnings"], warned, "in the order of the list");
    assert_eq!(listed(&world, "job").await["warnings"], warned);
    let answer = provision(&world, "job", FAR, &json!({"auth": false})).await;
    assert_eq!(answer.get("warnings"), None, "{answer}");
}

#[tokio::test]
async fn an_invalid_auth_is_400_by_field_and_nothing_is_stored() {
    let world = World::new().await;
    provision(&world, "job", FAR, &json!({"auth": ["claude:kept"]})).await;
    default(&world, ORG, json!(false)).await;
    let nine: Vec<_> = (0..9).map(|number| format!("claude:{number}")).collect();
    for (value, place, begins) in [
        (json!(true), "", "must be false, a profile or a list of profiles, not true"),
        (json!(0), "", "must be false, a profile or a list of profiles, not a number"),
        (json!({"claude": "work"}), "", "must be false, a profile or a list of profiles, not an object"),
        (json!([]), "", "must not be an empty list"),
        (json!(nine), "", "must have at most 8 profiles"),
        (json!(["claude:a", "claude:b", 7]), "[2]", "must be a string, not a number"),
        (json!(["claude:a", false]), "[1]", "must be a string, not a boolean"),
        (json!([null]), "[0]", "must be a string, not null"),
        (json!([["claude:a"]]), "[0]", "must be a string, not an array"),
        (json!(["claude:a", "none"]), "[1]", "must be provider:name"),
        (json!(["claude:a", "claude:b", "claude:a"]), "[2]", "is in the list twice"),
        (json!(["claude:a", "sk-ant-api03-q7Vd"]), "[1]", "looks like a secret"),
    ] {
        let at = fire_at(FAR);
        let new = json!({
            "job_id": "new", "fire_at": at, "agent_callback_url": world.callback(), "dedup_key": "new", "auth": value,
        });
        let as_default = json!({"profiles": ["claude:new"], "default": value});
        let as_own = json!({"auth": value});
        let token = &*world.token;
        let answers = [
            ("auth", call(&world, "POST", "/api/agent-cron/provision", token, Some(&new)).await),
            ("auth", call(&world, "PATCH", "/api/agent-cron/jobs/job", token, Some(&as_own)).await),
            ("default", call(&world, "PUT", REGISTRY, token, Some(&as_default)).await),
            ("default", world.service.admin("PUT", SERVICE, Some(&as_default)).await),
            ("default", world.service.admin("PUT", ORG, Some(&as_default)).await),
            ("default", world.service.admin("PUT", INSTANCE, Some(&as_default)).await),
        ];
        for (field, (status, answer)) in answers {
            let expected = format!("{field}{place}: {begins}");
            let said = answer.get("error_description").or_else(|| answer.get("detail")).cloned();
            let said = said.as_ref().and_then(Value::as_str).unwrap_or_default();
            assert_eq!(status, 400, "{value}: {answer}");
            assert!(said.starts_with(&expected), "{expected}: {answer}");
            assert!(!said.contains("q7Vd"), "{answer}");
        }
    }
    assert_eq!(world.listed("new").await, None);
    assert_eq!(listed(&world, "job").await["auth"], json!(["claude:kept"]));
    let stored: Vec<Value> = sqlx::query_scalar(
        "SELECT auth FROM job_auth UNION ALL SELECT auth FROM auth_defaults
         UNION ALL SELECT to_jsonb(auth) FROM auth_profiles",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(stored, [json!(["claude:kept"]), json!(false)]);
}

#[tokio::test]
async fn the_schema_stores_no_other_form() {
    let world = World::new().await;
    provision(&world, "job", FAR, &json!({"auth": false})).await;
    let nine: Vec<_> = (0..9).map(|number| format!("claude:{number}")).collect();
    for value in [
        json!(true),
        json!(null),
        json!(1),
        json!({}),
        json!("claude"),
        json!([]),
        json!(["claude:a", 1]),
        json!(["claude:a", "b"]),
        json!(["claude:a", "claude:a"]),
        json!(nine),
    ] {
        let stored = sqlx::query("UPDATE job_auth SET auth = $1").bind(&value).execute(&world.pool).await;
        assert!(stored.is_err(), "{value}");
    }
}
