//! The times of fires.

use chrono::{SecondsFormat, TimeDelta};
use nas_cron_testing::time::fire_at;

use super::backends::TestedBackend;
use super::fixture::{FAR, Fixture, whole_second};

pub async fn a_one_shot_fires_once_at_its_instant<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    let armed = fixture.arm("job", B::LEAD).await;
    assert_eq!(fixture.listed().await, ["job"]);
    fixture.fires_on_time(&armed).await;
    fixture.woken_by_the_backend(1).await;
    fixture.nothing_left().await;
    assert_eq!(fixture.listed().await, [""; 0]);
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
}

pub async fn sub_second_times_are_kept<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    let second = whole_second(4_500);
    let mut all = Vec::new();
    for micros in [0, 1, 999, 123_456, 499_999, 500_000, 500_001, 987_654, 999_999] {
        let at = (second + TimeDelta::microseconds(micros)).to_rfc3339_opts(SecondsFormat::Micros, true);
        all.push(fixture.arm_at(&format!("job-{micros}"), &at).await);
    }
    for armed in &all {
        fixture.fires_on_time(armed).await;
    }
    fixture.woken_by_the_backend(0).await;
    assert_eq!(fixture.cluster.agents.fires().len(), all.len());
}

pub async fn past_times_fire_at_once<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    for (number, millis) in [0, -1, -1_500, -60_000, -30 * 24 * FAR].into_iter().enumerate() {
        let job = format!("job-{number}");
        let armed = fixture.arm_at(&job, &fire_at(millis)).await;
        let fire = fixture.fires(&armed).await;
        assert_eq!(fixture.attempts_of(&job).await.len(), 1, "{fire:?}");
    }
    assert_eq!(fixture.backend.held().await, 0, "the backend was not involved");
    assert_eq!(fixture.missed().await, 0);
}

pub async fn a_one_shot_a_year_ahead_is_armed_and_survives_a_restart<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::start().await;
    let armed = fixture.arm("job", 366 * 24 * FAR).await;
    assert_eq!(fixture.listed().await, ["job"]);
    let held = usize::from(B::TAKES_A_YEAR);
    if B::TAKES_A_YEAR {
        assert_eq!(fixture.handed_over().await, held);
    }
    let old = fixture.cluster.replicas.remove(0);
    assert_eq!(old.stop().await.code(), Some(0));
    fixture.grow().await;
    assert_eq!(fixture.listed().await, ["job"]);
    assert_eq!(fixture.backend.held().await, held, "it is armed only where the backend accepts it");
    fixture.cancel("job").await;
    fixture.nothing_left().await;
    assert_eq!(fixture.cluster.agents.fires_of(&armed.job).len(), 0);
}
