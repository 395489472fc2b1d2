//! Outages of the backend: fires are seconds late, none is lost, and the agent API is not affected.

use std::time::{Duration, Instant};

use nas_cron_testing::time::lateness_ms;

use super::backends::TestedBackend;
use super::fixture::{Armed, Fixture};

/// Arms a job, and asserts that the provision does not wait for the backend.
async fn arm_quickly<B: TestedBackend>(fixture: &Fixture<B>, millis: i64) -> Armed {
    let asked = Instant::now();
    let armed = fixture.arm("job", millis).await;
    assert!(asked.elapsed() < Duration::from_mins(1), "{:?}", asked.elapsed());
    armed
}

pub async fn a_backend_that_is_down_while_arming_and_back_in_time_wakes<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::start().await;
    fixture.backend.down(&fixture.cluster.pool).await;
    let armed = arm_quickly(&fixture, 9_000).await;
    if B::EXTERNAL {
        let failed = async || fixture.counted("nas_cron_backend_calls_total", "call=\"arm\"").await > 0;
        nas_cron_testing::world::eventually("the backend was called", async || failed().await.then_some(()))
            .await;
        assert_eq!(fixture.counted("nas_cron_backend_calls_total", "result=\"ok\"").await, 0);
    }
    fixture.backend.up().await;
    // Woken by the backend, since the watchdog is off. It may be late on a slow machine.
    fixture.fires(&armed).await;
    fixture.woken_by_the_backend(1).await;
    fixture.nothing_left().await;
}

pub async fn a_backend_that_stays_down_is_replaced_by_the_watchdog<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::watched("1s").await;
    fixture.backend.down(&fixture.cluster.pool).await;
    let armed = arm_quickly(&fixture, B::LEAD).await;
    let fire = fixture.fires(&armed).await;
    let late = lateness_ms(&armed.fire_at, fire.arrived);
    assert!(late < 60_000.0, "{late} ms late");
    if B::EXTERNAL {
        assert!(late >= 1_000.0, "{late} ms: before the end of the grace period");
        assert_eq!(fixture.missed().await, 1);
        let ok = fixture.counted("nas_cron_backend_calls_total", "result=\"ok\"").await;
        assert_eq!(ok, 0, "no call succeeded");
    }
}

pub async fn a_one_shot_cancelled_while_the_backend_is_down_never_fires<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::start().await;
    let armed = fixture.arm("job", B::LONG_LEAD).await;
    fixture.handed_over().await;
    fixture.backend.down(&fixture.cluster.pool).await;
    fixture.cancel("job").await;
    fixture.backend.up().await;
    armed.over_by(1_000).await;
    fixture.nothing_left().await;
    assert_eq!(fixture.cluster.agents.fires().len(), 0);
    assert_eq!(fixture.attempts_of("job").await.len(), 0);
}
