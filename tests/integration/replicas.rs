//! Several replicas on one database: every one-shot fires once, on any replica, even if replicas die.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::agent::{Agents, Fire, Reply};
use nas_cron_testing::cluster::{Attempt, Cluster};
use nas_cron_testing::database::server_options;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::{fire_at, instant, lateness_ms, now};
use nas_cron_testing::world::eventually;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use uuid::Uuid;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns the lateness of each job's first fire in ms.
fn first_lateness(fires: &[Fire]) -> BTreeMap<String, f64> {
    let mut first = BTreeMap::new();
    for fire in fires {
        first.entry(fire.job_id.clone()).or_insert_with(|| lateness_ms(&fire.fire_at, fire.arrived));
    }
    first
}

/// Returns the maximum number of concurrent requests among those that `of` selects.
fn most_at_once(fires: &[Fire], of: impl Fn(&Fire) -> bool) -> usize {
    let mut steps: Vec<(DateTime<Utc>, i32)> = Vec::new();
    for fire in fires.iter().filter(|fire| of(fire)) {
        steps.push((fire.arrived, 1));
        if let Some(answered) = fire.answered {
            steps.push((answered, -1));
        }
    }
    // An end and a start at the same instant do not overlap.
    steps.sort();
    let (mut open, mut most) = (0_i32, 0);
    for (_, step) in steps {
        open += step;
        most = most.max(open);
    }
    usize::try_from(most).unwrap()
}

/// Settings for slow claims without notifications: an idle replica looks for work every 54 s, and a lease that is not given
/// back ends 60 s after its instant.
fn unhurried(settings: Settings) -> Settings {
    settings.with("NAS_CRON_LEASE_HORIZON", "60s").with("NAS_CRON_LEASE_GRACE", "60s")
}

/// Maximum lateness of a fire with these settings, also on a busy machine.
const HURRIED_MS: f64 = 30_000.0;

async fn sleep_until(at: DateTime<Utc>) {
    tokio::time::sleep((at - now()).to_std().unwrap_or_default()).await;
}

