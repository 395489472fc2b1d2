//! The operator's commands: `nas-cron auth-profiles`, and the profiles in `nas-cron jobs`.

use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{carried, provision};

async fn ok(world: &World, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let (status, out, said) = world.settings.run(&words).await;
    assert!(status.success(), "{line}: {said}");
    out
}

async fn json(world: &World, line: &str) -> Value {
    serde_json::from_str(&ok(world, &format!("{line} --json")).await).unwrap()
}

async fn fails(world: &World, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let (status, _, said) = world.settings.run(&words).await;
    assert_eq!(status.code(), Some(1), "{line}: {said}");
    said
}

#[tokio::test]
async fn operators_set_show_and_clear_defaults_and_the_next_fire_carries_them() {
    let world = World::new().await;
    assert_eq!(ok(&world, "auth-profiles list").await, "No known profiles and no defaults.\n");
    let set = "auth-profiles set --org org-1 claude:work claude:budget --default claude:budget";
    let seen = json(&world, set).await;
    assert_eq!(
        seen,
        json!({
            "profiles": [{"auth": "claude:budget", "scope": "org"}, {"auth": "claude:work", "scope": "org"}],
            "defaults": {"instance": null, "org": "claude:budget", "service": null},
        })
    );
    provision(&world, "job", 0, &json!({})).await;
    assert_eq!(carried(&world.agents.wait_for("job", 1).await).as_deref(), Some("claude:budget"));

    let said = ok(&world, "auth-profiles set --instance inst-1 --default claude:night").await;
    assert!(said.contains("Agent inst-1: jobs that name no profile get claude:night"), "{said}");
    assert!(said.contains("Warning: unknown auth profile `claude:night`"), "{said}");
    assert_eq!(json(&world, "auth-profiles list --org org-1").await, seen, "the list of the org stays");
    let all = ok(&world, "auth-profiles list").await;
    assert_eq!(
        all,
        "PLACE         PROFILE        KIND\n\
         org org-1     claude:budget  known\n\
         org org-1     claude:work    known\n\
         org org-1     claude:budget  default\n\
         agent inst-1  claude:night   default\n"
    );
    let seen = json(&world, "auth-profiles set --org org-1 --no-default").await;
    assert_eq!((&seen["defaults"]["org"], seen["profiles"].as_array().unwrap().len()), (&json!(null), 2));
    let seen = json(&world, "auth-profiles clear --org org-1 claude:work").await;
    assert_eq!(seen["profiles"], json!([{"auth": "claude:budget", "scope": "org"}]));
    assert!(fails(&world, "auth-profiles clear --org org-1 claude:work").await.contains("0 of 1 profile"));
    assert_eq!(json(&world, "auth-profiles clear --org org-1").await["profiles"], json!([]));

    for line in ["set --instance nobody claude:a", "clear --instance nobody", "list --instance nobody"] {
        let said = fails(&world, &format!("auth-profiles {line}")).await;
        assert!(said.contains("no agent `nobody` is registered") && said.contains("agents list"), "{said}");
    }
    let said = fails(&world, "auth-profiles set --service claude:a Claude:b").await;
    assert!(said.contains("profile 2 must be provider:name"), "{said}");
    assert_eq!(json(&world, "auth-profiles list --service").await["profiles"], json!([]));
}

#[tokio::test]
async fn operators_set_no_profile_and_lists_as_defaults() {
    let world = World::new().await;
    let several = "auth-profiles set --service --default claude:a --default codex:b";
    assert_eq!(json(&world, several).await["defaults"]["service"], json!(["claude:a", "codex:b"]));
    let said = ok(&world, "auth-profiles set --instance inst-1 --default none").await;
    assert!(
        said.contains("Agent inst-1: jobs that name no profile get none, by the default of the instance"),
        "{said}"
    );
    let all = ok(&world, "auth-profiles list").await;
    assert!(all.contains("the service   claude:a, codex:b  default"), "{all}");
    assert!(all.contains("agent inst-1  none               default"), "{all}");
    provision(&world, "job", 3_600_000, &json!({})).await;
    let shown = ok(&world, "jobs show inst-1 job").await;
    assert!(shown.contains("none (by instance)"), "{shown}");
    ok(&world, "auth-profiles set --instance inst-1 --no-default").await;
    let shown = ok(&world, "jobs show inst-1 job").await;
    assert!(shown.contains("claude:a, codex:b (by service)"), "{shown}");
    for (line, expected) in [
        ("--default none --default p:a", "--default must be either none or profiles, not both"),
        ("--default p:a --default Bad", "--default number 2 must be provider:name"),
        ("--default false", "--default must be provider:name"),
    ] {
        let said = fails(&world, &format!("auth-profiles set --service {line}")).await;
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(
        json(&world, "auth-profiles list --service").await["defaults"]["service"],
        json!(["claude:a", "codex:b"])
    );
}

#[tokio::test]
async fn jobs_are_shown_with_their_profile_and_its_source() {
    let world = World::new().await;
    provision(&world, "own", 3_600_000, &json!({"auth": "claude:new"})).await;
    provision(&world, "plain", 3_600_000, &json!({})).await;
    let plain = json(&world, "jobs show inst-1 plain").await;
    assert_eq!(plain["job"].get("effective_auth"), None, "{plain}");
    ok(&world, "auth-profiles set --service claude:all --default claude:all").await;

    let listed = json(&world, "jobs list").await;
    let (own, plain) = (&listed["jobs"][0], &listed["jobs"][1]);
    assert_eq!((&own["job_id"], &own["auth"]), (&json!("own"), &json!("claude:new")));
    assert_eq!(own["effective_auth"], json!({"auth": "claude:new", "source": "job"}));
    assert_eq!(own["warnings"][0]["code"], "auth_profile_unknown");
    assert_eq!((plain.get("auth"), plain.get("warnings")), (None, None));
    assert_eq!(plain["effective_auth"], json!({"auth": "claude:all", "source": "service"}));
    assert_eq!(&json(&world, "jobs show inst-1 own").await["job"], own);
    let shown = ok(&world, "jobs show inst-1 own").await;
    assert!(shown.contains("claude:new (by job, unknown here)"), "{shown}");
    let shown = ok(&world, "jobs show inst-1 plain").await;
    assert!(shown.contains("claude:all (by service)"), "{shown}");
}
