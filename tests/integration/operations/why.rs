//! `nas-cron jobs show` says in one line why a job does not fire.

use nas_cron_testing::world::World;
use serde_json::Value;

async fn why(world: &World) -> String {
    let (status, out, error) = world.settings.run(&["jobs", "show", "inst-1", "far", "--json"]).await;
    assert!(status.success(), "{error}");
    let shown: Value = serde_json::from_str(&out).expect(&out);
    let part = |name: &str| shown["why"][name].as_str().map(str::to_owned);
    let why = [part("text"), part("fix")].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let (_, text, _) = world.settings.run(&["jobs", "show", "inst-1", "far"]).await;
    let line = text.lines().find(|line| line.starts_with("why")).expect("a line with the reason");
    // Times pass between the two.
    assert_eq!(line.trim_start_matches("why").trim_start()[..8], why[..8], "{text}");
    why
}

async fn operate(world: &World, arguments: &[&str]) {
    let (status, _, error) = world.settings.run(arguments).await;
    assert!(status.success(), "{error}");
}

#[tokio::test]
async fn jobs_show_says_why_a_job_does_not_fire() {
    let world = World::new().await;
    world.arm("far", 3_600_000).await;
    assert_eq!(&why(&world).await[..8], "fires in");

    operate(&world, &["hold", "--instance", "inst-1", "--reason", "maintenance"]).await;
    let on_hold = why(&world).await;
    assert!(on_hold.starts_with("agent inst-1 has been on hold for"), "{on_hold}");
    assert!(on_hold.ends_with("(maintenance); `nas-cron release --instance inst-1` ends that"), "{on_hold}");
    operate(&world, &["release", "--instance", "inst-1"]).await;

    operate(&world, &["agents", "disable", "inst-1"]).await;
    assert_eq!(why(&world).await, "its agent is disabled; `nas-cron agents enable inst-1` ends that");
    operate(&world, &["agents", "enable", "inst-1"]).await;

    world.sql("UPDATE instances SET unreachable_since = now(), probe_job_id = 'other'").await;
    let unreachable = why(&world).await;
    assert!(
        unreachable.contains("unreachable") && unreachable.contains("job other, the probe"),
        "{unreachable}"
    );
    world.sql("UPDATE instances SET unreachable_since = NULL, probe_job_id = NULL").await;

    world
        .sql(
            "UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL, awaits = NULL,
                                  last_error = 'the agent answered 404'",
        )
        .await;
    assert_eq!(
        why(&world).await,
        "dead letter: the agent answered 404; `nas-cron jobs redrive inst-1 far` fires it again"
    );
}