fn text_of(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

/// The plan for one job of the large run.
#[derive(Clone, Debug)]
struct Plan {
    agent: usize,
    job: String,
    at: DateTime<Utc>,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    Nothing,
    Cancelled { when: DateTime<Utc> },
    Superseded { when: DateTime<Utc>, by: DateTime<Utc> },
}

/// An arm and its end, as its caller saw them.
#[derive(Clone, Debug)]
struct Arm {
    job: String,
    fire_at: String,
    /// Time of the response that ended it.
    ended: Option<DateTime<Utc>>,
}

const AGENTS: usize = 20;
const JOBS: usize = 2_000;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the agents' response to a first attempt in the large run. Second attempts are always accepted.
fn answer(fire: &Fire, before: usize) -> Reply {
    if before > 0 {
        return Reply::accepted();
    }
    // By the job's number, so that every run is the same.
    match fire.job_id.trim_start_matches("job-").parse::<u32>().unwrap_or_default() % 40 {
        0 | 1 => Reply::status(500),
        2 => Reply::busy("1"),
        3 => Reply::accepted().after(ms(700)),
        4 => Reply::broken(),
        5 => Reply::broken().after(ms(100)),
        // Later than the timeout, so that the attempt ends ambiguously.
        6 => Reply::accepted().after(ATTEMPT_TIMEOUT + ms(200)),
        7 => Reply::gone(),
        _ => Reply::accepted(),
    }
}

fn plans(seed: u64, start: DateTime<Utc>) -> Vec<Plan> {
    let mut dice = StdRng::seed_from_u64(seed);
    let after = |millis: i64| TimeDelta::milliseconds(millis);
    (0..JOBS)
        .map(|number| {
            let at = start + after(dice.random_range(0..5_000));
            let when = at + after(dice.random_range(-1_500..150));
            Plan {
                agent: number % AGENTS,
                job: format!("job-{number}"),
                at,
                then: match dice.random_range(0..100) {
                    0..12 => Then::Cancelled { when },
                    12..30 => {
                        Then::Superseded { when, by: at.max(when) + after(dice.random_range(0..1_500)) }
                    }
                    _ => Then::Nothing,
                },
            }
        })
        .collect()
}

/// docs/contract.md#invariants 2 to 5, with a replica killed half-way.
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_one_of_2000_one_shots_is_accounted_for_when_a_replica_is_killed() {
    const SEED: u64 = 20_261_122;
    let mut cluster = Cluster::start(3, |settings| {
        settings
            .with("NAS_CRON_RETRY_DEFINITE_BASE", "100ms")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "500ms")
            .with("NAS_CRON_RETRY_CAP", "2s")
            .with("NAS_CRON_CONNECT_TIMEOUT", "1s")
            .with("NAS_CRON_FIRE_TIMEOUT", "2s")
            .with("NAS_CRON_LEASE_MARGIN", "5s")
            .with("NAS_CRON_FIRE_FLOOR", "100ms")
            .with("NAS_CRON_LOG_FILTER", "warn,nas_cron::app=info")
    })
    .await;
    cluster.agents.answer(answer);
    let mut tokens = Vec::new();
    for agent in 0..AGENTS {
        tokens.push(cluster.agent(&format!("inst-{agent}")).await);
    }
    let callbacks: Vec<_> =
        (0..AGENTS).map(|agent| cluster.agents.callback(&format!("inst-{agent}"))).collect();

    let mut victim = cluster.replicas.pop().unwrap();
    // The first two hundred are due at once. The second hundred measures the time that this machine needs to arm the
    // others; the first one also opens connections.
    let mut arms: HashMap<Uuid, Arm> = HashMap::new();
    let mut took = Duration::ZERO;
    for hundred in [0, 100] {
        let begun = std::time::Instant::now();
        let warm_up = (hundred..hundred + 100).map(|number| {
            let (job, at, agent) = (format!("job-{}", JOBS + number), fire_at(0), number % AGENTS);
            let (service, token, callback) =
                (&cluster.replicas[number % 2], &tokens[agent], &callbacks[agent]);
            async move {
                let schedule = service.provision(token, &job, &at, callback).await.parse().unwrap();
                (schedule, Arm { job, fire_at: at, ended: None })
            }
        });
        arms.extend(futures::stream::iter(warm_up).buffer_unordered(24).collect::<Vec<(Uuid, Arm)>>().await);
        took = begun.elapsed();
    }
    let arranging = took * u32::try_from(JOBS / 100).unwrap() * 3 / 2;
    let start = now() + TimeDelta::seconds(8) + TimeDelta::from_std(arranging).unwrap();
    println!("everything is due from {:.1} s on", (start - now()).as_seconds_f64());
    let kill_at = start + TimeDelta::milliseconds(2_500);
    // Armed through all three replicas before anything is due, and changed through the two that survive.
    let (first, second) = (&cluster.replicas[0], &cluster.replicas[1]);
    let (slots, armed) = (tokio::sync::Semaphore::new(24), AtomicUsize::new(0));
    let mut running: FuturesUnordered<_> = plans(SEED, start)
        .into_iter()
        .enumerate()
        .map(|(number, plan)| {
            let (token, callback) = (&tokens[plan.agent], &callbacks[plan.agent]);
            let (slots, armed) = (&slots, &armed);
            let arrange = [first, second, &victim][number % 3];
            let change = [first, second][number % 2];
            async move {
                // The permit limits arming, not the wait for the time of a change.
                let permit = slots.acquire().await.unwrap();
                let at = text_of(plan.at);
                let schedule = arrange.provision(token, &plan.job, &at, callback).await.parse().unwrap();
                let mut arms = vec![(schedule, Arm { job: plan.job.clone(), fire_at: at, ended: None })];
                drop(permit);
                armed.fetch_add(1, Ordering::SeqCst);
                match plan.then {
                    Then::Nothing => {}
                    Then::Cancelled { when } => {
                        sleep_until(when).await;
                        change.cancel(token, &plan.job).await;
                        arms[0].1.ended = Some(now());
                    }
                    Then::Superseded { when, by } => {
                        sleep_until(when).await;
                        let by = text_of(by);
                        let schedule =
                            change.provision(token, &plan.job, &by, callback).await.parse().unwrap();
                        arms[0].1.ended = Some(now());
                        arms.push((schedule, Arm { job: plan.job.clone(), fire_at: by, ended: None }));
                    }
                }
                arms
            }
        })
        .collect();
    // A machine that has become slow meanwhile may still be arming through the victim.
    let mut kill = std::pin::pin!(async {
        sleep_until(kill_at).await;
        while armed.load(Ordering::SeqCst) < JOBS {
            tokio::time::sleep(ms(20)).await;
        }
    });
    let mut killed = false;
    loop {
        tokio::select! {
            () = &mut kill, if !killed => {
                killed = true;
                rustix::process::kill_process(
                    rustix::process::Pid::from_raw(i32::try_from(victim.pid()).unwrap()).unwrap(),
                    Signal::KILL,
                )
                .unwrap();
            }
            done = running.next() => match done {
                Some(of_job) => arms.extend(of_job),
                None => break,
            },
        }
    }
    drop(running);
    victim.kill9();
    cluster.all_delivered().await;

    let fires = cluster.agents.fires();
    let attempts = cluster.attempts().await;
    judge(&arms, &fires, &attempts);
    // All lists are empty.
    for token in &tokens {
        let listed = cluster.replicas[0].list(token).await;
        assert_eq!(listed["armed"].as_array().map(Vec::len), Some(0), "{listed}");
        assert_eq!(listed["dead"].as_array().map(Vec::len), Some(0), "{listed}");
    }
}

