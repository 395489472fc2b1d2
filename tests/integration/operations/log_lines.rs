//! Operator commands print their result and their errors, and no log lines unless they are asked for.

use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::world::World;

#[tokio::test]
async fn operator_commands_print_no_log_lines_unless_asked() {
    let servers = NatsServers::one().await;
    let world = World::with(|settings| {
        // The filter of the service, which its commands find in the same environment.
        let settings = settings.with("NAS_CRON_LOG_FILTER", "trace");
        settings.with("NAS_CRON_NATS_URLS", servers.urls().join(","))
    })
    .await;
    world.arm("job", 3_600_000).await;
    for line in [
        "backend status",
        "backend switch nats",
        "backend switch postgres",
        "jobs list",
        "jobs cancel inst-1 job",
        "agents add inst-2 --org org-1",
        "agents list --json",
        "hold --all",
        "release --all",
        "auth-profiles list",
        "keys rotate",
        "keys list",
        "webhooks add https://ops.example",
        "webhooks list",
        "migrate",
        "doctor",
        "config show",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let (status, out, error) = world.settings.run(&words).await;
        assert!(status.success(), "{line}: {out}{error}");
        assert!(!out.is_empty(), "{line}");
        // Progress of a switch is the command's own.
        let log_lines = error.lines().filter(|line| line.starts_with('{') || line.contains(" INFO "));
        assert_eq!(log_lines.count(), 0, "{line}: {error}");
    }
    let failing = world.settings.run(&["agents", "show", "nobody"]).await;
    assert_eq!(failing.2.lines().count(), 1, "{}", failing.2);

    let (_, _, lines) = world.settings.run(&["backend", "--log-filter", "info", "status"]).await;
    assert!(lines.contains("connected to NATS"), "{lines}");
    let asked = world.settings.clone().with("RUST_LOG", "nas_cron=info");
    let (_, _, lines) = asked.run(&["backend", "status"]).await;
    assert!(lines.contains("connected to NATS"), "{lines}");
    for invalid in ["a=loud", "é=info"] {
        let (status, _, error) = asked.clone().with("RUST_LOG", invalid).run(&["jobs", "list"]).await;
        assert!(
            status.code() == Some(1) && error.starts_with("nas-cron: ") && error.contains("RUST_LOG"),
            "{error}"
        );
    }
}
