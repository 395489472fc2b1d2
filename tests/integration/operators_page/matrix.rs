//! Every action of the operators' page, sent by those who may not carry it out. The actions are read from the code: a new one
//! is tried without a change here.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::fixture::{Operator, Ops};

/// Tables that change by themselves, and those with the forms and their lines in the audit log.
const LIVELY: [&str; 6] = [
    "audit_log",
    "fire_minutes",
    "operator_sessions",
    "operator_submissions",
    "replicas",
    "schema_compatibility",
];

/// Actions that only a token of the whole service may carry out.
const OF_SERVICE: [&str; 6] =
    ["activate_key", "hold_service", "release_service", "rotate_keys", "switch_backend", "withdraw_key"];

/// Returns the operations in a list that the code declares like this.
fn listed(source: &'static str, declared: &str) -> Vec<&'static str> {
    let (_, list) = source.split_once(declared).expect("a list of operations");
    let (list, _) = list.split_once("];").expect("its end");
    // The labels of those on many jobs have capitals or spaces.
    let is_operation = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    list.split('"').skip(1).step_by(2).filter(is_operation).collect()
}

/// Returns the operations on one thing, and those on many jobs.
fn operations() -> (Vec<&'static str>, Vec<&'static str>) {
    let sources = [
        include_str!("../../../src/http/ops/actions/agents.rs"),
        include_str!("../../../src/http/ops/actions/backends.rs"),
        include_str!("../../../src/http/ops/actions/holds.rs"),
        include_str!("../../../src/http/ops/actions/jobs.rs"),
        include_str!("../../../src/http/ops/actions/keys.rs"),
        include_str!("../../../src/http/ops/actions/webhooks.rs"),
    ];
    let files = include_str!("../../../src/http/ops/actions/mod.rs").matches("::OPERATIONS,").count();
    assert_eq!(files, sources.len(), "every file with actions is in the list");
    let of_one = sources.into_iter().flat_map(|source| listed(source, "OPERATIONS: &[&str]")).collect();
    let batch = include_str!("../../../src/http/ops/actions/batch.rs");
    (of_one, listed(batch, "OPERATIONS: [(&str, &str)"))
}

/// Returns a digest of every table that only actions change.
async fn contents(ops: &Ops) -> BTreeMap<String, Option<String>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> ALL ($1)",
    )
    .bind(LIVELY)
    .fetch_all(&ops.world.pool)
    .await
    .unwrap();
    let mut contents = BTreeMap::new();
    for table in tables {
        let digest = format!("SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t");
        let digest =
            sqlx::query_scalar(sqlx::AssertSqlSafe(digest)).fetch_one(&ops.world.pool).await.unwrap();
        contents.insert(table, digest);
    }
    assert!(contents.len() > 20, "{:?}", contents.keys());
    contents
}

/// Returns the fields that any action on one thing reads, but the proof of the session.
async fn fields(ops: &Ops) -> Vec<(&'static str, String)> {
    ops.armed("job").await;
    let hook = serde_json::json!({ "url": format!("{}/hook", ops.world.callback()) });
    let (_, hook) = ops.world.service.admin("POST", "/api/admin/webhooks", Some(&hook)).await;
    ops.world
        .sql(
            "INSERT INTO events (event_id, type, occurred_at, last_at, count, data)
             VALUES ('00000000-0000-4000-8000-000000000007', 'one_shot.stuck', now(), now(), 1, '{}')",
        )
        .await;
    let one = async |of: &str| -> String {
        let statement = sqlx::AssertSqlSafe(format!("SELECT {of}"));
        sqlx::query_scalar(statement).fetch_one(&ops.world.pool).await.unwrap()
    };
    let active = one("kid FROM signing_keys WHERE state = 'active'").await;
    vec![
        ("instance_id", "inst-1".to_owned()),
        ("job_id", "job".to_owned()),
        ("org_id", "org-1".to_owned()),
        ("schedule_id", one("schedule_id::text FROM one_shots").await),
        ("last_started_at", "2026-01-01T00:00:00Z".to_owned()),
        ("webhook_id", hook["webhook_id"].as_str().expect("a webhook").to_owned()),
        ("event_id", "00000000-0000-4000-8000-000000000007".to_owned()),
        ("enabled", "false".to_owned()),
        ("kid", active.clone()),
        ("active_kid", active),
        ("backend", "postgres".to_owned()),
        ("generation", one("generation::text FROM active_backend").await),
    ]
}

