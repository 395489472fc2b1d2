//! When.

use chrono::{SecondsFormat, TimeDelta};
use nas_cron_testing::time::fire_at;

use super::engines::Engine;
use super::fixture::{FAR, Fixture, whole_second};

pub async fn it_fires_once_at_its_instant<E: Engine>() {
    let fixture = Fixture::<E>::start().await;
    let armed = fixture.arm("job", E::LEAD).await;
    assert_eq!(fixture.listed().await, ["job"]);
    fixture.fires_on_time(&armed).await;
    fixture.woken_by_the_engine(1).await;
    fixture.nothing_left().await;
    assert_eq!(fixture.listed().await, [""; 0]);
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
}

pub async fn sub_second_times_are_kept<E: Engine>() {
    let fixture = Fixture::<E>::start().await;
    let second = whole_second(4_500);
    let mut all = Vec::new();
    for micros in [0, 1, 999, 123_456, 499_999, 500_000, 500_001, 987_654, 999_999] {
        let at = (second + TimeDelta::microseconds(micros)).to_rfc3339_opts(SecondsFormat::Micros, true);
        all.push(fixture.arm_at(&format!("job-{micros}"), &at).await);
    }
    for armed in &all {
        fixture.fires_on_time(armed).await;
    }
    fixture.woken_by_the_engine(0).await;
    assert_eq!(fixture.cluster.agents.fires().len(), all.len());
}

pub async fn past_times_fire_at_once<E: Engine>() {
    let fixture = Fixture::<E>::start().await;
    for (number, millis) in [0, -1, -1_500, -60_000, -30 * 24 * FAR].into_iter().enumerate() {
        let job = format!("job-{number}");
        let armed = fixture.arm_at(&job, &fire_at(millis)).await;
        let fire = fixture.fires(&armed).await;
        assert_eq!(fixture.attempts_of(&job).await.len(), 1, "{fire:?}");
    }
    assert_eq!(fixture.engine.held().await, 0, "no engine had a part in it");
    assert_eq!(fixture.missed().await, 0);
}

pub async fn a_one_shot_a_year_ahead_is_armed_and_survives_a_restart<E: Engine>() {
    let mut fixture = Fixture::<E>::start().await;
    let armed = fixture.arm("job", 366 * 24 * FAR).await;
    assert_eq!(fixture.listed().await, ["job"]);
    let held = usize::from(E::TAKES_A_YEAR);
    if E::TAKES_A_YEAR {
        assert_eq!(fixture.handed_over().await, held);
    }
    let old = fixture.cluster.replicas.remove(0);
    assert_eq!(old.stop().await.code(), Some(0));
    fixture.grow().await;
    assert_eq!(fixture.listed().await, ["job"]);
    assert_eq!(fixture.engine.held().await, held, "it is not handed over before it is taken");
    fixture.cancel("job").await;
    fixture.nothing_left().await;
    assert_eq!(fixture.cluster.agents.fires_of(&armed.job).len(), 0);
}