/// Checks all rules for all arms.
fn judge(arms: &HashMap<Uuid, Arm>, fires: &[Fire], attempts: &[Attempt]) {
    let mut of_schedule: HashMap<Uuid, Vec<&Attempt>> = HashMap::new();
    for attempt in attempts {
        assert!(arms.contains_key(&attempt.schedule_id), "an attempt without an arm: {attempt:?}");
        of_schedule.entry(attempt.schedule_id).or_default().push(attempt);
    }
    let mut arrived: HashMap<(&str, &str), Vec<&Fire>> = HashMap::new();
    for fire in fires {
        arrived.entry((&fire.job_id, &fire.fire_at)).or_default().push(fire);
    }
    let (mut delivered, mut lost, mut in_flight_at_its_end, mut latest) = (0, 0, 0, 0.0_f64);
    for (schedule, arm) in arms {
        let attempts = of_schedule.remove(schedule).unwrap_or_default();
        let fires = arrived.remove(&(arm.job.as_str(), arm.fire_at.as_str())).unwrap_or_default();
        let due = instant(&arm.fire_at);
        let with = |outcome: &str| attempts.iter().filter(|attempt| attempt.outcome == outcome).count();
        // Ended one-shots are not recovered: the history of their attempts is closed after ten minutes.
        let abandoned = if arm.ended.is_some() { with("started") } else { 0 };
        let lost_here = with("lost") + abandoned;
        lost += lost_here;

        // Every expected fire exactly once, as far as that is known.
        let accepted = with("delivered") + with("gone");
        if arm.ended.is_none() {
            assert_eq!(accepted, 1, "{arm:?}: {attempts:#?}");
            delivered += 1;
        } else {
            assert!(accepted <= 1, "{arm:?}: {attempts:#?}");
        }
        assert_eq!(with("started"), abandoned, "an attempt without an end: {arm:?}: {attempts:#?}");
        if let Some(last) = attempts.last()
            && accepted == 1
        {
            assert!(
                matches!(last.outcome.as_str(), "delivered" | "gone"),
                "an attempt after the delivery: {attempts:#?}"
            );
        }

        // The agents saw the attempts of the history; a lost attempt may not have been sent.
        let (most, least) = (attempts.len(), attempts.len() - lost_here);
        assert!((least..=most).contains(&fires.len()), "{arm:?}: {fires:#?} against {attempts:#?}");

        // No attempt is early, by the agents and by the history.
        for fire in &fires {
            assert!(fire.arrived >= due, "{arm:?} arrived early: {fire:?}");
            assert_eq!(fire.agent, attempts[0].instance_id);
        }
        for attempt in &attempts {
            assert!(attempt.started_at >= due, "{arm:?} started early: {attempt:?}");
        }
        if let Some(first) = fires.first() {
            latest = latest.max(lateness_ms(&arm.fire_at, first.arrived));
        }

        // No attempt started after the response of its cancel or supersede.
        if let Some(ended) = arm.ended {
            for attempt in &attempts {
                assert!(attempt.started_at <= ended, "{arm:?} started after its end: {attempt:?}");
            }
            in_flight_at_its_end +=
                attempts.iter().filter(|a| a.ended_at.is_some_and(|at| at > ended)).count();
            assert!(fires.len() <= attempts.len(), "{arm:?}: {fires:#?}");
        }

        // No two attempts overlap, by the history and by the agents.
        for pair in attempts.windows(2) {
            assert!(pair[0].ended_at.is_some_and(|end| end <= pair[1].started_at), "overlap: {pair:#?}");
        }
        // (A request of an attempt that has timed out may reach a busy agent after its end.)
        if fires.len() == attempts.len() {
            for (attempt, next) in attempts.iter().zip(fires.iter().skip(1)) {
                assert!(
                    attempt.ended_at.is_some_and(|end| end <= next.arrived),
                    "overlap at the agent: {attempt:#?} and {next:#?}"
                );
            }
        }

        // No attempt after a 2xx in time, unless the replica that received it was killed. (A response that a busy agent
        // sent in time may have arrived too late for its attempt.)
        let timed_out = attempts
            .iter()
            .any(|attempt| attempt.ended_at.is_some_and(|end| end >= attempt.started_at + ATTEMPT_TIMEOUT));
        for again in fires.iter().skip(1) {
            let number: u32 = again.job_id.trim_start_matches("job-").parse().unwrap();
            let accepts_at_first = !matches!(number % 40, 0..=2 | 4..=6);
            // (The behaviour counts a job's fires over all its arms.)
            let first_of_job = fires[0].arrived <= again.arrived;
            assert!(
                !(accepts_at_first && first_of_job) || lost_here > 0 || timed_out,
                "twice after a 2xx: {fires:#?} {attempts:#?}"
            );
        }
    }
    assert!(of_schedule.is_empty() && arrived.is_empty(), "fires without an arm: {arrived:#?}");
    println!(
        "{} arms, {delivered} to be delivered, {} attempts, {} arrivals, {lost} lost with the killed replica, \
         {in_flight_at_its_end} were in flight when their arm ended, the latest by {latest:.0} ms",
        arms.len(),
        attempts.len(),
        fires.len(),
    );
    // One-shots leased by the killed replica are late by 3 s of lease and one query; the rest is the test machine.
    assert!(latest <= 60_000.0, "{latest} ms late");
    assert!(lost > 0 || latest > 1_000.0, "the kill had no effect");
}

