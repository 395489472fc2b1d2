//! Wake-ups that arrive twice, too early, too late or never, and one-shots that are superseded or cancelled.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::{fire_at, instant, lateness_ms, now};

use super::backends::TestedBackend;
use super::fixture::{FAR, Fixture};

pub async fn the_same_key_again_changes_nothing<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    let armed = fixture.arm("job", B::LEAD).await;
    for _ in 0..3 {
        assert_eq!(fixture.arm_at("job", &armed.fire_at).await.schedule_id, armed.schedule_id);
    }
    fixture.fires_on_time(&armed).await;
    fixture.woken_by_the_backend(1).await;
    fixture.nothing_left().await;
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
}

pub async fn a_new_key_supersedes_and_only_it_fires<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    // The superseded wake-up is cancelled long before it is due.
    for millis in [FAR, FAR + 1_000, FAR + 2_000] {
        fixture.arm("far", millis).await;
        assert_eq!(fixture.handed_over().await, usize::from(B::EXTERNAL));
    }
    fixture.cancel("far").await;
    fixture.nothing_left().await;
    let old = fixture.arm("job", B::LONG_LEAD).await;
    fixture.handed_over().await;
    let new = fixture.arm("job", B::LONG_LEAD + 500).await;
    assert_ne!(new.schedule_id, old.schedule_id);
    fixture.fires_on_time(&new).await;
    fixture.woken_by_the_backend(1).await;
    fixture.nothing_left().await;
    let attempts = fixture.attempts_of("job").await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].schedule_id.to_string(), new.schedule_id);
}

pub async fn concurrent_wake_ups_of_one_one_shot_fire_once<B: TestedBackend>() {
    let fixture = Fixture::<B>::with(2, |settings| settings).await;
    fixture.cluster.agents.answer(|_, _| Reply::accepted().after(Duration::from_millis(300)));
    let armed = fixture.arm("job", FAR).await;
    fixture.handed_over().await;
    fixture.pull(&armed).await;
    tokio::join!(fixture.wake(&armed), fixture.wake(&armed), fixture.wake(&armed), fixture.wake(&armed));
    fixture.cluster.agents.wait_for("job", 1).await;
    fixture.delivered("job").await;
    fixture.brought(4).await;
    assert_eq!(fixture.cluster.agents.fires_of("job").len(), 1);
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
    fixture.woken_by_the_backend(4).await;
    if B::EXTERNAL {
        assert_eq!(fixture.counted("nas_cron_wake_ups_total", "result=\"taken\"").await, 1);
    }
}

pub async fn a_repeated_wake_up_fires_once<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    let armed = fixture.arm("job", B::LEAD).await;
    fixture.fires_on_time(&armed).await;
    fixture.wake(&armed).await;
    fixture.found("delivered", 1).await;
    // Also after the job was armed again.
    let next = fixture.arm("job", FAR).await;
    fixture.wake(&armed).await;
    fixture.found("delivered", 2).await;
    assert_eq!(fixture.cluster.agents.fires_of("job").len(), 1);
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
    assert_eq!(fixture.listed().await, ["job"]);
    assert_eq!(fixture.handed_over().await, usize::from(B::EXTERNAL), "{next:?} is still to be woken");
}

pub async fn a_lost_wake_up_is_fired_by_the_watchdog<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::watched("1s").await;
    let armed = fixture.arm("job", B::LONG_LEAD).await;
    fixture.handed_over().await;
    fixture.backend.forget(&fixture.cluster.pool).await;
    let fire = fixture.fires(&armed).await;
    let late = lateness_ms(&armed.fire_at, fire.arrived);
    assert!(late < 60_000.0, "{late} ms late");
    if B::EXTERNAL {
        assert!(late >= 1_000.0, "{late} ms: before the end of the grace period");
        assert_eq!(fixture.missed().await, 1);
        assert!(fixture.service().log().contains("external backend missed wake-ups"), "and it is said");
    }
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
}

