//! Several replicas: each counts for itself.

use futures::{StreamExt, stream};
use nas_cron_testing::service::Service;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;

use super::{armed, world};

const QUOTA: i64 = 80;
/// Concurrent provisions: a replica does not see those that another one is storing.
const IN_FLIGHT: usize = 8;

#[tokio::test]
async fn further_replica_exceeds_the_quota_by_little_and_counts_the_jobs_of_the_first() {
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
    let statuses: Vec<_> = stream::iter(provisions).buffer_unordered(IN_FLIGHT).collect().await;
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let armed = armed(&world).await;
    let beyond = QUOTA / 8 + i64::try_from(IN_FLIGHT).unwrap();
    assert!((QUOTA..=QUOTA + beyond).contains(&armed), "{armed} are armed");
    for (number, service) in [&world.service, &second].into_iter().enumerate() {
        eventually("the replica refuses", async || {
            (provision(service, format!("late-{number}")).await == 429).then_some(())
        })
        .await;
    }
}
