//! The real binary on a cluster of three real NATS servers, one of which is killed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures::StreamExt;
use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::time::{fire_at, instant};
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

/// Number of one-shots that are armed before the kill.
const PENDING: usize = 2_000;
/// Number of one-shots that are provisioned during the kill.
const ARMING: usize = 200;
/// Time until the first one-shot is due, in milliseconds: after all are armed, on almost any machine.
const FIRST_DUE: i64 = 15_000;
const SPREAD: i64 = 10_000;

fn due(i: usize, of: usize) -> i64 {
    FIRST_DUE + SPREAD * i64::try_from(i).unwrap() / i64::try_from(of).unwrap()
}

#[tokio::test]
async fn no_fire_is_lost_early_or_duplicated_when_a_nats_node_is_killed() {
    let mut servers = NatsServers::cluster().await;
    let world = World::with(|settings| {
        settings
            .with("NAS_CRON_BACKEND", "nats")
            .with("NAS_CRON_NATS_URLS", servers.urls().join(","))
            .with("NAS_CRON_NATS_REPLICAS", "3")
            .with("NAS_CRON_ENGINE_TIMEOUT", "5s")
    })
    .await;
    let mut at: HashMap<String, String> = HashMap::new();
    let mut lines = String::new();
    for i in 0..PENDING {
        let (job, fire_at) = (format!("pending-{i}"), fire_at(due(i, PENDING)));
        let line = json!({
            "instance_id": "inst-1", "job_id": job, "fire_at": fire_at, "agent_callback_url": world.callback(),
        });
        let _ = writeln!(lines, "{line}");
        at.insert(job, fire_at);
    }
    let file = std::env::temp_dir().join(format!("nas-cron-{:016x}.jsonl", rand::random::<u64>()));
    std::fs::write(&file, lines).unwrap();
    let (status, _, error) = world.settings.run(&["jobs", "import", file.to_str().unwrap()]).await;
    std::fs::remove_file(&file).unwrap();
    assert!(status.success(), "{error}");
    eventually("nearly all wake-ups are armed", async || {
        let armed: i64 = sqlx::query_scalar("SELECT count(*) FROM wake_ups WHERE state = 'armed'")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        (armed >= i64::try_from(PENDING).unwrap() * 9 / 10).then_some(())
    })
    .await;

    // Kill the leader of the stream during the provisions.
    let leader = servers.leader("NAS_CRON").await;
    let arming = futures::stream::iter(0..ARMING)
        .map(|i| {
            let (world, job, fire_at) = (&world, format!("arming-{i}"), fire_at(due(i, ARMING)));
            async move {
                world.service.provision(&world.token, &job, &fire_at, &world.callback()).await;
                (job, fire_at)
            }
        })
        .buffer_unordered(8);
    let dying = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        servers.kill(leader).await;
    };
    let (armed, ()) = tokio::join!(arming.collect::<Vec<_>>(), dying);
    at.extend(armed);
    assert_eq!(at.len(), PENDING + ARMING);

    eventually("every one-shot has fired", async || (world.agents.fires().len() >= at.len()).then_some(()))
        .await;
    world.all_delivered().await;
    let fires = world.agents.fires();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for fire in &fires {
        *times.entry(&fire.job_id).or_default() += 1;
        assert!(fire.arrived >= instant(&at[&fire.job_id]), "{} early", fire.job_id);
        assert_eq!(fire.fire_at, at[&fire.job_id]);
    }
    assert!(at.keys().all(|job| times.get(job.as_str()) == Some(&1)), "each of {} once", at.len());
    let latest = fires.iter().map(|fire| (fire.arrived - instant(&fire.fire_at)).num_milliseconds()).max();
    let metrics = world.service.metrics().await;
    let counted =
        |name: &str| metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    println!("{} fires, the latest {latest:?} ms late", fires.len());
    println!("{}", counted("nas_cron_wake_ups_total{backend=\"nats\",result=\"taken\"}"));
    println!("{}", counted("nas_cron_backend_misses_total{backend=\"nats\"}"));
}
