//! Commands on agents, tokens, auth profiles, webhooks, keys and backends, on the database and through `--server`.

use nas_cron_testing::service::Settings;
use serde_json::{Value, json};

use super::fixture::Admin;
use super::server::{both, remote};

#[tokio::test]
async fn reading_commands_about_the_service_print_the_same_bytes() {
    let admin = Admin::new().await;
    let database = &admin.world.settings;
    let run = async |arguments: &[&str]| {
        let (status, out, error) = database.run(arguments).await;
        assert!(status.success(), "{arguments:?}: {error}");
        out
    };
    run(&["auth-profiles", "set", "--org", "org-1", "p:a", "p:b", "--default", "p:a"]).await;
    run(&["auth-profiles", "set", "--instance", "inst-1", "p:own"]).await;
    run(&["admin-tokens", "create", "desk", "--role", "viewer", "--org", "org-1"]).await;
    run(&["webhooks", "add", "http://127.0.0.1:1/x", "--org", "org-1"]).await;
    run(&["keys", "rotate"]).await;
    admin
        .world
        .sql(
            "UPDATE instances SET created_at = '2020-01-01', updated_at = '2020-01-01', callback_url = 'https://a.example';
             UPDATE admin_tokens SET created_at = '2020-01-01'; UPDATE webhooks SET created_at = '2020-01-01';
             INSERT INTO agent_identities (agent_runtime_id, instance_id, org_id, public_key, created_at)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d', 'inst-1', 'org-1', decode(repeat('07', 32), 'hex'),
                     '2020-01-01')",
        )
        .await;
    let webhook = run(&["webhooks", "list", "--json"]).await;
    let webhook: Value = serde_json::from_str(&webhook).unwrap();
    let webhook = webhook["webhooks"][0]["webhook_id"].as_str().unwrap().to_owned();
    for (group, arguments) in [
        ("agents", &["identities", "inst-1"][..]),
        ("agents", &["identities", "inst-1", "--json"]),
        ("agents", &["identities", "other"]),
        ("agents", &["identities", "none"]),
        ("agents", &["logins"]),
        ("agents", &["config", "inst-1"]),
        ("agents", &["remove", "none"]),
        ("auth-profiles", &["list"]),
        ("auth-profiles", &["list", "--json"]),
        ("auth-profiles", &["list", "--org", "org-1"]),
        ("auth-profiles", &["list", "--instance", "inst-1", "--json"]),
        ("admin-tokens", &["list"]),
        ("admin-tokens", &["list", "--json"]),
        ("webhooks", &["list"]),
        ("webhooks", &["list", "--json"]),
        ("webhooks", &["list", "--org", "none"]),
        ("webhooks", &["show", &webhook, "--json"]),
        ("webhooks", &["deliveries", &webhook]),
        ("webhooks", &["events", "--json"]),
        ("keys", &["withdraw", "none"]),
        ("backend", &["switch", "nats"]),
        ("backend", &["switch", "postgres", "--dry-run"]),
    ] {
        both(&admin, group, arguments).await;
    }
    // These have the time of the list.
    let list = both_json(&admin, "keys", &["list", "--all"], "now").await;
    assert_eq!(list["keys"].as_array().unwrap().len(), 2, "{list}");
    let status = both_json(&admin, "backend", &["status"], "").await;
    assert_eq!(status["active"], "postgres");
}

/// Compares JSON output without the field `but`.
async fn both_json(admin: &Admin, group: &str, arguments: &[&str], but: &str) -> Value {
    let of = |out: String| {
        let mut value: Value = serde_json::from_str(&out).expect("JSON");
        value.as_object_mut().unwrap().remove(but);
        value
    };
    let (_, out, error) = admin.world.settings.run(&[&[group], arguments, &["--json"]].concat()).await;
    let server = [&[group, "--server", &admin.world.service.url], arguments, &["--json"]].concat();
    let (_, remote_out, remote_error) = remote(admin).run(&server).await;
    let here = of(out);
    assert_eq!(of(remote_out), here, "{group} {arguments:?}: {error} {remote_error}");
    here
}

/// Runs commands that know only the server.
struct Remote {
    settings: Settings,
    url: String,
}

impl Remote {
    async fn run(&self, group: &str, arguments: &[&str]) -> String {
        let (status, out, error) =
            self.settings.run(&[&[group, "--server", &self.url], arguments].concat()).await;
        assert!(status.success(), "{group} {arguments:?}: {out}{error}");
        out
    }

    async fn json(&self, group: &str, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(group, &[arguments, &["--json"]].concat()).await).unwrap()
    }
}

