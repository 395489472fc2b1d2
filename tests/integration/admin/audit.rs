//! The audit log: who did what to what, from where, with which outcome.

use std::time::Duration;

use nas_cron::db::{Db, DbOptions, admin_tokens, audit};
use nas_cron_testing::service::Service;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::fixture::{Caller, command, config, create, lines};

#[tokio::test]
async fn every_change_has_a_line_with_its_caller_origin_subject_and_outcome() {
    let world = World::new().await;
    let service = &world.service;
    let portal = Caller::new(&create(service, "portal", "admin", None).await);
    let put =
        async |body: Value| portal.call(service, "PUT", "/api/admin/agents/a%2F1", Some(&body)).await.status;
    assert_eq!(put(json!({ "org_id": "acme" })).await, 201);
    assert_eq!(put(json!({ "org_id": "other" })).await, 409);
    assert_eq!(put(json!({ "org": "acme" })).await, 400);
    let forwarded = [("x-forwarded-for", "198.51.100.7, 203.0.113.9")];
    let gone = portal.with(service, "DELETE", "/api/admin/agents/a%2F1", None, &forwarded).await;
    assert_eq!(gone.status, 204);
    portal.call(service, "GET", "/api/admin/agents", None).await;

    let found = lines(service, "actor=portal").await;
    let shown: Vec<_> = found
        .iter()
        .map(|line| {
            assert_eq!(line["subject"], json!({ "instance_id": "a/1" }));
            assert!(line["ended_at"].as_str() >= line["at"].as_str(), "{line}");
            let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (of("action"), of("outcome"), of("detail"), of("origin"))
        })
        .collect();
    let line = |action: &str, outcome: &str, detail: &str, origin: &str| {
        (action.to_owned(), outcome.to_owned(), detail.to_owned(), origin.to_owned())
    };
    assert_eq!(
        shown,
        [
            line("delete_agent", "done", "", "127.0.0.1, forwarded for 203.0.113.9"),
            line("put_agent", "refused", "org_id: is missing", "127.0.0.1"),
            line(
                "put_agent",
                "refused",
                "the agent belongs to org `acme`; to move it to this org, add ?move_org=true",
                "127.0.0.1"
            ),
            line("put_agent", "done", "", "127.0.0.1"),
        ]
    );
    let by_config = lines(service, "actor=config").await;
    assert_eq!(by_config.len(), 1);
    // The subject includes what only the body tells.
    assert_eq!(
        (&by_config[0]["action"], &by_config[0]["subject"]),
        (&json!("create_admin_token"), &json!({ "token": "portal", "role": "admin" }))
    );
}

#[tokio::test]
async fn line_is_there_before_the_change_and_its_outcome_stays_unknown_if_the_process_dies() {
    let mut world = World::new().await;
    // The change waits for this lock.
    let mut holder = world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM instances WHERE instance_id = 'inst-1' FOR UPDATE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let url = format!("{}/api/admin/agents/inst-1", world.service.admin_url);
    let request = nas_cron_testing::service::client().delete(url);
    let request = request.bearer_auth(nas_cron_testing::service::ADMIN_TOKEN);
    let deleting = tokio::spawn(request.send());
    let line = async || -> Option<(String, String)> {
        let query = "SELECT action, outcome::text FROM audit_log";
        sqlx::query_as(query).fetch_optional(&world.pool).await.unwrap()
    };
    let written = eventually("the line is written", line).await;
    assert_eq!(written, ("delete_agent".to_owned(), "unknown".to_owned()));
    world.service.kill9();
    assert!(deleting.await.unwrap().is_err());
    drop(holder);
    world.service = Service::start(&world.settings).await;
    let found = lines(&world.service, "action=delete_agent").await;
    assert_eq!((&found[0]["outcome"], &found[0]["ended_at"]), (&json!("unknown"), &Value::Null));
}

