//! The behaviour of the built-in loop after the first wake-up, which is the same on every backend.

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::lateness_ms;
use nas_cron_testing::world::eventually;

use super::backends::TestedBackend;
use super::fixture::Fixture;

/// The agent's `Retry-After` applies, and the backend is not involved.
pub async fn a_failing_agent_is_retried_by_the_built_in_loop<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::start().await;
    fixture.cluster.agents.answer(|_, before| if before == 0 { Reply::busy("2") } else { Reply::accepted() });
    let armed = fixture.arm("job", B::LEAD).await;
    let first = fixture.cluster.agents.wait_for("job", 1).await;
    assert!(lateness_ms(&armed.fire_at, first.arrived) >= 0.0);
    fixture.woken_by_the_backend(1).await;
    fixture.backend.down(&fixture.cluster.pool).await;
    let second = fixture.cluster.agents.wait_for("job", 2).await;
    let pause = (second.arrived - first.arrived).num_milliseconds();
    assert!(pause >= 2_000, "{pause} ms");
    fixture.delivered("job").await;
    let outcomes: Vec<_> =
        fixture.attempts_of("job").await.into_iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, ["failed", "delivered"]);
    assert_eq!(fixture.missed().await, 0);
}

pub async fn a_hold_stops_woken_one_shots_and_a_release_fires_them<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::start().await;
    let operate = async |arguments: &[&str]| {
        let (status, _, said) = fixture.cluster.settings.run(arguments).await;
        assert!(status.success(), "{said}");
    };
    operate(&["hold", "--all", "--reason", "a test"]).await;
    fixture.arm("job", B::LEAD).await;
    eventually("it is parked", async || {
        let parked = fixture.cluster.count("SELECT count(*) FROM one_shots WHERE parked = 'hold'").await;
        (parked == 1).then_some(())
    })
    .await;
    fixture.woken_by_the_backend(1).await;
    // No further wake-up is needed.
    fixture.backend.down(&fixture.cluster.pool).await;
    assert_eq!(fixture.cluster.agents.fires().len(), 0);
    operate(&["release", "--all"]).await;
    fixture.cluster.agents.wait_for("job", 1).await;
    fixture.delivered("job").await;
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
    assert_eq!(fixture.missed().await, 0);
}

pub async fn the_floor_between_two_fires_is_kept<B: TestedBackend>() {
    let fixture = Fixture::<B>::with(1, |settings| settings.with("NAS_CRON_FIRE_FLOOR", "7s")).await;
    fixture.arm_at("job", &nas_cron_testing::time::fire_at(0)).await;
    fixture.delivered("job").await;
    let second = fixture.arm("job", B::LEAD).await;
    fixture.cluster.agents.wait_for("job", 2).await;
    fixture.delivered("job").await;
    let attempts = fixture.attempts_of("job").await;
    let pause = (attempts[1].started_at - attempts[0].started_at).num_milliseconds();
    assert!(pause >= 7_000, "{pause} ms");
    assert_eq!((attempts.len(), attempts[1].schedule_id.to_string()), (2, second.schedule_id));
    fixture.woken_by_the_backend(1).await;
}

/// A skew guard is set after the agent's clock was found to be slow.
pub async fn a_skew_guard_delays_the_fire<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    let learn = "UPDATE instances SET skew_guard_ms = 1500, skew_learned_at = now()";
    sqlx::query(learn).execute(&fixture.cluster.pool).await.unwrap();
    let armed = fixture.arm("job", B::LEAD).await;
    let fire = fixture.fires(&armed).await;
    let late = lateness_ms(&armed.fire_at, fire.arrived);
    assert!(late >= 1_500.0, "{late} ms");
    fixture.woken_by_the_backend(1).await;
}
