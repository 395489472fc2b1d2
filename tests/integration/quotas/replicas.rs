//! Several replicas: each counts for itself.

use nas_cron_testing::service::Service;
use nas_cron_testing::time::fire_at;

use super::{armed, world};

const QUOTA: i64 = 80;

#[tokio::test]
async fn further_replica_exceeds_the_quota_by_at_most_an_eighth() {
    let world = world(80, 1_000).await;
    let second = Service::start(&world.settings).await;
    let (at, callback) = (fire_at(3_600_000), world.callback());
    let provision = async |service: &Service, job: String| {
        service.try_provision(&world.token, &job, &at, &callback).await.0
    };
    let provisions = (0..2 * QUOTA).map(|number| {
        let service = if number % 2 == 0 { &world.service } else { &second };
        provision(service, format!("job-{number}"))
    });
    let statuses = futures::future::join_all(provisions).await;
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let armed = armed(&world).await;
    assert!((QUOTA..=QUOTA + QUOTA / 8).contains(&armed), "{armed} are armed");
    // What another replica has armed counts.
    for (number, service) in [&world.service, &second].into_iter().enumerate() {
        nas_cron_testing::world::eventually("the replica refuses", async || {
            (provision(service, format!("late-{number}")).await == 429).then_some(())
        })
        .await;
    }
}
