//! The engine is away: it costs seconds, not jobs, and hop 1 does not notice.

use std::time::{Duration, Instant};

use crate::bed::{Armed, Bed};
use crate::engines::Engine;
use crate::support::time::lateness_ms;

/// A provision does not wait for the engine.
async fn arm_quickly<E: Engine>(bed: &Bed<E>, millis: i64) -> Armed {
    let asked = Instant::now();
    let armed = bed.arm("job", millis).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    armed
}

pub async fn the_engine_is_down_while_arming_and_back_in_time<E: Engine>() {
    let mut bed = Bed::<E>::start().await;
    bed.engine.down(&bed.cluster.pool).await;
    let armed = arm_quickly(&bed, 9_000).await;
    if E::HOSTED {
        let failed = async || bed.counted("nas_cron_engine_calls_total", "call=\"arm\"").await > 0;
        crate::support::world::eventually("the engine was called", async || failed().await.then_some(()))
            .await;
        assert_eq!(bed.counted("nas_cron_engine_calls_total", "result=\"ok\"").await, 0);
    }
    bed.engine.up().await;
    // By the engine, since the watchdog would not come: on time, unless the machine was too slow for that.
    bed.fires(&armed).await;
    bed.woken_by_the_engine(1).await;
    bed.nothing_left().await;
}

pub async fn the_engine_is_down_while_arming_and_stays_away<E: Engine>() {
    let mut bed = Bed::<E>::watched("1s").await;
    bed.engine.down(&bed.cluster.pool).await;
    let armed = arm_quickly(&bed, E::LEAD).await;
    let fire = bed.fires(&armed).await;
    let late = lateness_ms(&armed.fire_at, fire.arrived);
    assert!(late < 15_000.0, "{late} ms late");
    if E::HOSTED {
        assert!(late >= 1_000.0, "{late} ms: before the engine's grace was over");
        assert_eq!(bed.missed().await, 1);
        let ok = bed.counted("nas_cron_engine_calls_total", "result=\"ok\"").await;
        assert_eq!(ok, 0, "nobody was told");
    }
}

pub async fn the_engine_is_down_while_cancelling<E: Engine>() {
    let mut bed = Bed::<E>::start().await;
    let armed = bed.arm("job", E::LONG_LEAD).await;
    bed.handed_over().await;
    bed.engine.down(&bed.cluster.pool).await;
    bed.cancel("job").await;
    bed.engine.up().await;
    armed.over_by(1_000).await;
    bed.nothing_left().await;
    assert_eq!(bed.cluster.agents.fires().len(), 0);
    assert_eq!(bed.attempts_of("job").await.len(), 0);
}
