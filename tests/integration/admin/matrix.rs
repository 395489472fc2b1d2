//! The tenant matrix: every route of the admin API, with every kind of token.
//!
//! The routes are those of the running service's `OpenAPI` document, which also says the role that each needs. A new
//! route fails the test until it has a row in [`ROWS`]: one line, with a call that a permitted token may make.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use nas_cron::webhooks::secret::Secret;
use nas_cron_testing::service::{KEY_ENCRYPTION_KEY, Service, key_encryption_keys};
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{Answer, Caller, config, create, lines};

/// A call of an operation about org `acme`, whose agent `agent-1` exists, and the status for a permitted caller.
///
/// `@` in a body stands for a number that no other call has. A path or body names only what [`seed`] has made, so that
/// [`unknown`] can replace it by names of what does not exist.
type Row = (&'static str, &'static str, &'static str, u16);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("list_agents", "/api/admin/agents", "", 200),
    ("get_agent", "/api/admin/agents/agent-1", "", 200),
    ("put_agent", "/api/admin/agents/agent-1", r#"{"org_id": "acme"}"#, 200),
    ("delete_agent", "/api/admin/agents/agent-1", "", 204),
    ("set_agent_callback", "/api/admin/agents/agent-1/callback", r#"{"callback_url": "https://agent.example"}"#, 200),
    ("list_logins", "/api/admin/logins", "", 200),
    ("revoke_login", "/api/admin/agents/agent-1/login", "", 200),
    ("list_agent_identities", "/api/admin/agents/agent-1/identities", "", 200),
    ("revoke_agent_identity", "/api/admin/agents/agent-1/identities/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d", "", 204),
    ("revoke_agent_task", "/api/admin/agents/agent-1/identities/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d/tasks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e", "", 204),
    ("list_auth_profiles", "/api/admin/auth-profiles", "", 200),
    ("get_service_auth_profiles", "/api/admin/auth-profiles/service", "", 200),
    ("put_service_auth_profiles", "/api/admin/auth-profiles/service", r#"{"profiles": ["claude:work"]}"#, 200),
    ("delete_service_auth_profiles", "/api/admin/auth-profiles/service", "", 200),
    ("get_org_auth_profiles", "/api/admin/auth-profiles/orgs/acme", "", 200),
    ("put_org_auth_profiles", "/api/admin/auth-profiles/orgs/acme", r#"{"profiles": ["claude:work"]}"#, 200),
    ("delete_org_auth_profiles", "/api/admin/auth-profiles/orgs/acme", "", 200),
    ("get_instance_auth_profiles", "/api/admin/auth-profiles/instances/agent-1", "", 200),
    ("put_instance_auth_profiles", "/api/admin/auth-profiles/instances/agent-1", r#"{"profiles": ["claude:work"]}"#, 200),
    ("delete_instance_auth_profiles", "/api/admin/auth-profiles/instances/agent-1", "", 200),
    ("list_admin_tokens", "/api/admin/tokens", "", 200),
    ("create_admin_token", "/api/admin/tokens", r#"{"name": "new-@", "role": "viewer", "org_id": "acme"}"#, 201),
    ("revoke_admin_token", "/api/admin/tokens/acme-spare", "", 204),
    ("list_audit_log", "/api/admin/audit", "", 200),
    ("enable_agent", "/api/admin/agents/agent-1/enable", "", 200),
    ("disable_agent", "/api/admin/agents/agent-1/disable", "", 200),
    ("list_jobs", "/api/admin/jobs", "", 200),
    ("get_job", "/api/admin/jobs/agent-1/job-1", "", 200),
    ("explain_job", "/api/admin/jobs/agent-1/job-1/why", "", 200),
    ("list_job_attempts", "/api/admin/jobs/agent-1/job-1/attempts", "", 200),
    ("cancel_job", "/api/admin/jobs/agent-1/job-1/cancel", "", 200),
    ("fire_job", "/api/admin/jobs/agent-1/job-2/fire", r#"{"schedule_id": "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0c"}"#, 200),
    ("nudge_job", "/api/admin/jobs/agent-1/job-3/nudge", r#"{"schedule_id": "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0b", "last_started_at": "2099-01-01T00:00:00Z"}"#, 200),
    ("dismiss_job", "/api/admin/jobs/agent-1/job-3/dismiss", "", 200),
    ("count_redrivable_jobs", "/api/admin/jobs/redrivable?org_id=acme", "", 200),
    ("redrive_job", "/api/admin/jobs/agent-1/job-1/redrive", "", 200),
    ("redrive_jobs", "/api/admin/jobs/redrive?org_id=acme", "", 200),
    ("redrive_selected_jobs", "/api/admin/jobs/redrive-selected", r#"{"jobs": [{"instance_id": "agent-1", "job_id": "job-1"}]}"#, 200),
    ("get_overview", "/api/admin/overview", "", 200),
    ("list_orgs", "/api/admin/orgs", "", 200),
    ("get_org", "/api/admin/orgs/acme", "", 200),
    ("delete_everything", "/api/admin/deletions", r#"{"org_id": "acme"}"#, 200),
    ("get_instance_quota", "/api/admin/quotas/instances/agent-1", "", 200),
    ("put_instance_quota", "/api/admin/quotas/instances/agent-1", r#"{"quota": 20}"#, 200),
    ("delete_instance_quota", "/api/admin/quotas/instances/agent-1", "", 200),
    ("get_org_quota", "/api/admin/quotas/orgs/acme", "", 200),
    ("put_org_quota", "/api/admin/quotas/orgs/acme", r#"{"quota": 20}"#, 200),
    ("delete_org_quota", "/api/admin/quotas/orgs/acme", "", 200),
    ("list_holds", "/api/admin/holds", "", 200),
    ("hold_service", "/api/admin/holds/service", "{}", 200),
    ("release_service", "/api/admin/holds/service", "", 200),
    ("hold_org", "/api/admin/holds/orgs/acme", "{}", 200),
    ("release_org", "/api/admin/holds/orgs/acme", "", 200),
    ("hold_instance", "/api/admin/holds/instances/agent-1", "{}", 200),
    ("release_instance", "/api/admin/holds/instances/agent-1", "", 200),
    ("hold_job", "/api/admin/holds/jobs/agent-1/job-1", "{}", 200),
    ("release_job", "/api/admin/holds/jobs/agent-1/job-1", "", 200),
    ("list_keys", "/api/admin/keys?all=true", "", 200),
    ("rotate_keys", "/api/admin/keys/rotate", "{}", 200),
    ("rewrap_keys", "/api/admin/keys/rewrap", "{}", 200),
    ("activate_key", "/api/admin/keys/none/activate", "", 404),
    ("withdraw_key", "/api/admin/keys/none", "", 404),
    ("list_backends", "/api/admin/backends", "", 200),
    ("switch_backend", "/api/admin/backends/active", r#"{"backend": "postgres"}"#, 200),
    ("list_webhooks", "/api/admin/webhooks", "", 200),
    ("get_webhook", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f", "", 200),
    ("create_webhook", "/api/admin/webhooks", r#"{"url": "https://ops.example/@", "org_id": "acme"}"#, 201),
    ("update_webhook", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f", r#"{"description": "on call"}"#, 200),
    ("delete_webhook", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f", "", 204),
    ("rotate_webhook_secret", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f/rotate-secret", "", 200),
    ("test_webhook", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f/test", "", 200),
    ("list_webhook_deliveries", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f/deliveries", "", 200),
    ("redeliver_event", "/api/admin/webhooks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f/deliveries/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e1a/redeliver", "", 202),
    ("list_events", "/api/admin/events", "", 200),
];

/// State-changing operations for which something that does not exist is not an error.
const WITHOUT_EFFECT: &[&str] = &["cancel_job", "redrive_jobs", "redrive_selected_jobs"];

/// State-changing operations about the whole service, whose lines in the audit log need no subject.
const WITHOUT_SUBJECT: &[&str] =
    &["hold_service", "release_service", "put_service_auth_profiles", "delete_service_auth_profiles"];

/// Names of org `acme`'s things, and a name of the same form that does not exist.
const NAMES: &[(&str, &str)] = &[
    ("agent-1", "agent-9"),
    ("job-1", "job-9"),
    ("job-2", "job-8"),
    ("job-3", "job-7"),
    ("acme", "none"),
    ("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0cffff"),
    ("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0ceeee"),
    ("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0cdddd"),
    ("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e1a", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0cbbbb"),
];

/// Makes everything that the rows name, also if an earlier call has removed it. The jobs that rows fire have started late
/// in the future: the least time between two fires keeps them armed, because a delivery would also be that of the next
/// seed's.
async fn seed(world: &World) {
    world
        .sql(&format!(
            "INSERT INTO instances (instance_id, org_id) VALUES ('agent-1', 'acme')
             ON CONFLICT (instance_id) DO UPDATE SET enabled = true;
             DELETE FROM holds; DELETE FROM job_holds; DELETE FROM one_shots;
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    dead_since, next_attempt_at, last_started_at)
             VALUES ('agent-1', 'job-1', gen_random_uuid(), 'k', '2100-01-01T00:00:00Z', '2100-01-01', '{callback}', 'dead',
                     now(), NULL, NULL),
                    ('agent-1', 'job-2', '7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0c', 'k', '2100-01-01T00:00:00Z', '2100-01-01',
                     '{callback}', 'armed', NULL, '2100-01-01', '2099-01-01'),
                    ('agent-1', 'job-3', '7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0b', 'k', '2026-01-01T00:00:00Z', '2026-01-01',
                     '{callback}', 'delivered', NULL, NULL, '2099-01-01');
             INSERT INTO awaited_rearms (instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at,
                                         closes_after, dormant_since)
             VALUES ('agent-1', 'job-3', '7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0b', now(), 'interval', now(), now(), '14 d', now())
             ON CONFLICT DO NOTHING;
             DELETE FROM logins;
             INSERT INTO logins (login_id, instance_id, key_id) VALUES (gen_random_uuid(), 'agent-1', 'some key');
             INSERT INTO auth_profiles (scope, scope_id, auth) VALUES ('org', 'acme', 'claude:work'),
                 ('instance', 'agent-1', 'claude:work') ON CONFLICT DO NOTHING;
             INSERT INTO agent_identities (agent_runtime_id, instance_id, org_id, public_key)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d', 'agent-1', 'acme', decode(repeat('07', 32), 'hex'))
             ON CONFLICT DO NOTHING;
             INSERT INTO agent_tasks (task_id, agent_runtime_id, signed_at, expires_at)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e', '7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d', now(), now() + '1 h')
             ON CONFLICT DO NOTHING;
             INSERT INTO events (event_id, type, org_id, occurred_at, last_at, count, data)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e1a', 'webhook.tested', 'acme', now(), now(), 1, '{{}}')
             ON CONFLICT DO NOTHING",
            callback = world.agents.callback("agent-1"),
        ))
        .await;
    let webhook_id = uuid::uuid!("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f");
    let kek = key_encryption_keys(KEY_ENCRYPTION_KEY);
    let secret = Secret::generate().unwrap().seal(webhook_id, &kek).unwrap();
    // No receiver is there: a test is answered at once.
    sqlx::query(
        "INSERT INTO webhooks (webhook_id, url, org_id, secret_nonce, secret)
         VALUES ($1, 'http://127.0.0.1:1/', 'acme', $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(webhook_id)
    .bind(secret.nonce)
    .bind(secret.ciphertext)
    .execute(&world.pool)
    .await
    .unwrap();
}

/// An operation of the document, with its row.
struct Operation {
    method: String,
    role: String,
    is_about_the_service: bool,
    row: Row,
}

impl Operation {
    /// Returns path and body of a call.
    fn call(&self) -> (String, Option<Value>) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (_, path, body, _) = self.row;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let body = (!body.is_empty()).then(|| serde_json::from_str(&body.replace('@', &number)).unwrap());
        (path.to_owned(), body)
    }

    async fn by(&self, caller: &Caller, service: &Service) -> Answer {
        let (path, body) = self.call();
        caller.call(service, &self.method, &path, body.as_ref()).await
    }
}

/// Returns the operations of the running service's document, each with its row.
async fn operations(service: &Service) -> Vec<Operation> {
    let (_, document) = service.get("/openapi.json").await;
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if !path.starts_with("/api/admin/") {
                continue;
            }
            let id = operation["operationId"].as_str().unwrap();
            let row = ROWS.iter().find(|(row, ..)| *row == id);
            let row = row.unwrap_or_else(|| panic!("add a row for `{id}` ({method} {path}) to ROWS"));
            found.push(Operation {
                method: method.to_uppercase(),
                role: operation["security"][0]["admin_token"][0].as_str().expect("a role").to_owned(),
                is_about_the_service: operation["x-reach"] == "service",
                row: *row,
            });
        }
    }
    assert_eq!(found.len(), ROWS.len(), "a row is of no operation");
    found
}

/// Replaces the names of what exists by those of what does not.
fn unknown(text: &str) -> String {
    NAMES.iter().fold(text.to_owned(), |text, (known, other)| text.replace(known, other))
}

fn rank(role: &str) -> usize {
    ["viewer", "operator", "admin"].iter().position(|one| *one == role).unwrap()
}

#[tokio::test]
async fn every_route_admits_only_tokens_with_its_role_and_org() {
    let world = World::new().await;
    let service = &world.service;
    seed(&world).await;
    let mut of_role = Vec::new();
    for role in ["viewer", "operator", "admin"] {
        let token = Caller::new(&create(service, &format!("all-{role}"), role, None).await);
        let own = Caller::new(&create(service, &format!("acme-{role}"), role, Some("acme")).await);
        of_role.push((role, token, own));
    }
    let elsewhere = Caller::new(&create(service, "other-admin", "admin", Some("other")).await);
    create(service, "acme-spare", "viewer", Some("acme")).await;
    let revoked = create(service, "revoked", "admin", None).await;
    let expired = create(service, "expired", "admin", None).await;
    world.sql("UPDATE admin_tokens SET revoked_at = now(), revoked_by = 'x' WHERE name = 'revoked'").await;
    world.sql("UPDATE admin_tokens SET expires_at = now() WHERE name = 'expired'").await;
    let invalid = [revoked.as_str(), expired.as_str(), &format!("nca_{}", "A".repeat(43)), &world.token];

    for (index, operation) in operations(service).await.iter().enumerate() {
        let (id, .., permitted) = operation.row;
        // Each at an address of its own: the service limits invalid tokens.
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(index).unwrap()));
        let strangers = invalid.iter().map(|token| Caller::new(token)).chain([Caller::anonymous()]);
        for caller in strangers {
            let answer = operation.by(&caller.at(address), service).await;
            assert_eq!((answer.status, &answer.body["error"]), (401, &json!("invalid_token")), "{id}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{id}");
        }
        for (role, all, own) in &of_role {
            let has_role = rank(role) >= rank(&operation.role);
            for (caller, name) in [(all, format!("all-{role}")), (own, format!("acme-{role}"))] {
                seed(&world).await;
                let answer = operation.by(caller, service).await;
                let reaches = !operation.is_about_the_service || name.starts_with("all");
                if has_role && reaches {
                    assert_eq!(answer.status, permitted, "{id} by {name}: {answer:?}");
                } else {
                    assert_eq!(
                        (answer.status, &answer.body["error"]),
                        (403, &json!("access_denied")),
                        "{id} by {name}"
                    );
                }
                audited(service, operation, &name, &answer).await;
            }
        }
        seed(&world).await;
        refuses_what_is_not_documented(&world, operation, &of_role.last().unwrap().1).await;
        sees_nothing_of_another_org(&world, operation, &elsewhere).await;
    }
}

/// Checks that a state-changing call, permitted or not, has a line; and that reading has none.
async fn audited(service: &Service, operation: &Operation, actor: &str, answer: &Answer) {
    let found = lines(service, &format!("action={}&actor={actor}", operation.row.0)).await;
    if operation.method == "GET" {
        assert_eq!(found, [] as [Value; 0]);
        return;
    }
    let outcome = if answer.status < 400 { "done" } else { "refused" };
    assert_eq!(found[0]["outcome"], outcome, "{}: {found:?}", operation.row.0);
    let has_subject = found[0]["subject"].as_object().is_some_and(|subject| !subject.is_empty());
    let id = operation.row.0;
    // A call that is refused for its role or its org is refused before its body is read.
    let unread = matches!(answer.status, 401 | 403 | 404);
    assert!(has_subject || unread || WITHOUT_SUBJECT.contains(&id), "{id}: {found:?}");
}

/// Checks that a call with an unknown parameter or an unknown field is refused, by its name, and changes nothing.
async fn refuses_what_is_not_documented(world: &World, operation: &Operation, caller: &Caller) {
    let service = &world.service;
    let id = operation.row.0;
    let before = state(world).await;
    let (path, body) = operation.call();
    let separator = if path.contains('?') { '&' } else { '?' };
    let unknown = format!("{path}{separator}nonsense=1");
    let answer = caller.call(service, &operation.method, &unknown, body.as_ref()).await;
    assert_eq!(answer.status, 400, "{id}: {answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("nonsense: unknown parameter; "), "{id}: {detail}");
    // The bodies of auth profiles are those of the agent API, which ignores unknown fields.
    if let Some(mut body) = body.filter(|_| !id.ends_with("_auth_profiles")) {
        body["nonsense"] = json!(1);
        let answer = caller.call(service, &operation.method, &path, Some(&body)).await;
        assert_eq!(answer.status, 400, "{id}: {answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains("unknown field"), "{id}: {answer:?}");
    }
    assert_eq!(state(world).await, before, "{id} changes nothing");
}

/// Checks that a caller of another org gets the answer that it would get if nothing of org `acme` existed, and changes
/// nothing.
async fn sees_nothing_of_another_org(world: &World, operation: &Operation, caller: &Caller) {
    let service = &world.service;
    let id = operation.row.0;
    let before = state(world).await;
    let (path, body) = operation.call();
    let real = caller.call(service, &operation.method, &path, body.as_ref()).await;
    let body = body.map(|body| serde_json::from_str(&unknown(&body.to_string())).unwrap());
    let none = caller.call(service, &operation.method, &unknown(&path), body.as_ref()).await;
    assert_eq!(real.status, none.status, "{id}: {real:?}");
    if operation.method == "GET" && real.status == 200 {
        // A list. It may contain lines about the caller's own calls.
        let own: Vec<_> =
            ["agents", "tokens", "jobs", "orgs", "holds", "webhooks", "events", "logins", "entries"]
                .iter()
                .filter_map(|list| real.body[*list].as_array())
                .flatten()
                .collect();
        assert!(!json!(own).to_string().contains("acme"), "{id}: {real:?}");
        let lines = real.body["lines"].as_array().into_iter().flatten();
        let is_own = |line: &Value| line["actor"] == "other-admin" || line["subject"]["org_id"] == "other";
        assert!(lines.clone().all(is_own), "{id}: {real:?}");
    } else {
        assert_eq!(unknown(&real.body.to_string()), none.body.to_string(), "{id}");
        assert!(real.status >= 400 || WITHOUT_EFFECT.contains(&id), "{id}: {real:?}");
    }
    assert_eq!(state(world).await, before, "{id} changes nothing");
}

/// Returns everything that belongs to org `acme`.
async fn state(world: &World) -> Vec<(String, Option<String>)> {
    sqlx::query_as(
        "SELECT 'i ' || i::text, NULL FROM instances i UNION ALL SELECT 'a ' || a::text, NULL FROM agent_identities a
         UNION ALL SELECT 't ' || t::text, NULL FROM agent_tasks t
         UNION ALL SELECT 'p ' || p::text, NULL FROM auth_profiles p
         UNION ALL SELECT 'l ' || l::text, NULL FROM logins l
         UNION ALL SELECT 'o ' || o::text, NULL FROM one_shots o
         UNION ALL SELECT 'r ' || r::text, NULL FROM awaited_rearms r
         UNION ALL SELECT 'h ' || h::text, NULL FROM holds h
         UNION ALL SELECT 'j ' || j::text, NULL FROM job_holds j
         UNION ALL SELECT 'w ' || webhook_id || url || COALESCE(description, '') || encode(secret, 'hex'), ended_by::text
                   FROM webhooks
         UNION ALL SELECT 'e ' || event_id, NULL FROM events
         UNION ALL SELECT 'n ' || name, revoked_at::text FROM admin_tokens ORDER BY 1",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn documentation_lists_every_operation_with_its_role() {
    let world = World::new().await;
    let (_, document) = world.service.get("/openapi.json").await;
    let mut rows = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in
            methods.as_object().unwrap().iter().filter(|_| path.starts_with("/api/admin/"))
        {
            let of = |value: &Value| value.as_str().unwrap().to_owned();
            let role = of(&operation["security"][0]["admin_token"][0]);
            rows.push(vec![
                format!("`{}`", of(&operation["operationId"])),
                format!("`{} {path}`", method.to_uppercase()),
                role,
                of(&operation["x-reach"]),
            ]);
        }
    }
    let page = include_str!("../../../docs/admin-api.md");
    let lines: Vec<_> = rows.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
    assert!(
        page.contains(&lines.join("\n")),
        "the table below \"### Operations\" must be:\n{}",
        lines.join("\n")
    );
}

/// The methods and paths of a row of the contract's table. A path that begins with `…` has a beginning of another one of its
/// row.
struct Routes<'a> {
    methods: Vec<&'a str>,
    paths: Vec<&'a str>,
}

impl<'a> Routes<'a> {
    fn of(cell: &'a str) -> Self {
        let words: Vec<_> = cell.split('`').skip(1).step_by(2).flat_map(str::split_whitespace).collect();
        let (paths, methods) = words.into_iter().partition(|word| word.starts_with(['/', '…']));
        Self { methods, paths }
    }

    fn have(&self, method: &str, path: &str) -> bool {
        let names = |known: &str| match known.strip_prefix('…') {
            None => known == path,
            Some(end) => path
                .strip_suffix(end)
                .is_some_and(|start| self.paths.iter().any(|other| other.starts_with(start))),
        };
        self.methods.contains(&method) && self.paths.iter().any(|known| names(known))
    }
}

#[tokio::test]
async fn contract_lists_every_route_and_no_other() {
    let page = include_str!("../../../docs/contract.md");
    let (_, section) = page.split_once("\n## Admin API\n").unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| route |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows.map(|line| Routes::of(line.split('|').nth(1).unwrap())).collect();
    let world = World::new().await;
    let (_, document) = world.service.get("/openapi.json").await;
    let routes = document["paths"].as_object().unwrap();
    for (path, methods) in routes.iter().filter(|(path, _)| path.starts_with("/api/admin/")) {
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            assert!(
                rows.iter().any(|row| row.have(&method, path)),
                "add {method} {path} to docs/contract.md"
            );
        }
    }
    for path in rows.iter().flat_map(|row| &row.paths).filter(|path| path.starts_with('/')) {
        assert!(routes.contains_key(*path), "docs/contract.md names the unknown route {path}");
    }
}

#[tokio::test]
async fn token_of_an_org_learns_that_an_instance_id_is_taken_but_not_by_whom() {
    let world = World::new().await;
    seed(&world).await;
    let caller = Caller::new(&create(&world.service, "other-admin", "admin", Some("other")).await);
    let put =
        async |path: &str| caller.call(&world.service, "PUT", path, Some(&json!({"org_id": "other"}))).await;
    let taken = put("/api/admin/agents/agent-1").await;
    assert_eq!(
        (taken.status, &taken.body["detail"]),
        (409, &json!("the instance ID is taken; use another one"))
    );
    assert_eq!(put("/api/admin/agents/agent-1?move_org=true").await.status, 403);
    assert_eq!(put("/api/admin/agents/agent-2").await.status, 201);
    let read = config().call(&world.service, "GET", "/api/admin/agents/agent-1", None).await;
    assert_eq!(read.body["org_id"], "acme");
}

/// Removes what depends on the time of an answer.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("at");
            fields.remove("now");
            fields.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// Returns the answers to every read of the service's document.
async fn answers(service: &Service, operations: &[Operation], caller: &Caller) -> Vec<(String, u16, Value)> {
    let mut found = Vec::new();
    for operation in operations.iter().filter(|operation| operation.method == "GET") {
        let mut answer = operation.by(caller, service).await;
        without_times(&mut answer.body);
        found.push((operation.row.0.to_owned(), answer.status, answer.body));
    }
    found
}

#[tokio::test]
async fn token_of_an_org_gets_the_same_answers_as_if_no_other_org_had_anything() {
    let world = World::new().await;
    let service = &world.service;
    let caller = Caller::new(&create(service, "other-viewer", "viewer", Some("other")).await);
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('own', 'other')").await;
    let operations = operations(service).await;
    let alone = answers(service, &operations, &caller).await;
    seed(&world).await;
    world.sql("INSERT INTO holds (scope, scope_id) VALUES ('org', 'acme')").await;
    // The overview is kept for a few seconds.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    for (alone, beside) in alone.into_iter().zip(answers(service, &operations, &caller).await) {
        assert_eq!(beside, alone);
    }
}