/// docs/ARCHITECTURE.md#replicas: readiness fails at once, the agent API is still served, claims stop, attempts in flight
/// finish.
#[tokio::test]
async fn draining_replica_hands_over_its_leases_and_finishes_its_attempts() {
    let mut cluster = Cluster::start(2, |settings| {
        unhurried(settings).with("NAS_CRON_DRAIN_DELAY", "10s").with("NAS_CRON_FIRE_TIMEOUT", "90s")
    })
    .await;
    let token = cluster.agent("inst-1").await;
    let slow = cluster.agent("slow").await;
    cluster.agents.answer(|fire, _| match fire.agent.as_str() {
        "slow" => Reply::accepted().after(ms(14_000)),
        _ => Reply::accepted(),
    });
    let (url, slow_url) = (cluster.agents.callback("inst-1"), cluster.agents.callback("slow"));
    let mut leaving = cluster.replicas.remove(0);
    // Both replicas start slow attempts, and hold leases of many more one-shots.
    for number in 0..16 {
        leaving.provision(&slow, &format!("slow-{number}"), &fire_at(700), &slow_url).await;
    }
    cluster.agents.wait_until("all slow ones", |fires| fires.len() == 16).await;
    assert!(
        gauge(&leaving.metrics().await, "nas_cron_attempts_in_flight") > 0.0,
        "it has attempts in flight"
    );
    for number in 0..40 {
        leaving.provision(&token, &format!("soon-{number}"), &fire_at(800 + number * 20), &url).await;
    }
    leaving.signal(Signal::TERM);
    let asked = std::time::Instant::now();
    while leaving.get("/readyz").await.0 != 503 {}
    // Agents are still served, and the other replica learns of new one-shots.
    for number in 0..15 {
        leaving.provision(&token, &format!("through-{number}"), &fire_at(150), &url).await;
        tokio::time::sleep(ms(50)).await;
    }
    let status = leaving.wait().await;
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() > ms(10_000), "it waited for the load balancers: {:?}", asked.elapsed());
    cluster.all_delivered().await;
    let attempts = cluster.attempts().await;
    assert_eq!(attempts.len(), 16 + 40 + 15, "one attempt for each");
    assert!(attempts.iter().all(|attempt| attempt.outcome == "delivered"), "{attempts:#?}");
    for (job, late) in first_lateness(&cluster.agents.fires()) {
        assert!((0.0..HURRIED_MS).contains(&late), "{job}: {late} ms late");
    }
    assert!(!leaving.log().contains("shutdown timed out"), "{}", leaving.log());
}