/// Returns the form of a session.
async fn form(operator: &Operator, fields: &[(&str, String)]) -> Vec<(String, String)> {
    let page = operator.get("/ops/jobs").await;
    let token =
        page.html.split("name=\"form_token\" value=\"").nth(1).expect("a form").split('"').next().unwrap();
    let proof = [
        ("form_token", token.to_owned()),
        ("submission_id", Uuid::new_v4().to_string()),
        ("back", "/ops/jobs".to_owned()),
    ];
    proof.into_iter().chain(fields.iter().cloned()).map(|(name, value)| (name.to_owned(), value)).collect()
}

#[tokio::test]
async fn no_action_is_carried_out_without_its_role_or_for_another_org() {
    let ops = Ops::new().await;
    let one = fields(&ops).await;
    let value = |name: &str| one.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    let job = serde_json::json!(["inst-1", "job", value("schedule_id")]).to_string();
    let selected = vec![("job", job)];
    let matching = |state: &str| vec![("matching", "true".to_owned()), ("state", state.to_owned())];
    let (armed, dead) = (matching("armed"), matching("dead"));
    let (of_one, of_many) = operations();
    assert!(of_one.len() > 20 && of_many.len() == 5, "{of_one:?} {of_many:?}");
    let mut tried: Vec<_> = of_one.into_iter().map(|operation| (operation, &one)).collect();
    for operation in of_many {
        let matching = if operation == "redrive_jobs" { &dead } else { &armed };
        tried.extend([(operation, &selected), (operation, matching)]);
    }
    let viewer = ops.signed_in(&ops.token("viewer", "viewer", None).await).await;
    let of_other = ops.signed_in(&ops.token("of-other", "admin", Some("org-2")).await).await;
    let own = ops.signed_in(&ops.token("own", "admin", Some("org-1")).await).await;
    let before = contents(&ops).await;
    for (operation, fields) in &tried {
        let what = format!("{operation} {fields:?}");
        let refused = viewer.act(operation, &form(&viewer, fields).await).await;
        assert_eq!(refused.status, 403, "{what} as viewer: {}", refused.html);
        let lines = ops.audit(&format!("action={operation}&actor=viewer&limit=1")).await;
        assert_eq!(lines[0]["outcome"], "refused", "{what}");

        let foreign = of_other.act(operation, &form(&of_other, fields).await).await;
        // An action on many jobs shows what it has done to each: nothing.
        let shown = fields[0].0 != "instance_id" && foreign.status == 303;
        assert!(matches!(foreign.status, 403 | 404) || shown, "{what} in another org: {}", foreign.html);

        if OF_SERVICE.contains(operation) {
            let refused = own.act(operation, &form(&own, fields).await).await;
            assert_eq!(refused.status, 403, "{what} in its org: {}", refused.html);
        }
        let after = contents(&ops).await;
        assert_eq!(after, before, "{what} changed something");
    }

    // The same forms are good: an admin is not refused. Some find what an earlier one has changed.
    let admin = ops.admin().await;
    let mut carried_out = 0;
    for (operation, fields) in &tried {
        let answer = admin.act(operation, &form(&admin, fields).await).await;
        assert!(matches!(answer.status, 303 | 404), "{operation} {fields:?} as admin: {}", answer.html);
        carried_out += usize::from(answer.status == 303);
    }
    assert!(carried_out + 4 > tried.len(), "{carried_out} of {}", tried.len());
    assert_ne!(contents(&ops).await, before);
}
