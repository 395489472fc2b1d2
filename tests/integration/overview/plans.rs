//! The statements of the overview never read a whole table, however large it is.

use std::path::Path;

use nas_cron_testing::database::database;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

/// The tables that grow.
const GROWING: &[&str] = &["one_shots", "instances", "wake_ups", "fires", "fire_minutes", "awaited_rearms"];

/// Files with the statements.
const FILES: &[&str] = &[
    "overview/attention.rs",
    "overview/backlog.rs",
    "overview/load.rs",
    "overview/switching.rs",
    "fire_minutes.rs",
];

/// Grows the tables to a few thousand pages. Settings of a session are those of the service's sessions.
const GROWN: &str = "
    SET random_page_cost = '0.1';
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    INSERT INTO instances (instance_id, org_id) SELECT 'agent-' || n, 'org-' || n % 50 FROM generate_series(1, 20000) n;
    INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, next_attempt_at)
    SELECT 'agent-' || 1 + n % 20000, 'job-' || n, gen_random_uuid(), 'key', 'then', now() + n * interval '1 s',
           'https://agent.example', 'armed', now() + n * interval '1 s'
    FROM generate_series(1, 100000) n;
    INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at, state, next_try_at)
    SELECT schedule_id, 1, 'nats', instance_id, job_id, fire_at, 'armed', NULL FROM one_shots LIMIT 20000;
    INSERT INTO fire_minutes SELECT now() - n * interval '1 min', 1, 0, 0, 0, '{0,1}' FROM generate_series(1, 2880) n;
    INSERT INTO awaited_rearms SELECT instance_id, job_id, schedule_id, now(), 'daily', now(), now(), '1 d'
    FROM one_shots LIMIT 20000;
    ANALYZE";

/// Returns the statements of a file of `src/db`, as sqlx has them.
fn statements(file: &str) -> Vec<(String, usize)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("src/db").join(file)).expect(file);
    let known = std::fs::read_dir(root.join(".sqlx")).expect(".sqlx").map(|entry| {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let known: Value = serde_json::from_str(&text).unwrap();
        let parameters = known["describe"]["parameters"]["Left"].as_array().map_or(0, Vec::len);
        (known["query"].as_str().unwrap().to_owned(), parameters)
    });
    known.filter(|(statement, _)| source.contains(statement.as_str())).collect()
}

/// Returns the tables that a plan reads as a whole.
fn read_as_a_whole(plan: &Value, found: &mut Vec<String>) {
    match plan {
        Value::Object(node) => {
            if node.get("Node Type").is_some_and(|kind| kind == "Seq Scan") {
                found.extend(node["Relation Name"].as_str().map(str::to_owned));
            }
            node.values().for_each(|below| read_as_a_whole(below, found));
        }
        Value::Array(nodes) => nodes.iter().for_each(|below| read_as_a_whole(below, found)),
        _ => {}
    }
}

#[tokio::test]
async fn no_statement_of_the_overview_reads_a_whole_table() {
    let (_db, url) = database().await;
    let session = &mut PgConnection::connect(&url).await.unwrap();
    session.execute(GROWN).await.unwrap();
    let mut seen = 0;
    for file in FILES {
        for (statement, parameters) in statements(file) {
            seen += 1;
            session.execute("DEALLOCATE ALL").await.unwrap();
            let prepare = format!("PREPARE looked AS {statement}");
            session.execute(AssertSqlSafe(prepare)).await.expect(&statement);
            let nulls = vec!["NULL"; parameters].join(", ");
            let given = if parameters == 0 { String::new() } else { format!("({nulls})") };
            let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE looked{given}");
            let row = session.fetch_one(AssertSqlSafe(explain)).await.expect(&statement);
            let plan: Value = row.get(0);
            let mut whole = Vec::new();
            read_as_a_whole(&plan, &mut whole);
            whole.retain(|table| GROWING.iter().any(|growing| table.starts_with(growing)));
            assert!(whole.is_empty(), "{file} reads {whole:?} as a whole: {statement}\n{plan:#}");
        }
    }
    assert_eq!(seen, 12, "every statement is found");
}