/// Also without a drain delay, one-shots that had not started are claimed by another replica at once, not when their
/// leases end.
#[tokio::test]
async fn leases_of_a_stopping_replica_are_given_back() {
    let mut cluster = Cluster::start(2, unhurried).await;
    let token = cluster.agent("inst-1").await;
    let url = cluster.agents.callback("inst-1");
    let leaving = cluster.replicas.remove(0);
    let at = fire_at(20_000);
    let all = (0..60).map(|number| {
        let (leaving, token, at, url) = (&leaving, &token, &at, &url);
        async move { leaving.provision(token, &format!("job-{number}"), at, url).await }
    });
    futures::stream::iter(all).buffer_unordered(16).collect::<Vec<_>>().await;
    cluster.until_none("SELECT count(*) FROM one_shots WHERE state <> 'leased'").await;
    assert_eq!(leaving.stop().await.code(), Some(0));
    cluster.all_delivered().await;
    for (job, late) in first_lateness(&cluster.agents.fires()) {
        assert!((0.0..HURRIED_MS).contains(&late), "{job}: {late} ms late");
    }
    assert_eq!(cluster.attempts().await.len(), 60);
}

fn gauge(metrics: &str, name: &str) -> f64 {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in:\n{metrics}"))
}

#[tokio::test]
async fn a_second_sigterm_ends_a_draining_replica_at_once() {
    let mut cluster = Cluster::start(1, |settings| settings.with("NAS_CRON_DRAIN_DELAY", "10m")).await;
    let mut service = cluster.replicas.pop().unwrap();
    service.signal(Signal::TERM);
    while service.get("/readyz").await.0 != 503 {}
    service.signal(Signal::TERM);
    assert_eq!(service.wait().await.code(), Some(143));
}

/// A draining replica accepts provisions, but claims nothing.
#[tokio::test]
async fn one_shots_armed_at_a_draining_replica_are_fired_by_the_others() {
    let mut cluster =
        Cluster::start(2, |settings| unhurried(settings).with("NAS_CRON_DRAIN_DELAY", "10m")).await;
    let token = cluster.agent("inst-1").await;
    let url = cluster.agents.callback("inst-1");
    let draining = cluster.replicas.remove(0);
    draining.signal(Signal::TERM);
    while draining.get("/readyz").await.0 != 503 {}
    // A look every 54 s would find one of them in time by chance, but not all.
    for number in 0..8 {
        let (job, at) = (format!("job-{number}"), fire_at(150));
        draining.provision(&token, &job, &at, &url).await;
        let fire = cluster.agents.wait_for(&job, 1).await;
        let late = lateness_ms(&at, fire.arrived);
        assert!((0.0..HURRIED_MS).contains(&late), "{job}: {late} ms late");
    }
}

/// docs/contract.md#leases: the lease, by the database and by the monotonic clock.
#[tokio::test]
async fn replica_frozen_past_its_leases_sends_nothing_that_another_replica_took() {
    let mut cluster = Cluster::start(1, |settings| {
        settings
            .with("NAS_CRON_LEASE_HORIZON", "60s")
            .with("NAS_CRON_CONNECT_TIMEOUT", "1s")
            .with("NAS_CRON_FIRE_TIMEOUT", "4s")
            .with("NAS_CRON_LEASE_MARGIN", "1s")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "1s")
    })
    .await;
    let token = cluster.agent("inst-1").await;
    let url = cluster.agents.callback("inst-1");
    let at = fire_at(12_000);
    let all = (0..50).map(|number| {
        let (service, token, at, url) = (&cluster.replicas[0], &token, &at, &url);
        async move { service.provision(token, &format!("leased-{number}"), at, url).await }
    });
    futures::stream::iter(all).buffer_unordered(16).collect::<Vec<_>>().await;
    cluster.until_none("SELECT count(*) FROM one_shots WHERE state <> 'leased'").await;
    // And one attempt in flight, whose response arrives while the replica is frozen.
    cluster.agents.answer(|fire, before| match (fire.job_id.as_str(), before) {
        ("begun", 0) => Reply::accepted().after(ms(3_000)),
        _ => Reply::accepted(),
    });
    cluster.replicas[0].provision(&token, "begun", &fire_at(0), &url).await;
    cluster.agents.wait_for("begun", 1).await;
    cluster.replicas[0].signal(Signal::STOP);
    cluster.grow().await;
    cluster.all_delivered().await;
    assert_eq!(cluster.agents.fires().len(), 52, "the attempt in flight is repeated");
    cluster.replicas[0].signal(Signal::CONT);
    // Until it has noticed the freeze, new calls are dropped like those that waited.
    eventually("it has noticed the freeze", async || {
        let log = cluster.replicas[0].log();
        let mut noticed = log.lines().filter(|line| line.contains("process was frozen"));
        noticed.any(|line| line.contains("\"public\"")).then_some(())
    })
    .await;
    // It works again: it claims and fires.
    cluster.replicas[1].signal(Signal::TERM);
    cluster.replicas[0].provision(&token, "after", &fire_at(1_000), &url).await;
    cluster.agents.wait_for("after", 1).await;
    let fires = cluster.agents.fires();
    assert_eq!(fires.len(), 53, "it sent a fire of a one-shot that another replica took: {fires:#?}");
    for (job, late) in first_lateness(&fires) {
        assert!((0.0..60_000.0).contains(&late), "{job}: {late} ms late");
    }
    // The last fire has arrived; its outcome is recorded a moment later.
    cluster.until_none("SELECT count(*) FROM one_shots WHERE state <> 'delivered'").await;
    assert_eq!(cluster.attempts().await.len(), 53);
}