#[tokio::test]
async fn changing_commands_about_the_service_work_through_the_server() {
    let admin = Admin::new().await;
    let server = Remote { settings: remote(&admin), url: admin.world.service.url.clone() };

    let add = ["add", "new", "--org", "org-1", "--callback-url", "https://new.example"];
    assert_eq!(server.json("agents", &add).await["change"], "added");
    assert_eq!(server.json("agents", &add).await["change"], "unchanged");
    let moved = server.json("agents", &["add", "new", "--org", "org-2", "--move-org", "--disabled"]).await;
    assert_eq!((&moved["change"], &moved["agent"]["enabled"]), (&json!("updated"), &json!(false)), "{moved}");
    let set = server.json("agents", &["set-callback", "new", "https://moved.example"]).await;
    assert_eq!(set, json!({"instance_id": "new", "callback_url": "https://moved.example", "moved": 0}));
    admin
        .world
        .sql(
            "INSERT INTO agent_identities (agent_runtime_id, instance_id, org_id, public_key)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d', 'new', 'org-2', decode(repeat('07', 32), 'hex')),
                    ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e1d', 'new', 'org-2', decode(repeat('09', 32), 'hex'));
             INSERT INTO agent_tasks (task_id, agent_runtime_id, signed_at, expires_at)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e', '7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d', now(), now() + '1 h')",
        )
        .await;
    let task = ["revoke", "new", "--task", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e"];
    assert_eq!(server.json("agents", &task).await["revoked"], 1);
    assert_eq!(server.json("agents", &task).await["revoked"], 0);
    let identity = ["revoke", "new", "--identity", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d"];
    assert_eq!(server.json("agents", &identity).await["revoked"], 1);
    assert_eq!(server.run("agents", &["revoke", "new", "--all"]).await, "1 key of agent new revoked.\n");
    assert_eq!(
        server.json("agents", &["remove", "new"]).await,
        json!({"instance_id": "new", "one_shots": 0})
    );

    let set =
        server.json("auth-profiles", &["set", "--org", "org-1", "p:a", "p:b", "--default", "p:a"]).await;
    assert_eq!(
        (&set["defaults"]["org"], set["profiles"].as_array().unwrap().len()),
        (&json!("p:a"), 2),
        "{set}"
    );
    let kept = server.json("auth-profiles", &["set", "--org", "org-1", "--no-default"]).await;
    assert_eq!((&kept["defaults"]["org"], kept["profiles"].as_array().unwrap().len()), (&Value::Null, 2));
    let cleared = server.json("auth-profiles", &["clear", "--org", "org-1", "p:b"]).await;
    assert_eq!(cleared["profiles"], json!([{"auth": "p:a", "scope": "org"}]), "{cleared}");
    let (status, _, error) = server
        .settings
        .run(&["auth-profiles", "--server", &server.url, "clear", "--org", "org-1", "p:x"])
        .await;
    assert!(!status.success() && error.contains("removed 0 of 1 profile"), "{error}");

    let token = server.run("admin-tokens", &["create", "ci", "--role", "viewer", "--expires-in", "1d"]).await;
    assert!(token.starts_with("nca_"), "a script can take it: {token}");
    let revoke = ["revoke", "ci"];
    assert_eq!(server.run("admin-tokens", &revoke).await, "Admin token ci is revoked.\n");
    assert_eq!(server.run("admin-tokens", &revoke).await, "Admin token ci was already revoked.\n");

    let added = server.json("webhooks", &["add", "http://127.0.0.1:1/x", "--description", "desk"]).await;
    let id = added["webhook_id"].as_str().unwrap();
    assert!(added["secret"].as_str().unwrap().starts_with("whsec_"));
    let changed = server.json("webhooks", &["set", id, "--type", "one_shot.stuck"]).await;
    assert_eq!((&changed["types"], &changed["description"]), (&json!(["one_shot.stuck"]), &json!("desk")));
    assert_eq!(server.json("webhooks", &["disable", id]).await["state"], "disabled");
    assert_eq!(server.json("webhooks", &["enable", id]).await["state"], "enabled");
    assert_ne!(server.json("webhooks", &["rotate-secret", id]).await["secret"], added["secret"]);
    let (status, out, _) =
        server.settings.run(&["webhooks", "--server", &server.url, "test", id, "--json"]).await;
    let tested: Value = serde_json::from_str(&out).unwrap();
    assert!(!status.success() && tested["accepted"] == false, "{tested}");
    let event = tested["event_id"].as_str().unwrap();
    let again = server.json("webhooks", &["redeliver", id, event]).await;
    assert_eq!(again, json!({"webhook_id": id, "event_id": event}));
    server.run("webhooks", &["remove", id]).await;

    let rotated = server.json("keys", &["rotate"]).await;
    assert_eq!(rotated["state"], "next", "{rotated}");
    let withdrawn = server.json("keys", &["withdraw", rotated["kid"].as_str().unwrap()]).await;
    assert_eq!(withdrawn["state"], "gone");
    for (arguments, reason) in [
        (
            &["keys", "--server", &server.url, "import", "--pem", "x"][..],
            "a private key is not sent over the network",
        ),
        (&["keys", "--server", &server.url, "export-jwks"], "/api/agent-cron/jwks.json"),
        (&["agents", "--server", &server.url, "import", "x.csv"], "a thousand agents per statement"),
        (&["export", "--server", &server.url, "-"], "a view of one moment"),
        (&["import", "--server", &server.url, "x.jsonl"], "a thousand lines per statement"),
    ] {
        let (status, _, error) = server.settings.run(arguments).await;
        assert!(!status.success() && error.contains(reason), "{error}");
        assert!(error.contains("run it without --server, with database_url"), "{error}");
    }

    // The server has written the lines in the audit log, without a secret.
    let log = admin.ok("GET", "/api/admin/audit?limit=1000", None).await.to_string();
    for action in
        ["put_agent", "set_agent_callback", "revoke_agent_task", "delete_agent", "put_org_auth_profiles"]
    {
        assert!(log.contains(action), "{action}: {log}");
    }
    assert!(!log.contains("nca_") && !log.contains("whsec_"), "{log}");
}
