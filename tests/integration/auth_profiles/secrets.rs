//! A text that looks like a secret is rejected as a profile name, and is neither stored nor logged.

use std::fmt::Write as _;

use nas_cron_testing::service::{ADMIN_TOKEN, client};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{INSTANCE, ORG, REGISTRY, SERVICE, call, provision};

/// Invented secrets, each of another kind. The first part of each occurs in no other text.
const SECRETS: [&str; 9] = [
    "sk-ant-api03-q7Vd",
    "claude:sk-proj-w2Nf",
    "ghp_t5Rb:work",
    "claude:AKIAZ9QFEXAMPLE",
    "claude:eyJq1.eyJq2.q3",
    "Bearer q4Tn",
    "claude:9fK2mXw7Qe4Rt6Yu8Io0Pa3S",
    "claude:5a1f0c9e8b7d6a5f4e3d2c1b0a9f8e7d",
    "claude:k3Jh-8sD_f9Gq-Zx7Cv_6Bn5M-q1We2Rt3Yu",
];

/// Returns all rows of all tables as text, but the audit log, which has a line for every attempt.
async fn tables(world: &World) -> String {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT tablename FROM pg_tables
         WHERE schemaname = 'public' AND tablename NOT IN ('_sqlx_migrations', 'audit_log') ORDER BY 1",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let mut all = String::new();
    for name in names {
        // Without columns that change with time.
        let query = format!(
            "SELECT coalesce(jsonb_agg(to_jsonb(t) - 'updated_at' - 'pulled_at' - 'renewals' - 'renewed_at' - 'clock_offset_ms' ORDER BY to_jsonb(t)::text), '[]')::text FROM {name} t"
        );
        let rows: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&world.pool).await.unwrap();
        writeln!(all, "{name}: {rows}").unwrap();
    }
    all
}

#[tokio::test]
async fn a_secret_given_as_a_profile_name_is_rejected_and_stored_nowhere() {
    let world = World::with(|s| s.with("NAS_CRON_LOG_FILTER", "trace")).await;
    provision(&world, "job", 3_600_000, &json!({"auth": "claude:kept"})).await;
    let before = tables(&world).await;
    assert!(before.contains("job_auth: [{") && before.contains("auth_profiles: []"), "{before}");
    for secret in SECRETS {
        let new = json!({
            "job_id": "new", "fire_at": fire_at(3_600_000), "agent_callback_url": world.callback(),
            "dedup_key": "new", "auth": secret,
        });
        let listed = json!({"profiles": ["claude:fine", secret]});
        let as_default = json!({"profiles": ["claude:fine"], "default": secret});
        let patch = json!({"auth": secret});
        let query: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let query = format!("?auth={query}");
        let agent_api: [(&str, String, Option<&Value>); 5] = [
            ("POST", "/api/agent-cron/provision".to_owned(), Some(&new)),
            ("PATCH", "/api/agent-cron/jobs/job".to_owned(), Some(&patch)),
            ("PUT", REGISTRY.to_owned(), Some(&listed)),
            ("PUT", REGISTRY.to_owned(), Some(&as_default)),
            ("DELETE", format!("{REGISTRY}{query}"), None),
        ];
        let mut answers = Vec::new();
        for (method, path, body) in agent_api {
            answers.push(call(&world, method, &path, &world.token, body).await);
        }
        for place in [SERVICE, ORG, INSTANCE] {
            answers.push(world.service.admin("PUT", place, Some(&listed)).await);
            answers.push(world.service.admin("PUT", place, Some(&as_default)).await);
            answers.push(world.service.admin("DELETE", &format!("{place}{query}"), None).await);
        }
        for (status, answer) in answers {
            let text = answer.to_string();
            assert_eq!(status, 400, "{text}");
            assert!(text.contains("looks like a secret") && !text.contains(secret), "{text}");
        }
        for command in [
            &["auth-profiles", "set", "--service", secret][..],
            &["auth-profiles", "set", "--org", "org-1", "--default", secret],
            &["auth-profiles", "clear", "--instance", "inst-1", secret],
        ] {
            let (status, out, said) = world.settings.run(command).await;
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("looks like a secret"), "{said}");
            assert!(!said.contains(secret) && !out.contains(secret), "{said}{out}");
        }
    }
    // In places without profiles, and in field names.
    for secret in SECRETS {
        let (list, named) =
            (json!({"profiles": secret}).to_string(), json!({"profiles": {secret: secret}}).to_string());
        let unsound = [r#""\u0000""#, r#""\ud800""#, "1e999", r#"{"x":1,"x":2}"#].map(|part| {
            format!(r#"{{"profiles":[],"auth":{{"{secret}":{part}}},"default":{{"{secret}":{part}}}}}"#)
        });
        let doubled = format!(r#"{{"profiles":[],"auth":"claude:a","{secret}":1,"{secret}":2}}"#);
        let job = json!({"job_id": {secret: secret}, "fire_at": [secret], "auth": secret}).to_string();
        for body in unsound.into_iter().chain([list, named, doubled, job]) {
            for (method, path, token) in [
                ("PUT", REGISTRY, &*world.token),
                ("PATCH", "/api/agent-cron/jobs/job", &world.token),
                ("POST", "/api/agent-cron/provision", &world.token),
                ("POST", "/api/agent-cron/cancel", &world.token),
                ("PUT", SERVICE, ADMIN_TOKEN),
                ("PUT", ORG, ADMIN_TOKEN),
                ("PUT", INSTANCE, ADMIN_TOKEN),
            ] {
                let request =
                    client().request(method.parse().unwrap(), format!("{}{path}", world.service.url));
                let answer = request.bearer_auth(token).body(body.clone()).send().await.unwrap();
                assert_eq!(answer.status(), 400, "{method} {path} {body}");
                let text = answer.text().await.unwrap();
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
    assert_eq!(tables(&world).await, before);
    let log = world.service.log();
    assert!(log.contains(r#""level":"TRACE""#), "the log has all levels");
    assert!(log.matches("looks like a secret").count() >= SECRETS.len(), "rejections are logged");
    let query = "SELECT string_agg(l::text, ' ') FROM audit_log l WHERE outcome = 'refused'";
    let audited: String = sqlx::query_scalar(query).fetch_one(&world.pool).await.unwrap();
    assert!(audited.contains("looks like a secret"), "{audited}");
    for secret in SECRETS {
        // Also in parts, or escaped for a URL.
        let parts = secret.split(':').filter(|part| !["claude", "work"].contains(part));
        for part in parts.map(|part| part.trim_start_matches("Bearer ")) {
            let line = log.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "{part} is in the log");
            assert!(!audited.contains(part), "{part} is in the audit log");
        }
    }
}