/// With nothing due: at most one query a second, and almost no CPU.
#[tokio::test]
async fn an_idle_replica_makes_at_most_one_query_a_second() {
    const WATCHED: u64 = 20;
    // A separate server that logs every statement.
    let settings = [("log_statement", "all"), ("log_line_prefix", "%a ")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let server = tokio::task::spawn_blocking(|| {
        PrivatePostgres::start(Options { settings, ..server_options() }).unwrap_or_else(|e| panic!("{e}"))
    })
    .await
    .unwrap();
    let log = server.data_dir().join("postgres.log");
    let statements = || {
        let log = std::fs::read_to_string(&log).unwrap();
        let ours = |line: &&str| {
            line.starts_with("nas-cron LOG:  execute") || line.starts_with("nas-cron LOG:  statement")
        };
        log.lines().filter(ours).count()
    };
    server.create_database("idle").unwrap();
    let url = server.tcp_url("idle").unwrap();
    let cluster = Cluster::start_on(&url, 1, |s| s).await;
    let token = cluster.agent("inst-1").await;
    let url = cluster.agents.callback("inst-1");
    // A one-shot that is due much later.
    cluster.replicas[0].provision(&token, "job-1", &fire_at(3_600_000), &url).await;
    // Long enough for the statements that every connection runs once.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (before, cpu) = (statements(), cpu_ticks(cluster.replicas[0].pid()));
    tokio::time::sleep(Duration::from_secs(WATCHED)).await;
    let (queries, cpu) = (statements() - before, cpu_ticks(cluster.replicas[0].pid()) - cpu);
    println!("{queries} statements and {cpu} ticks of CPU in {WATCHED} s");
    // Two more may fall into the window.
    assert!(queries <= usize::try_from(WATCHED).unwrap() + 2, "{queries} statements in {WATCHED} s");
    assert!(queries >= 5, "it is alive");
    assert!(cpu <= 40, "{cpu} ticks of CPU in {WATCHED} s");
}

/// Returns the user and system time of a process in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A slow agent delays no other, and the limits of attempts in flight hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_agent_delays_no_other_and_in_flight_limits_hold() {
    let cluster = Cluster::start(1, |settings| {
        settings
            .with("NAS_CRON_IN_FLIGHT_MAX", "24")
            .with("NAS_CRON_IN_FLIGHT_PER_INSTANCE", "8")
            .with("NAS_CRON_FIRE_TIMEOUT", "120s")
            .with("NAS_CRON_FIRE_TOKEN_TTL", "120s")
    })
    .await;
    cluster.agents.answer(|fire, _| match fire.agent.as_str() {
        "slow" => Reply::accepted().after(Duration::from_mins(10)),
        agent if agent.starts_with("herd") => Reply::accepted().after(ms(600)),
        _ => Reply::accepted(),
    });
    let service = &cluster.replicas[0];
    let slow = cluster.agent("slow").await;
    let provision = |token: String, job: String, at: String, url: String| async move {
        service.provision(&token, &job, &at, &url).await;
    };
    let mut all = Vec::new();
    for number in 0..300 {
        let url = cluster.agents.callback("slow");
        all.push(provision(slow.clone(), format!("slow-{number}"), fire_at(2_500), url));
    }
    for agent in 0..5 {
        let name = format!("quick-{agent}");
        let token = cluster.agent(&name).await;
        for number in 0..40 {
            let at = fire_at(3_000 + number * 200);
            all.push(provision(
                token.clone(),
                format!("{name}-{number}"),
                at,
                cluster.agents.callback(&name),
            ));
        }
    }
    let herd_at = fire_at(16_000);
    for agent in 0..6 {
        let name = format!("herd-{agent}");
        let token = cluster.agent(&name).await;
        for number in 0..20 {
            let url = cluster.agents.callback(&name);
            all.push(provision(token.clone(), format!("{name}-{number}"), herd_at.clone(), url));
        }
    }
    futures::stream::iter(all).buffer_unordered(16).collect::<Vec<()>>().await;
    cluster
        .until_none("SELECT count(*) FROM one_shots WHERE instance_id <> 'slow' AND state <> 'delivered'")
        .await;
    let fires = cluster.agents.fires();
    let mut latest = 0.0_f64;
    for fire in fires.iter().filter(|fire| fire.agent.starts_with("quick")) {
        let late = lateness_ms(&fire.fire_at, fire.arrived);
        assert!((0.0..60_000.0).contains(&late), "{}: {late} ms late", fire.job_id);
        latest = latest.max(late);
    }
    println!("the latest of the quick ones was late by {latest:.1} ms");
    assert_eq!(most_at_once(&fires, |fire| fire.agent == "slow"), 8);
    for agent in 0..6 {
        let name = format!("herd-{agent}");
        assert!(most_at_once(&fires, |fire| fire.agent == name) <= 8);
    }
    assert_eq!(most_at_once(&fires, |_| true), 24, "exactly the limit");
    assert_eq!(fires.len(), 8 + 200 + 120, "nothing twice");
    // Attempts that got no slot do not count against the retry budget.
    assert_eq!(
        cluster.count("SELECT count(*) FROM one_shots WHERE instance_id = 'slow' AND attempts = 0").await,
        292
    );
}

