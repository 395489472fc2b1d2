//! The engine is away: it costs seconds, not jobs, and the agent API does not notice.

use std::time::{Duration, Instant};

use nas_cron_testing::time::lateness_ms;

use super::engines::Engine;
use super::fixture::{Armed, Fixture};

/// A provision does not wait for the engine.
async fn arm_quickly<E: Engine>(fixture: &Fixture<E>, millis: i64) -> Armed {
    let asked = Instant::now();
    let armed = fixture.arm("job", millis).await;
    assert!(asked.elapsed() < Duration::from_mins(1), "{:?}", asked.elapsed());
    armed
}

pub async fn a_backend_that_is_down_while_arming_and_back_in_time_wakes<E: Engine>() {
    let mut fixture = Fixture::<E>::start().await;
    fixture.engine.down(&fixture.cluster.pool).await;
    let armed = arm_quickly(&fixture, 9_000).await;
    if E::HOSTED {
        let failed = async || fixture.counted("nas_cron_backend_calls_total", "call=\"arm\"").await > 0;
        nas_cron_testing::world::eventually("the engine was called", async || failed().await.then_some(()))
            .await;
        assert_eq!(fixture.counted("nas_cron_backend_calls_total", "result=\"ok\"").await, 0);
    }
    fixture.engine.up().await;
    // By the engine, since the watchdog would not come: on time, unless the machine was too slow for that.
    fixture.fires(&armed).await;
    fixture.woken_by_the_engine(1).await;
    fixture.nothing_left().await;
}

pub async fn a_backend_that_stays_down_is_replaced_by_the_watchdog<E: Engine>() {
    let mut fixture = Fixture::<E>::watched("1s").await;
    fixture.engine.down(&fixture.cluster.pool).await;
    let armed = arm_quickly(&fixture, E::LEAD).await;
    let fire = fixture.fires(&armed).await;
    let late = lateness_ms(&armed.fire_at, fire.arrived);
    assert!(late < 60_000.0, "{late} ms late");
    if E::HOSTED {
        assert!(late >= 1_000.0, "{late} ms: before the engine's grace was over");
        assert_eq!(fixture.missed().await, 1);
        let ok = fixture.counted("nas_cron_backend_calls_total", "result=\"ok\"").await;
        assert_eq!(ok, 0, "nobody was told");
    }
}

pub async fn a_one_shot_cancelled_while_the_backend_is_down_never_fires<E: Engine>() {
    let mut fixture = Fixture::<E>::start().await;
    let armed = fixture.arm("job", E::LONG_LEAD).await;
    fixture.handed_over().await;
    fixture.engine.down(&fixture.cluster.pool).await;
    fixture.cancel("job").await;
    fixture.engine.up().await;
    armed.over_by(1_000).await;
    fixture.nothing_left().await;
    assert_eq!(fixture.cluster.agents.fires().len(), 0);
    assert_eq!(fixture.attempts_of("job").await.len(), 0);
}
