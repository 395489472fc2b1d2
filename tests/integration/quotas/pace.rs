//! An agent that calls in a loop loses nothing, and others are served (docs/contract.md#pace-of-calls).

use futures::{StreamExt, stream};
use nas_cron_testing::world::World;

use super::{arm, armed};

/// Calls of the agent in a loop: more than its burst. A slow machine does not exceed its pace.
const CALLS: usize = 600;

#[tokio::test]
async fn agent_in_a_loop_loses_nothing_and_others_are_served() {
    let world = World::new().await;
    let healthy = world.instance("healthy").await;
    let provisions = (0..CALLS).map(|number| {
        let (world, token) = (&world, &world.token);
        async move { arm(world, token, &format!("job-{number}")).await.0 }
    });
    let flood = stream::iter(provisions).buffer_unordered(200).collect::<Vec<_>>();
    let others = async {
        let mut statuses = Vec::new();
        for job in ["a", "b", "c", "d", "e"] {
            statuses.push(arm(&world, &healthy, job).await.0);
        }
        statuses
    };
    let (statuses, others) = futures::join!(flood, others);
    assert!(statuses.iter().all(|status| *status == 200), "delayed at most: {statuses:?}");
    assert_eq!(others, [200; 5]);
    assert_eq!(usize::try_from(armed(&world).await).unwrap(), CALLS + 5);
    let page = world.service.metrics().await;
    assert!(page.contains("\nnas_cron_paced_calls_total{result=\"refused\"} 0\n"), "{page}");
}