/// More one-shots than a replica may lease at once: the others are claimed as soon as there is capacity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shots_beyond_the_lease_capacity_still_fire() {
    let cluster = Cluster::start(1, |settings| {
        unhurried(settings).with("NAS_CRON_LEASE_CAPACITY", "10").with("NAS_CRON_IN_FLIGHT_MAX", "10")
    })
    .await;
    let service = &cluster.replicas[0];
    let mut all = Vec::new();
    let at = fire_at(2_500);
    for agent in 0..4 {
        let name = format!("inst-{agent}");
        let token = cluster.agent(&name).await;
        for number in 0..75 {
            let (token, at, url) = (token.clone(), at.clone(), cluster.agents.callback(&name));
            let job = format!("{name}-{number}");
            all.push(async move { service.provision(&token, &job, &at, &url).await });
        }
    }
    futures::stream::iter(all).buffer_unordered(16).collect::<Vec<_>>().await;
    cluster.all_delivered().await;
    let late = first_lateness(&cluster.agents.fires());
    assert_eq!(late.len(), 300);
    let latest = late.values().copied().fold(0.0, f64::max);
    println!("the latest of 300 through a room of 10 was late by {latest:.0} ms");
    // Thirty rounds: each would take 54 s if a replica did not look again by itself.
    assert!(latest < 60_000.0, "{latest} ms");
}