pub async fn a_wake_up_for_a_superseded_schedule_fires_nothing<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    let old = fixture.arm("job", FAR).await;
    let new = fixture.arm("job", FAR + 1_000).await;
    fixture.wake(&old).await;
    fixture.found("superseded", 1).await;
    assert_eq!(fixture.attempts_of("job").await.len(), 0);
    fixture.handed_over().await;
    fixture.pull(&new).await;
    fixture.wake(&old).await;
    fixture.found("superseded", 2).await;
    fixture.wake(&new).await;
    fixture.cluster.agents.wait_for("job", 1).await;
    fixture.delivered("job").await;
    let attempts = fixture.attempts_of("job").await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].schedule_id.to_string(), new.schedule_id);
    fixture.woken_by_the_backend(3).await;
}

/// However early its wake-up arrives, a one-shot fires at its instant, without the backend.
pub async fn a_wake_up_long_before_its_time_does_not_fire_early<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::start().await;
    let armed = fixture.arm("job", B::LONG_LEAD).await;
    fixture.wake(&armed).await;
    fixture.brought(1).await;
    fixture.backend.down(&fixture.cluster.pool).await;
    fixture.fires_on_time(&armed).await;
    assert_eq!(fixture.missed().await, 0);
}

pub async fn a_cancelled_one_shot_never_fires_and_its_wake_up_is_removed<B: TestedBackend>() {
    let fixture = Fixture::<B>::start().await;
    fixture.arm("far", FAR).await;
    assert_eq!(fixture.handed_over().await, usize::from(B::EXTERNAL));
    fixture.cancel("far").await;
    // It was cancelled and did not arrive: it is due in an hour.
    fixture.nothing_left().await;
    let armed = fixture.arm("job", B::LONG_LEAD).await;
    assert_eq!(fixture.handed_over().await, usize::from(B::EXTERNAL));
    fixture.cancel("job").await;
    fixture.nothing_left().await;
    fixture.wake(&armed).await;
    fixture.found("gone", 1).await;
    armed.over_by(1_000).await;
    assert_eq!(fixture.attempts_of("job").await.len(), 0);
    assert_eq!(fixture.cluster.agents.fires().len(), 0);
}

/// Either the cancel is answered first, and nothing starts, or one attempt started before the answer.
pub async fn a_cancel_around_the_instant_is_never_followed_by_an_attempt<B: TestedBackend>() {
    const OFFSETS: [i64; 12] = [-40, -20, -10, -5, -3, -2, -1, 0, 1, 3, 6, 12];
    let fixture = Fixture::<B>::start().await;
    let mut all = Vec::new();
    for (number, offset) in OFFSETS.into_iter().enumerate() {
        let spread = i64::try_from(number).unwrap() * 130;
        all.push((
            fixture.arm_at(&format!("job-{number}"), &fire_at(B::LEAD + 1_500 + spread)).await,
            offset,
        ));
    }
    let cancelling = all.iter().map(async |(armed, offset)| {
        let at = instant(&armed.fire_at) + chrono::TimeDelta::milliseconds(*offset);
        tokio::time::sleep((at - now()).to_std().unwrap_or_default()).await;
        fixture.cancel(&armed.job).await;
        now()
    });
    let cancelled = futures::future::join_all(cancelling).await;
    fixture.nothing_left().await;
    // Attempts that started before the answer end.
    fixture.cluster.until_none("SELECT count(*) FROM superseded_attempts").await;
    let mut started = 0;
    for ((armed, offset), cancelled) in all.iter().zip(cancelled) {
        let attempts = fixture.attempts_of(&armed.job).await;
        assert!(attempts.len() <= 1, "{attempts:?}");
        assert_eq!(fixture.cluster.agents.fires_of(&armed.job).len(), attempts.len());
        for attempt in attempts {
            started += 1;
            assert!(
                attempt.started_at <= cancelled,
                "after its cancel at {offset} ms was answered: {attempt:?}"
            );
            assert!(attempt.started_at >= instant(&armed.fire_at), "early: {attempt:?}");
        }
    }
    println!("{started} of {} had started before their cancels", OFFSETS.len());
    assert_eq!(fixture.listed().await, [""; 0]);
    assert_eq!(fixture.missed().await, 0);
}