#[tokio::test]
async fn nothing_is_changed_if_its_line_cannot_be_written() {
    let world = World::new().await;
    world.sql("ALTER TABLE audit_log RENAME TO gone").await;
    let (status, body) = world.service.admin("DELETE", "/api/admin/agents/inst-1", None).await;
    assert_eq!(status, 500, "{body}");
    let (status, _, error) = world.settings.run(&["agents", "remove", "inst-1", "--yes"]).await;
    assert!(
        !status.success() && error.contains("writing the audit log failed, so nothing was changed"),
        "{error}"
    );
    let (status, _) = world.service.admin("GET", "/api/admin/agents/inst-1", None).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn commands_have_lines_with_the_user_who_ran_them() {
    let world = World::new().await;
    command(&world, &["agents", "add", "agent-1", "--org", "acme"]).await;
    command(&world, &["agents", "list"]).await;
    command(&world, &["hold", "--org", "acme"]).await;
    command(&world, &["hold", "list"]).await;
    command(&world, &["release", "--org", "acme"]).await;
    command(&world, &["jobs", "redrive", "--all", "--dry-run"]).await;
    command(&world, &["jobs", "redrive", "--all"]).await;
    command(&world, &["auth-profiles", "set", "--instance", "agent-1", "claude:work"]).await;
    assert!(!world.settings.run(&["agents", "remove", "nobody"]).await.0.success());
    command(&world, &["agents", "remove", "agent-1"]).await;
    let listed = command(&world, &["audit", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let shown: Vec<_> = listed["lines"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|line| {
            let actor = line["actor"].as_str().unwrap();
            let (user, host) = actor.strip_prefix("cli:").unwrap().split_once('@').unwrap();
            assert!(!user.is_empty() && line["origin"] == host, "{line}");
            format!(
                "{} {} {}",
                line["action"].as_str().unwrap(),
                line["subject"],
                line["outcome"].as_str().unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    put_agent {"instance_id":"agent-1"} done
    hold_org {"org_id":"acme"} done
    release_org {"org_id":"acme"} done
    redrive_jobs {"all":"true","per_second":"4","state":"dead"} done
    put_instance_auth_profiles {"instance_id":"agent-1"} done
    delete_agent {"instance_id":"nobody"} refused
    delete_agent {"instance_id":"agent-1"} done
    "#);
    let refused = lines(&world.service, "action=delete_agent&subject=instance_id%3Dnobody").await;
    assert!(
        refused[0]["detail"].as_str().unwrap().contains("no agent `nobody` is registered"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn token_of_an_org_reads_only_its_lines_and_not_where_others_called_from() {
    let world = World::new().await;
    let service = &world.service;
    let acme = Caller::new(&create(service, "acme-admin", "admin", Some("acme")).await);
    let other = Caller::new(&create(service, "other-admin", "admin", Some("other")).await);
    let body = json!({ "org_id": "acme" });
    assert_eq!(config().call(service, "PUT", "/api/admin/agents/agent-1", Some(&body)).await.status, 201);
    assert_eq!(acme.call(service, "PUT", "/api/admin/agents/agent-1", Some(&body)).await.status, 200);
    // Callers that only try do not appear in the log of org acme.
    assert_eq!(other.call(service, "DELETE", "/api/admin/agents/agent-1", None).await.status, 404);
    assert_eq!(
        config()
            .call(service, "PUT", "/api/admin/auth-profiles/orgs/acme", Some(&json!({ "profiles": [] })))
            .await
            .status,
        200
    );
    let read = async |caller: &Caller| -> Vec<String> {
        let page = caller.call(service, "GET", "/api/admin/audit", None).await.body;
        let lines = page["lines"].as_array().unwrap().clone();
        lines.iter().map(|line| format!("{} {} {}", line["actor"], line["action"], line["origin"])).collect()
    };
    assert_eq!(
        read(&acme).await,
        [
            r#""config" "put_org_auth_profiles" null"#,
            r#""acme-admin" "put_agent" "127.0.0.1""#,
            r#""config" "put_agent" null"#,
            r#""config" "create_admin_token" null"#,
        ]
    );
    assert_eq!(
        read(&other).await,
        [r#""other-admin" "delete_agent" "127.0.0.1""#, r#""config" "create_admin_token" null"#,]
    );
}

#[tokio::test]
async fn lines_are_filtered_and_paged() {
    let world = World::new().await;
    let service = &world.service;
    for number in 0..5 {
        world.service.register(&format!("agent-{number}"), "acme", None).await;
    }
    let named = |lines: &[Value]| -> Vec<String> {
        lines.iter().map(|line| line["subject"]["instance_id"].as_str().unwrap().to_owned()).collect()
    };
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page =
            config().call(service, "GET", &format!("/api/admin/audit?limit=2{cursor}"), None).await.body;
        pages.push(named(page["lines"].as_array().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&before={next}");
    }
    assert_eq!(pages, [vec!["agent-4", "agent-3"], vec!["agent-2", "agent-1"], vec!["agent-0"]]);
    assert_eq!(named(&lines(service, "subject=instance_id%3Dagent-3").await), ["agent-3"]);
    assert_eq!(lines(service, "subject=instance_id%3Dagent").await.len(), 0, "whole values only");
    assert_eq!(lines(service, "action=delete_agent").await.len(), 0);
    let third = &lines(service, "subject=instance_id%3Dagent-2").await[0];
    let at = third["at"].as_str().unwrap();
    assert_eq!(named(&lines(service, &format!("since={at}")).await), ["agent-4", "agent-3", "agent-2"]);
    assert_eq!(named(&lines(service, &format!("until={at}")).await), ["agent-1", "agent-0"]);
    let out = command(&world, &["audit", "list", "--limit", "1"]).await;
    assert!(out.contains("instance_id=agent-4") && out.contains("More lines follow: --before "), "{out}");
    for (query, problem) in [
        ("actr=x", "actr: unknown parameter"),
        ("actor=%00", "actor: must not contain control characters"),
        ("subject=agent-1", "subject: must be a name and a value"),
        ("since=yesterday", "since: must be an RFC 3339 date-time"),
        ("before=x", "before: must be the `next` of the previous page"),
        ("limit=0", "limit: must be a number from 1 to 1000"),
        ("action=a&action=b", "action: must occur only once"),
    ] {
        let refused = config().call(service, "GET", &format!("/api/admin/audit?{query}"), None).await;
        assert_eq!(refused.status, 400);
        assert!(refused.body["detail"].as_str().unwrap().starts_with(problem), "{query}: {refused:?}");
    }
}

#[tokio::test]
async fn any_text_in_a_path_is_recorded_without_harm() {
    let world = World::new().await;
    let long = "x".repeat(5_000);
    for path in ["a%00b", "%1b[31m", "%FF", &long] {
        let path = format!("/api/admin/agents/{path}");
        let refused = config().call(&world.service, "DELETE", &path, None).await;
        assert_eq!(refused.status, 400, "{path}: {refused:?}");
    }
    let found = lines(&world.service, "action=delete_agent").await;
    assert_eq!(found.len(), 4);
    assert!(
        found.iter().all(|line| line["outcome"] == "refused" && line.to_string().len() < 2_000),
        "{found:?}"
    );
    assert_eq!(found[3]["subject"], json!({ "instance_id": "ab" }));
}

#[tokio::test]
async fn old_lines_and_the_tokens_that_only_they_mention_are_deleted() {
    let world = World::new().await;
    for name in ["valid", "revoked", "expired", "lately"] {
        create(&world.service, name, "viewer", None).await;
    }
    world
        .sql(
            "UPDATE admin_tokens SET revoked_at = now() - interval '401 d', revoked_by = 'x' WHERE name = 'revoked';
             UPDATE admin_tokens SET expires_at = now() - interval '401 d' WHERE name = 'expired';
             UPDATE admin_tokens SET expires_at = now() - interval '399 d' WHERE name = 'lately';
             UPDATE audit_log SET at = now() - interval '401 d' WHERE subject @> '{token=revoked}'",
        )
        .await;
    let options = DbOptions {
        url: world.url.clone().into(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(30),
    };
    let db = Db::new(&options).unwrap();
    let retention = Duration::from_hours(400 * 24);
    assert_eq!(audit::prune(&db, retention, 100).await.unwrap(), 1);
    assert_eq!(admin_tokens::prune(&db, retention).await.unwrap(), 2);
    let left: Vec<String> = sqlx::query_scalar("SELECT name FROM admin_tokens ORDER BY name")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(left, ["lately", "valid"]);
    assert_eq!(lines(&world.service, "action=create_admin_token").await.len(), 3);
}
