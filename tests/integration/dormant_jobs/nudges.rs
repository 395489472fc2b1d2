//! `jobs nudge` fires the latest key once more.

#[cfg(target_os = "linux")]
use nas_cron_testing::terminal::run_on_a_terminal;
use nas_cron_testing::world::World;
use serde_json::json;

use super::fixture::json;

const NUDGE: [&str; 5] = ["jobs", "nudge", "inst-1", "job", "--yes"];

/// Runs a command that fails, and returns its error.
async fn fails(world: &World, arguments: &[&str]) -> String {
    let (status, out, error) = world.settings.run(arguments).await;
    assert!(!status.success(), "{out}");
    error
}

#[tokio::test]
async fn nudge_fires_the_same_one_shot_again_and_is_not_a_second_fire() {
    let world = World::new().await;
    let (at, schedule) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    // More often than second fires are allowed.
    for fires in 2..=5 {
        let nudged = json(&world.settings, &NUDGE).await;
        assert_eq!((&nudged["nudged"], &nudged["schedule_id"]), (&json!(true), &json!(schedule)));
        assert_eq!(world.agents.wait_for("job", fires).await.fire_at, at);
        let history = world.ended("job", fires).await;
        assert!(history.iter().all(|one| one.schedule_id == schedule && one.number == 1), "{history:?}");
        world.delivered("job").await;
    }
    // The key may be fired a second time as ever.
    assert_eq!(world.again("job", &at).await, schedule);
    assert_eq!(world.listed("job").await.unwrap().1["state"], "waiting");
    world.service.cancel(&world.token, "job").await;
}

#[tokio::test]
async fn new_key_after_a_nudge_says_nothing_about_the_agents_clock() {
    let world = World::new().await;
    world.arm("job", -1_000).await;
    world.delivered("job").await;
    json(&world.settings, &NUDGE).await;
    world.ended("job", 2).await;
    world.delivered("job").await;
    world.arm("job", 3_600_000).await;
    let guard: i32 =
        sqlx::query_scalar("SELECT skew_guard_ms FROM instances").fetch_one(&world.pool).await.unwrap();
    assert_eq!(guard, 0);
}

#[tokio::test]
async fn nudge_needs_a_confirmation_and_a_delivered_job() {
    let world = World::new().await;
    let error = fails(&world, &NUDGE).await;
    assert!(error.contains("unknown job job of agent inst-1"), "{error}");
    let (_, first) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    let error = fails(&world, &NUDGE[..4]).await;
    assert!(error.contains("the job may run again: confirm that with --yes"), "{error}");
    assert_eq!(world.history("job").await.len(), 1);

    let (_, second) = world.arm("job", 3_600_000).await;
    let error = fails(&world, &NUDGE).await;
    assert!(error.contains("is armed, and fires by itself"), "{error}");
    assert_ne!(first, second);
    world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL").await;
    let error = fails(&world, &NUDGE).await;
    assert!(error.contains("is dead; `nas-cron jobs redrive inst-1 job` fires it again"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nudge_asks_on_the_terminal_and_fires_after_a_yes_only() {
    let world = World::new().await;
    world.arm("job", -1_000).await;
    world.delivered("job").await;
    let nudge = async |answer: &'static str| run_on_a_terminal(&world.settings, &NUDGE[..4], answer).await;
    let (done, screen) = nudge("n\n").await;
    assert!(!done && screen.contains("Fire it? [y/N]"), "{screen}");
    assert!(screen.contains("not confirmed; nothing was changed"), "{screen}");
    assert_eq!(world.history("job").await.len(), 1);
    let (done, screen) = nudge("y\n").await;
    assert!(done && screen.contains("is due now"), "{screen}");
    world.agents.wait_for("job", 2).await;
}

#[tokio::test]
async fn job_that_was_armed_again_after_the_question_is_not_fired() {
    let world = World::new().await;
    let (_, shown) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    world.arm("job", 3_600_000).await;
    let db = nas_cron_testing::database::connect(&world.url);
    let (instance, job) = ("inst-1".parse().unwrap(), "job".parse().unwrap());
    let schedule = nas_cron_protocol::ScheduleId(shown.parse().unwrap());
    let nudge = nas_cron::db::dormant_jobs::nudge(&db, &instance, &job, schedule, None);
    assert_eq!(nudge.await.unwrap(), None);
    assert_eq!(world.listed("job").await.unwrap().1["state"], "armed");
    assert_eq!(world.agents.fires_of("job").len(), 1);
}

#[tokio::test]
async fn nudge_of_a_disabled_agent_fires_when_it_is_enabled() {
    let world = World::new().await;
    world.arm("job", -1_000).await;
    world.delivered("job").await;
    world.sql("UPDATE instances SET enabled = false").await;
    assert_eq!(json(&world.settings, &NUDGE).await["on_hold"], true);
    let (status, _, error) = world.settings.run(&["agents", "enable", "inst-1"]).await;
    assert!(status.success(), "{error}");
    world.agents.wait_for("job", 2).await;
}

#[tokio::test]
async fn nudge_of_a_job_on_hold_fires_when_it_is_released() {
    let world = World::new().await;
    world.arm("job", -1_000).await;
    world.delivered("job").await;
    let run = async |arguments: &[&str]| {
        let (status, _, error) = world.settings.run(arguments).await;
        assert!(status.success(), "{error}");
    };
    run(&["hold", "--instance", "inst-1", "--job", "job"]).await;
    assert_eq!(json(&world.settings, &NUDGE).await["on_hold"], true);
    run(&["release", "--instance", "inst-1", "--job", "job"]).await;
    world.agents.wait_for("job", 2).await;
}