/// docs/contract.md#retries: one probe for an unreachable instance; its success releases the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_agent_is_probed_by_one_one_shot_and_gets_all_fires_when_it_is_back() {
    const DUE: usize = 200;
    let cluster = Cluster::start(2, |settings| {
        settings
            .with("NAS_CRON_RETRY_DEFINITE_BASE", "500ms")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "1s")
            .with("NAS_CRON_RETRY_CAP", "6s")
    })
    .await;
    let token = cluster.agent("inst-1").await;
    // A port without a listener, for now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/inst-1");
    let at = fire_at(2_500);
    let all = (0..DUE).map(|number| {
        let (token, at, url, service) = (&token, &at, &url, &cluster.replicas[number % 2]);
        async move { service.provision(token, &format!("job-{number}"), at, url).await }
    });
    futures::stream::iter(all).buffer_unordered(16).collect::<Vec<_>>().await;
    cluster.until_none("SELECT 3 - LEAST(3, count(*)) FROM fires WHERE attempt > 1").await;
    let parked = "SELECT 199 - count(*) FROM one_shots WHERE parked = 'unreachable'";
    cluster.until_none(parked).await;

    let attempts = cluster.attempts().await;
    let mut of_job: HashMap<&str, Vec<&Attempt>> = HashMap::new();
    for attempt in &attempts {
        of_job.entry(&attempt.job_id).or_default().push(attempt);
    }
    println!("{} jobs were tried, with {} attempts", of_job.len(), attempts.len());
    assert!(of_job.len() <= 2 * 16 + 4, "{} were attempted before the outage was known", of_job.len());
    let probes: Vec<_> = of_job.values().filter(|attempts| attempts.len() > 1).collect();
    let [probe] = probes[..] else { panic!("not one probe: {probes:#?}") };
    for (number, pair) in probe.windows(2).enumerate() {
        let gap = (pair[1].started_at - pair[0].started_at).as_seconds_f64();
        // 0.5 s, doubled per attempt up to two thirds of the cap.
        let least = (0.5 * 2.0_f64.powi(i32::try_from(number).unwrap())).min(4.0);
        assert!(gap >= least, "{gap} s after attempt {number}, not {least} s");
    }

    let agent = Agents::start_at(address).await;
    cluster.all_delivered().await;
    let fires = agent.fires();
    assert_eq!(fires.len(), DUE, "each once");
    assert_eq!(fires[0].job_id, probe[0].job_id, "the probe releases the others");
    assert!(most_at_once(&fires, |_| true) <= 32);
}

/// docs/contract.md#retries: an authenticated call shows that the agent is awake.
#[tokio::test]
async fn a_call_of_the_agent_pulls_its_retries_but_not_before_a_retry_after() {
    let cluster = Cluster::start(1, |s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "10m")).await;
    let token = cluster.agent("inst-1").await;
    let other = cluster.agent("inst-2").await;
    cluster.agents.answer(|fire, before| match (fire.job_id.as_str(), before) {
        ("busy", 0) => Reply::busy("6"),
        (_, 0) => Reply::status(500),
        _ => Reply::accepted(),
    });
    let service = &cluster.replicas[0];
    service.provision(&token, "failed", &fire_at(100), &cluster.agents.callback("inst-1")).await;
    service.provision(&token, "busy", &fire_at(100), &cluster.agents.callback("inst-1")).await;
    service.provision(&other, "other", &fire_at(100), &cluster.agents.callback("inst-2")).await;
    cluster.until_none("SELECT count(*) FROM one_shots WHERE state <> 'waiting'").await;
    // As if its last call was more than a minute ago.
    sqlx::query("UPDATE instances SET pulled_at = now() - interval '61 s'")
        .execute(&cluster.pool)
        .await
        .unwrap();
    let called = now();
    service.list(&token).await;
    let again = cluster.agents.wait_for("failed", 2).await;
    let after = (again.arrived - called).as_seconds_f64();
    assert!(after >= 1.0, "{after} s after the call");
    let busy = cluster.agents.fires_of("busy")[0].answered.unwrap();
    let again = cluster.agents.wait_for("busy", 2).await;
    let after = (again.arrived - busy).as_seconds_f64();
    assert!(after >= 6.0, "{after} s after its answer");
    assert_eq!(cluster.agents.fires_of("other").len(), 1, "other instances' retries are not pulled");
    let attempts: Vec<i32> =
        sqlx::query_scalar("SELECT attempts FROM one_shots WHERE instance_id = 'inst-1'")
            .fetch_all(&cluster.pool)
            .await
            .unwrap();
    assert_eq!(attempts, [2, 2], "counts are kept");
    // Once a minute.
    let pulled: DateTime<Utc> =
        sqlx::query_scalar("SELECT pulled_at FROM instances WHERE instance_id = 'inst-1'")
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    service.list(&token).await;
    service.list(&token).await;
    let still: DateTime<Utc> =
        sqlx::query_scalar("SELECT pulled_at FROM instances WHERE instance_id = 'inst-1'")
            .fetch_one(&cluster.pool)
            .await
            .unwrap();
    assert_eq!(pulled, still);
}
