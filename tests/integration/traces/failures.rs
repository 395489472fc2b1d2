//! Collectors that fail. None of them delays a fire or a request.

use std::time::{Duration, Instant};

use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::Service;
use nas_cron_testing::world::{World, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::collector::Collector;
use super::reports::{eventually_dropped, metric, warnings};

const DELIVERED: &str = "nas_cron_fires_total{outcome=\"delivered\"} ";
const IN_TIME: &str = "nas_cron_fire_lateness_seconds_bucket{le=\"5\"} ";
const JOBS: usize = 20;
/// Time for a provision on a machine that is busy with other tests: half of what an export may take.
const AT_MOST: Duration = Duration::from_secs(5);

/// Restarts the service with this endpoint, and delivers some jobs. Neither a provision nor a fire waits for an export, which may
/// take 10 s.
async fn serve(world: &mut World, endpoint: &str) {
    world.service.kill9();
    let settings = world.settings.clone().with("NAS_CRON_OTLP_ENDPOINT", endpoint);
    world.service = Service::start(&settings).await;
    for job in 0..JOBS {
        let begun = Instant::now();
        world.arm(&format!("job-{job}"), 500).await;
        assert!(begun.elapsed() < AT_MOST, "a provision took {:?}", begun.elapsed());
    }
    eventually("all jobs are delivered", async || {
        (metric(&world.service, DELIVERED).await == Some(JOBS as u64)).then_some(())
    })
    .await;
    assert_eq!(metric(&world.service, IN_TIME).await, Some(JOBS as u64), "no fire was later than 5 s");
}

/// Starts a receiver of gRPC, which speaks HTTP/2 at once. Returns its URL.
async fn grpc() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 64];
            let _ = stream.read(&mut head).await;
            let settings_frame = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let _ = stream.write_all(&settings_frame).await;
        }
    });
    url
}

#[tokio::test]
async fn collector_that_fails_delays_nothing_and_is_reported_once() {
    let collector = Collector::start().await;
    let mut world = World::new().await;

    serve(&mut world, &collector.endpoint("reject")).await;
    eventually_dropped(&world, "rejected").await;
    // A second export fails, too, and is not worth another line within a minute.
    world.arm("one-more", 0).await;
    let spans = collector.spans().len();
    eventually("another export", async || (collector.spans().len() > spans).then_some(())).await;
    let [warning] = &warnings(&world.service)[..] else { panic!("{:?}", warnings(&world.service)) };
    assert!(warning.contains("status 400 Bad Request: these spans are not welcome"), "{warning}");
    assert!(warning.contains("usually port 4318"), "{warning}");

    serve(&mut world, &collector.endpoint("partial")).await;
    assert!(eventually_dropped(&world, "rejected").await >= 1);
    assert!(metric(&world.service, "nas_cron_spans_exported_total").await > Some(0));

    serve(&mut world, &collector.endpoint("page")).await;
    eventually_dropped(&world, "rejected").await;
    eventually("a warning", async || warnings(&world.service).pop()).await;
    assert!(warnings(&world.service)[0].contains("not that of an OTLP/HTTP receiver"));
}

#[tokio::test]
async fn collector_that_does_not_answer_delays_nothing() {
    let collector = Collector::start().await;
    let mut world = World::new().await;
    serve(&mut world, &collector.endpoint("hang")).await;
    eventually("an export", async || (!collector.exports().is_empty()).then_some(())).await;
    assert_eq!(collector.exports()[0].behaviour, "hang");
    let (status, _) = world.service.get("/healthz").await;
    assert_eq!(status, 200);

    // It answers 503 to the first try and to the four repeats.
    serve(&mut world, &collector.endpoint("busy")).await;
    eventually_dropped(&world, "unavailable").await;
    let tries = collector.exports().iter().filter(|export| export.behaviour == "busy").count();
    assert!(tries >= 5, "{tries} tries");
    let warning = eventually("a warning", async || warnings(&world.service).pop()).await;
    assert!(warning.contains("status 503"), "{warning}");

    serve(&mut world, &grpc().await).await;
    let warning = eventually("a warning", async || warnings(&world.service).pop()).await;
    assert!(warning.contains("not one of gRPC (4317)"), "{warning}");

    let nowhere = format!("http://{}", free_address());
    serve(&mut world, &nowhere).await;
    // An export is under way, or waits for its next try. The stop tries once more, and does not wait for longer.
    world.service.signal(rustix::process::Signal::TERM);
    assert!(world.service.wait().await.success());
}

#[tokio::test]
async fn queued_spans_are_exported_when_the_service_stops() {
    let collector = Collector::start().await;
    let mut world = World::new().await;
    serve(&mut world, &collector.endpoint("accept")).await;
    world.arm("last", 0).await;
    world.agents.wait_for("last", 1).await;
    world.delivered("last").await;
    world.service.signal(rustix::process::Signal::TERM);
    assert!(world.service.wait().await.success());
    collector.span("fire", ("job.id", "last")).await;
}

#[tokio::test]
async fn doctor_reports_what_is_wrong_with_the_collector() {
    let collector = Collector::start().await;
    let world = World::new().await;
    let checked = async |endpoint: &str| {
        let settings = world.settings.clone().with("NAS_CRON_OTLP_ENDPOINT", endpoint);
        let (_, out, _) = settings.run(&["doctor", "--json"]).await;
        let report: serde_json::Value = serde_json::from_str(&out).expect(&out);
        let checks = report["checks"].as_array().expect("checks");
        let line = checks.iter().find(|line| line["check"] == "traces").expect("the check").clone();
        (line["status"].as_str().unwrap().to_owned(), line["found"].as_str().unwrap().to_owned())
    };
    assert_eq!(checked(&collector.endpoint("accept")).await.0, "ok");
    let (status, found) = checked(&collector.endpoint("reject")).await;
    assert_eq!(
        (status.as_str(), found.contains("these spans are not welcome")),
        ("warning", true),
        "{found}"
    );
    let (status, found) = checked(&format!("http://{}", free_address())).await;
    assert_eq!((status.as_str(), found.contains("refused")), ("warning", true), "{found}");

    let (status, found) = checked(&grpc().await).await;
    assert_eq!((status.as_str(), found.contains("does not accept traces")), ("warning", true), "{found}");
}
