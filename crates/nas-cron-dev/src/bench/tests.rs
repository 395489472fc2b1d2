//! The bench against a fake service.

use clap::Parser;

use super::super::dev::dir::DevJson;
use super::super::dev::dir::tests::Scratch;
use super::super::dev::fake_service::{Behaviour, FakeService};
use super::super::dev::portal::{Bearer, DevPortal};
use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: Bench,
}

fn parse(arguments: &[&str]) -> Result<Bench, clap::Error> {
    Line::try_parse_from(["bench"].iter().chain(arguments)).map(|line| line.bench)
}

/// A small and short run.
fn plan() -> Plan {
    Plan {
        jobs: 20,
        over: Duration::from_millis(100),
        burst: 30,
        slow: 0,
        hang: Duration::from_millis(20),
        concurrency: 8,
        armed: 0,
        lead: Duration::from_millis(200),
        stragglers: Duration::from_secs(20),
    }
}

/// Creates the folder that a `nas-cron dev` with this service would have.
fn folder(service: &FakeService) -> (Scratch, DevPortal) {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let portal = DevPortal::keep(&dir.portal_key(), service.issuer(), Arc::new(SystemClock)).unwrap();
    dir.write_dev_json(&DevJson {
        portal_url: service.issuer(),
        admin_url: service.issuer(),
        jwks_url: service.jwks_url().into(),
        metrics_url: service.metrics_url().into(),
        database_url: String::new(),
        admin_token: "admin".into(),
        agents: Vec::new(),
    })
    .unwrap();
    (scratch, portal)
}

fn bench(scratch: &Scratch, agents: &str) -> Bench {
    parse(&["--dir", scratch.path().to_str().unwrap(), "--agents", agents]).unwrap()
}

#[tokio::test]
async fn bench_measures_a_service_and_cleans_up() {
    let service = FakeService::start().await;
    let (scratch, _) = folder(&service);
    let found = bench(&scratch, "3").measure(&plan(), CancellationToken::new()).await.unwrap().unwrap();
    let Measured { spread, burst, .. } = &found.measured;
    assert_eq!((spread.arrived, spread.early, spread.lost, spread.duplicates), (20, 0, 0, 0));
    assert_eq!((burst.arrived, burst.early, burst.lost, burst.duplicates), (30, 0, 0, 0));
    let Measured { provisions, rearms, cancels, .. } = &found.measured;
    assert_eq!((provisions.count, rearms.count, cancels.count), (30, 30, 30));
    let (arrived, durable) = (found.measured.fires_per_s(), found.measured.durable_fires_per_s().unwrap());
    assert!(arrived >= durable && durable > 0.0, "{arrived} fires/s, {durable} outcomes/s");
    assert!(found.measured.burst.slowest_to_median.unwrap() >= 1.0);
    assert!(provisions.per_s() > 0.0 && rearms.per_s() > 0.0 && !provisions.latency.is_empty());
    assert_eq!((found.verified.good, found.verified.bad, found.strays), (1, 0, 0), "the first of a hundred");
    assert_eq!(service.agents(), (0, 3));
    assert!(service.armed().is_empty());
    assert_eq!(bench(&scratch, "3").report(&found).unwrap(), ExitCode::SUCCESS);
}

#[tokio::test]
async fn bench_uses_a_given_agent_by_its_token() {
    let service = FakeService::start().await;
    let (_scratch, portal) = folder(&service);
    let bearer = Bearer { client_id: "agent:mine", sid: None, org_id: "o" };
    let token = portal.issue_token(bearer, Duration::from_mins(1)).unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token);
    let bench = parse(&["--url", &service.issuer(), "--token", token]).unwrap();
    let found = bench.measure(&plan(), CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!((found.agents, found.measured.spread.arrived, found.verified.good), (1, 20, 1));
    assert!(found.measured.durable.unwrap_err().contains("--metrics-url"));
    assert_eq!(service.agents(), (0, 0), "no agent was registered");
    assert!(service.armed().is_empty());
}

