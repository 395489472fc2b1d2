//! Restarts of the service, and replicas that take over.

use nas_cron_testing::world::eventually;

use super::backends::TestedBackend;
use super::fixture::{Armed, FAR, Fixture};

const JOBS: i64 = 8;

async fn armed<B: TestedBackend>(fixture: &Fixture<B>) -> Vec<Armed> {
    let mut all = Vec::new();
    for number in 0..JOBS {
        all.push(fixture.arm(&format!("job-{number}"), B::LEAD + 1_000 + number * 250).await);
    }
    fixture.handed_over().await;
    all
}

/// Asserts that every one-shot is delivered once, and none early. (An attempt in flight when its replica was killed has
/// no known end and is repeated: at least once, on every backend.)
async fn all_fire<B: TestedBackend>(fixture: &Fixture<B>, all: &[Armed]) {
    fixture.cluster.all_delivered().await;
    for armed in all {
        let attempts = fixture.attempts_of(&armed.job).await;
        let delivered = attempts.iter().filter(|attempt| attempt.outcome == "delivered").count();
        assert_eq!(delivered, 1, "{attempts:?}");
        assert!(
            attempts.iter().all(|attempt| matches!(attempt.outcome.as_str(), "delivered" | "lost")),
            "{attempts:?}"
        );
        for fire in fixture.cluster.agents.fires_of(&armed.job) {
            assert!(nas_cron_testing::time::lateness_ms(&armed.fire_at, fire.arrived) >= 0.0, "{fire:?}");
        }
    }
}

pub async fn every_one_shot_fires_when_the_service_is_killed_and_restarted<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::watched("3s").await;
    let all = armed(&fixture).await;
    let mut old = fixture.cluster.replicas.remove(0);
    old.kill9();
    fixture.grow().await;
    all_fire(&fixture, &all).await;
}

pub async fn every_one_shot_fires_when_the_service_is_stopped_and_restarted<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::watched("3s").await;
    let all = armed(&fixture).await;
    let old = fixture.cluster.replicas.remove(0);
    assert_eq!(old.stop().await.code(), Some(0));
    fixture.grow().await;
    all_fire(&fixture, &all).await;
    assert!(
        fixture.cluster.attempts().await.iter().all(|attempt| attempt.outcome == "delivered"),
        "nothing is lost"
    );
}

pub async fn every_one_shot_fires_when_one_of_two_replicas_is_killed<B: TestedBackend>() {
    let mut fixture = Fixture::<B>::with(2, |settings| settings.with("NAS_CRON_WATCHDOG_GRACE", "3s")).await;
    let all = armed(&fixture).await;
    fixture.cluster.replicas[0].kill9();
    fixture.cluster.replicas.remove(0);
    all_fire(&fixture, &all).await;
}

/// A draining replica still answers, but claims nothing: the other replica fires the one-shots of its wake-ups.
pub async fn wake_ups_at_a_draining_replica_are_fired_by_another<B: TestedBackend>() {
    let fixture = Fixture::<B>::with(2, |settings| settings.with("NAS_CRON_DRAIN_DELAY", "1m")).await;
    let armed = fixture.arm("job", FAR).await;
    fixture.handed_over().await;
    let leaving = &fixture.cluster.replicas[..1];
    leaving[0].signal(rustix::process::Signal::TERM);
    eventually("it is draining", async || (leaving[0].get("/readyz").await.0 == 503).then_some(())).await;
    // The backend still calls the draining replica.
    fixture.backend.serve(leaving);
    fixture.pull(&armed).await;
    fixture.wake(&armed).await;
    fixture.cluster.agents.wait_for("job", 1).await;
    fixture.delivered("job").await;
    assert_eq!(fixture.attempts_of("job").await.len(), 1);
    fixture.woken_by_the_backend(1).await;
}