#[tokio::test]
async fn slow_agents_hang_and_are_not_in_the_figures() {
    let service = FakeService::start().await;
    let (scratch, _) = folder(&service);
    let plan = Plan { slow: 2, ..plan() };
    let found = bench(&scratch, "6").measure(&plan, CancellationToken::new()).await.unwrap().unwrap();
    let Measured { spread, burst, rearms, durable, .. } = &found.measured;
    assert_eq!((spread.arrived, spread.lost), (20, 0), "four agents share the lateness phase");
    assert_eq!((burst.arrived, burst.lost, rearms.count), (20, 0, 20), "of 30, ten are of slow agents");
    durable.as_ref().expect("fires that hang do not count");
    assert_eq!(bench(&scratch, "6").report(&found).unwrap(), ExitCode::SUCCESS);
    assert!(service.armed().is_empty());
}

#[tokio::test]
async fn background_is_armed_before_the_phases_and_removed() {
    for with_token in [false, true] {
        let service = FakeService::start().await;
        let (scratch, portal) = folder(&service);
        let bearer = Bearer { client_id: "agent:mine", sid: None, org_id: "o" };
        let token = portal.issue_token(bearer, Duration::from_mins(1)).unwrap();
        let url = service.issuer();
        let given = ["--url", &url, "--token", secrecy::ExposeSecret::expose_secret(&token)];
        let bench = if with_token { parse(&given).unwrap() } else { bench(&scratch, "3") };
        let plan = Plan { armed: 10_001, ..plan() };
        bench.measure(&plan, CancellationToken::new()).await.unwrap().unwrap();
        assert_eq!(service.provisions(), 1 + 10_001 + 30 + 20 + 30 + 30);
        assert!(service.armed().is_empty(), "with a token: {with_token}");
    }
}

#[tokio::test]
async fn deliveries_to_other_agents_make_the_durable_rate_unknown() {
    let service = FakeService::start().await;
    let (scratch, _) = folder(&service);
    let (bench, plan) = (bench(&scratch, "2"), plan());
    let interfere = async {
        // The burst has fired, and the jobs are armed again.
        while service.provisions() < 1 + 30 + 20 + 30 + 1 {
            tokio::task::yield_now().await;
        }
        service.deliver_another();
    };
    let (found, ()) = tokio::join!(bench.measure(&plan, CancellationToken::new()), interfere);
    let durable = found.unwrap().unwrap().measured.durable;
    assert!(durable.unwrap_err().contains("31 deliveries of 30 fires"));
}

#[tokio::test]
async fn unknown_token_is_reported_before_the_load() {
    let service = FakeService::with(Behaviour::Refuses).await;
    let (_scratch, portal) = folder(&service);
    let bearer = Bearer { client_id: "agent:mine", sid: None, org_id: "o" };
    let token = portal.issue_token(bearer, Duration::from_mins(1)).unwrap();
    let bench = parse(&["--url", &service.issuer(), "--token", secrecy::ExposeSecret::expose_secret(&token)])
        .unwrap();
    let error = format!("{:#}", bench.measure(&plan(), CancellationToken::new()).await.unwrap_err());
    assert!(error.contains("check its token") && error.contains("401"), "{error}");
    assert_eq!(service.provisions(), 0);
}

#[tokio::test]
async fn dead_metrics_are_reported_before_the_load() {
    let service = FakeService::start().await;
    let (_scratch, portal) = folder(&service);
    let bearer = Bearer { client_id: "agent:mine", sid: None, org_id: "o" };
    let token = portal.issue_token(bearer, Duration::from_mins(1)).unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token);
    let metrics_url = format!("{}/metric", service.issuer());
    let bench =
        parse(&["--url", &service.issuer(), "--token", token, "--metrics-url", &metrics_url]).unwrap();
    let error = format!("{:#}", bench.measure(&plan(), CancellationToken::new()).await.unwrap_err());
    assert!(error.contains(&metrics_url) && error.contains("404"), "{error}");
    assert_eq!(service.provisions(), 1, "the check's own");
    assert!(service.armed().is_empty());
}

#[tokio::test]
async fn deliveries_of_further_replicas_are_counted_beside_those_of_dev() {
    let (service, other) = (FakeService::start().await, FakeService::start().await);
    let (scratch, _) = folder(&service);
    let dir = scratch.path().to_str().unwrap();
    let with = |url: &str| parse(&["--dir", dir, "--agents", "3", "--metrics-url", url]).unwrap();
    let idle = with(other.metrics_url().as_str());
    let found = idle.measure(&plan(), CancellationToken::new()).await.unwrap().unwrap();
    assert!(found.measured.durable.is_ok(), "{:?}", found.measured.durable);
    let twice = with(service.metrics_url().as_str());
    let found = twice.measure(&plan(), CancellationToken::new()).await.unwrap().unwrap();
    assert!(found.measured.durable.unwrap_err().contains("60 deliveries of 30 fires"));
}

#[tokio::test]
async fn bench_counts_faults() {
    for (behaviour, early, lost, duplicates, bad) in [
        (Behaviour::Early, 50, 0, 0, 0),
        (Behaviour::Silent, 0, 50, 0, 0),
        (Behaviour::WrongAudience, 0, 0, 0, 1),
        (Behaviour::Rewrites, 0, 0, 0, 1),
    ] {
        let service = FakeService::with(behaviour).await;
        let (scratch, _) = folder(&service);
        let plan = Plan {
            stragglers: if behaviour == Behaviour::Silent { Duration::ZERO } else { plan().stragglers },
            ..plan()
        };
        let bench = bench(&scratch, "2");
        let found = bench.measure(&plan, CancellationToken::new()).await.unwrap().unwrap();
        let Measured { spread, burst, .. } = &found.measured;
        assert_eq!(spread.early + burst.early, early, "{behaviour:?}");
        assert_eq!(spread.lost + burst.lost, lost, "{behaviour:?}");
        assert_eq!(spread.duplicates + burst.duplicates, duplicates, "{behaviour:?}");
        assert_eq!(found.verified.bad, bad, "{behaviour:?}");
        assert_eq!(found.first_fault().is_some(), bad > 0);
        assert_eq!(bench.report(&found).unwrap(), ExitCode::FAILURE, "{behaviour:?}");
        assert!(service.armed().is_empty(), "{behaviour:?}");
    }
}

#[tokio::test]
async fn failed_provision_ends_the_bench_which_cleans_up() {
    let service = FakeService::with(Behaviour::Unavailable).await;
    let (scratch, _) = folder(&service);
    let error = bench(&scratch, "4").measure(&plan(), CancellationToken::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("provision failed: the service returned 503"), "{error:#}");
    assert_eq!(service.agents(), (0, 4));
}

#[tokio::test]
async fn interrupted_bench_cleans_up() {
    let service = FakeService::with(Behaviour::Silent).await;
    let (scratch, _) = folder(&service);
    let (bench, plan, interrupted) = (bench(&scratch, "2"), plan(), CancellationToken::new());
    let interrupt = async {
        // After the check, the first two phases are armed: the second waits for fires that do not arrive.
        while service.provisions() < 51 {
            tokio::task::yield_now().await;
        }
        interrupted.cancel();
    };
    let (found, ()) = tokio::join!(bench.measure(&plan, interrupted.clone()), interrupt);
    assert!(found.unwrap().is_none());
    assert!(service.armed().is_empty());
    assert_eq!(service.agents(), (0, 2));
}

#[tokio::test]
async fn unreachable_service_is_reported() {
    let service = FakeService::start().await;
    let (scratch, _) = folder(&service);
    drop(service);
    let error = bench(&scratch, "1").measure(&plan(), CancellationToken::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("is unreachable"), "{error:#}");
}

#[test]
fn target_is_a_folder_or_a_url_with_a_token() {
    let bench = parse(&[]).unwrap();
    assert_eq!(
        (bench.jobs, bench.over, bench.burst, bench.agents),
        (2000, Duration::from_secs(20), 5000, 100)
    );
    let plan = bench.plan();
    assert_eq!((plan.concurrency, plan.slow, plan.armed, plan.hang), (32, 0, 0, Duration::from_secs(30)));
    let plan =
        parse(&["--slow-agents", "2%", "--provision-concurrency", "64", "--armed", "9"]).unwrap().plan();
    assert_eq!((plan.concurrency, plan.slow, plan.armed), (64, 2, 9));
    for wrong in [
        vec!["--url", "http://x"],
        vec!["--token", "t"],
        vec!["--url", "http://x", "--token", "t", "--dir", "d"],
        vec!["--url", "http://x", "--token", "t", "--agents", "2"],
        vec!["--url", "http://x", "--token", "t", "--slow-agents", "1"],
        vec!["--slow-agents", "100%"],
        vec!["--provision-concurrency", "0"],
        vec!["--armed", "-1"],
        vec!["--agents", "0"],
        vec!["--jobs", "0"],
    ] {
        assert!(parse(&wrong).is_err(), "{wrong:?}");
    }
    let bench = parse(&["--url", "http://x", "--token", "SECRET"]).unwrap();
    assert!(!format!("{bench:?}").contains("SECRET"));
}
