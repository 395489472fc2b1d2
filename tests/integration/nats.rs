//! The NATS backend on real servers. Other tests cover the effects of its wake-ups in the service.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::backends::nats::{Nats, NatsOptions};
use nas_cron::backends::{BackendError, SchedulerBackend, Unwanted, WakeUp};
use nas_cron::domain::wake_up::Wake;
use nas_cron::scheduler::Woken;
use nas_cron_protocol::{CallbackUrl, FireAt, InstanceId, JobId, ScheduleId};
use nas_cron_testing::nats::{Login, NatsServers, Setup};
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::time::now;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Timeout of waits, generous for slow machines.
const PATIENCE: Duration = Duration::from_secs(90);

const STREAM: &str = "NAS_CRON";

/// Returns a new wake-up for a one-shot that is due at this instant.
fn due(at: DateTime<Utc>) -> WakeUp {
    WakeUp {
        callback_url: CallbackUrl::parse("https://agent.example").unwrap(),
        instance_id: InstanceId::new("inst-1").unwrap(),
        job_id: JobId::new("a job \u{1f514}").unwrap(),
        schedule_id: ScheduleId::fresh(),
        generation: 1,
        fire_at: FireAt::parse("2026-06-18T12:34:56.123456+05:45").unwrap(),
        due_at: at,
        auth: None,
        direct: None,
    }
}

fn due_in(millis: i64) -> WakeUp {
    due(now() + TimeDelta::milliseconds(millis))
}

fn many(count: usize, at: DateTime<Utc>) -> Vec<WakeUp> {
    (0..count).map(|_| due(at)).collect()
}

fn unwanted(wake_up: &WakeUp) -> Unwanted {
    Unwanted {
        schedule_id: wake_up.schedule_id,
        generation: wake_up.generation,
        message_id: None,
        unconfirmed: false,
    }
}

/// Arms wake-ups, and repeats failed ones, like the outbox.
async fn arm(nats: &Nats, wake_ups: &[WakeUp]) {
    let arming = async {
        let mut left = wake_ups.to_vec();
        loop {
            let mut failed = Vec::new();
            for batch in left.chunks(500) {
                let answers = nats.arm(batch).await;
                assert_eq!(answers.len(), batch.len());
                let failures = batch.iter().zip(answers).filter(|(_, answer)| answer.is_err());
                failed.extend(failures.map(|(wake_up, _)| wake_up.clone()));
            }
            if failed.is_empty() {
                return;
            }
            left = failed;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arming).await.expect("everything can be armed");
}

/// A replica, which receives wake-ups.
struct Replica {
    nats: Arc<Nats>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(options: NatsOptions, woken: &Arc<Arrivals>) -> Self {
        let woken = Arc::clone(woken);
        Self::with(options, move |wakes: Vec<Wake>| {
            let answers = woken.take(&wakes);
            async move { Ok(answers) }
        })
        .await
    }

    /// Starts a replica with a `wake` function of the test.
    async fn with<F, Fut>(options: NatsOptions, wake: F) -> Self
    where
        F: Fn(Vec<Wake>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Woken>, String>> + Send + 'static,
    {
        let nats = Arc::new(Nats::new(options).await.unwrap());
        let stop = CancellationToken::new();
        let (consumer, stopped) = (Arc::clone(&nats), stop.clone());
        let task = tokio::spawn(async move { consumer.consume(wake, stopped).await });
        Self { nats, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
    }
}

/// The received wake-ups, with their times.
struct Arrivals {
    seen: Mutex<HashMap<ScheduleId, Vec<DateTime<Utc>>>>,
    /// Number of different wake-ups.
    count: watch::Sender<usize>,
}

impl Arrivals {
    fn none() -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), count: watch::Sender::new(0) })
    }

    fn take(&self, wakes: &[Wake]) -> Vec<Woken> {
        let at = now();
        let mut seen = self.seen.lock().unwrap();
        for wake in wakes {
            seen.entry(wake.schedule_id).or_default().push(at);
        }
        self.count.send_replace(seen.len());
        wakes.iter().map(|_| Woken::Delivered).collect()
    }

    /// Waits until `count` different wake-ups have arrived.
    async fn until(&self, count: usize) {
        let mut counts = self.count.subscribe();
        let came = tokio::time::timeout(PATIENCE, counts.wait_for(|came| *came >= count)).await;
        assert!(came.is_ok(), "{} of {count} came", *self.count.borrow());
    }

    fn of(&self, wake_up: &WakeUp) -> Vec<DateTime<Utc>> {
        self.seen.lock().unwrap().get(&wake_up.schedule_id).cloned().unwrap_or_default()
    }

    /// Returns the times from `due_at - lead` to the first arrival of each wake-up, in ms, sorted.
    fn lateness(&self, lead: Duration, wake_ups: &[WakeUp]) -> Vec<f64> {
        let lead = TimeDelta::from_std(lead).unwrap();
        let mut late: Vec<f64> = wake_ups
            .iter()
            .map(|wake_up| (self.of(wake_up)[0] - (wake_up.due_at - lead)).as_seconds_f64() * 1e3)
            .collect();
        late.sort_by(f64::total_cmp);
        late
    }
}

/// Returns the number of messages in the stream.
async fn messages(servers: &NatsServers) -> u64 {
    servers.jetstream().await.get_stream(STREAM).await.unwrap().cached_info().state.messages
}

/// Waits until the stream is empty. Acknowledgements take effect with a delay.
async fn until_empty(servers: &NatsServers) {
    let jetstream = servers.jetstream().await;
    let emptying = async {
        loop {
            if let Ok(stream) = jetstream.get_stream(STREAM).await
                && stream.cached_info().state.messages == 0
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, emptying).await.expect("what was acknowledged disappears");
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wake_ups_arrive_a_lead_before_the_instant_and_the_stream_is_empty_afterwards() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    let begin = now();
    let wake_ups: Vec<WakeUp> =
        (0..1_000).map(|i| due(begin + TimeDelta::milliseconds(4_000 + i * 5))).collect();
    arm(&replica.nats, &wake_ups).await;
    woken.until(wake_ups.len()).await;
    let lead = replica.nats.limits().lead;
    let late = woken.lateness(lead, &wake_ups);
    println!(
        "after due - lead: min {:.0} p50 {:.0} p90 {:.0} p99 {:.0} max {:.0} ms (lead {lead:?})",
        late[0],
        percentile(&late, 50),
        percentile(&late, 90),
        percentile(&late, 99),
        late[late.len() - 1]
    );
    assert!(late[0] >= 0.0, "{} ms before its time", late[0]);
    // Only the earliest: a busy machine delays the others, and a wrong lead would affect all of them.
    assert!(late[0] < lead.as_secs_f64() * 1e3, "none came before its instant");
    until_empty(&servers).await;
    for wake_up in &wake_ups {
        assert_eq!(woken.of(wake_up).len(), 1);
    }
}

#[tokio::test]
async fn arming_again_replaces_a_wake_up_and_cancelling_removes_it() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    let lead = TimeDelta::from_std(replica.nats.limits().lead).unwrap();
    // Repeat on a machine so slow that a wake-up arrives before all calls are done.
    let (later, cancelled) = loop {
        let (again, cancelled) = (due_in(4_000), due_in(4_000));
        let later = WakeUp { due_at: again.due_at + TimeDelta::seconds(2), ..again.clone() };
        arm(&replica.nats, &[again.clone(), cancelled.clone()]).await;
        arm(&replica.nats, &[again.clone(), again.clone()]).await;
        arm(&replica.nats, std::slice::from_ref(&later)).await;
        let gone = [unwanted(&cancelled), unwanted(&cancelled), unwanted(&due_in(0))];
        assert_eq!(replica.nats.cancel(&gone).await, [Ok(()), Ok(()), Ok(())]);
        let left = messages(&servers).await;
        if now() < again.due_at - lead {
            assert_eq!(left, 1);
            break (later, cancelled);
        }
        until_empty(&servers).await;
    };
    // Arrives after all others.
    let last = due(later.due_at + TimeDelta::seconds(2));
    arm(&replica.nats, std::slice::from_ref(&last)).await;
    until_empty(&servers).await;
    let came = woken.of(&later);
    assert_eq!(came.len(), 1);
    assert!(came[0] >= later.due_at - lead, "by the last arm");
    assert_eq!(woken.of(&last).len(), 1);
    assert!(woken.of(&cancelled).is_empty());
}

#[tokio::test]
async fn past_wake_ups_arrive_at_once_and_far_ones_wait() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    let furthest = replica.nats.limits().furthest.expect("the server has one");
    let furthest = due(now() + TimeDelta::from_std(furthest).unwrap());
    let year = due(now() + TimeDelta::days(365));
    let past = [due(DateTime::UNIX_EPOCH), due_in(-3_600_000), due_in(-1), due_in(0)];
    arm(&replica.nats, &[furthest.clone(), year.clone()]).await;
    arm(&replica.nats, &past).await;
    woken.until(past.len()).await;
    let marker = due_in(2_000);
    arm(&replica.nats, std::slice::from_ref(&marker)).await;
    woken.until(past.len() + 1).await;
    assert!(woken.of(&furthest).is_empty() && woken.of(&year).is_empty());
    assert_eq!(replica.nats.cancel(&[unwanted(&furthest), unwanted(&year)]).await, [Ok(()), Ok(())]);
    until_empty(&servers).await;
}

#[tokio::test]
async fn every_login_method_can_arm_cancel_and_receive() {
    for setup in [
        Setup { login: Login::Token, ..Setup::OPEN },
        Setup { login: Login::User, ..Setup::OPEN },
        Setup { login: Login::Credentials, tls: true, ..Setup::OPEN },
    ] {
        let servers = NatsServers::start(setup).await;
        let woken = Arrivals::none();
        let replica = Replica::start(servers.options(), &woken).await;
        let (wanted, cancelled) = (due_in(0), due_in(60_000));
        arm(&replica.nats, &[wanted, cancelled.clone()]).await;
        assert_eq!(replica.nats.cancel(&[unwanted(&cancelled)]).await, [Ok(())], "{setup:?}");
        woken.until(1).await;
        assert_eq!(replica.nats.health().await, Ok(()), "{setup:?}");
        replica.stop().await;
    }
}

/// Waits until arming fails with a reason that contains this word. On a slow machine, timeouts may come first.
async fn refused_for(word: &str, options: NatsOptions) -> String {
    let nats = Nats::new(NatsOptions { timeout: Duration::from_secs(2), ..options }).await.unwrap();
    let last = Mutex::new(String::new());
    let asking = async {
        loop {
            match nats.arm(&[due_in(0)]).await.remove(0) {
                Err(BackendError::Unreachable(why)) if why.contains(word) => return why,
                Err(other) => *last.lock().unwrap() = other.to_string(),
                Ok(_) => panic!("the login succeeded"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let refused = tokio::time::timeout(PATIENCE, asking).await;
    refused.unwrap_or_else(|_| panic!("not refused for {word:?} but for {:?}", last.lock().unwrap()))
}

#[tokio::test]
async fn a_wrong_login_is_refused_with_an_explanation() {
    let servers = NatsServers::start(Setup { login: Login::Token, ..Setup::OPEN }).await;
    for options in [
        NatsOptions { token: Some("another-token".into()), ..servers.options() },
        NatsOptions { token: None, ..servers.options() },
    ] {
        let why = refused_for("authorization violation", options).await;
        assert!(!why.contains("another-token"), "{why}");
    }
}

#[tokio::test]
async fn a_wrong_certificate_or_key_is_refused_with_an_explanation() {
    let servers = NatsServers::start(Setup { login: Login::Credentials, tls: true, ..Setup::OPEN }).await;
    let foreign_user =
        NatsOptions { credentials_file: Some(servers.foreign_credentials_file()), ..servers.options() };
    refused_for("authorization violation", foreign_user).await;
    let foreign_ca = NatsOptions { tls_ca_file: Some(servers.foreign_ca_file()), ..servers.options() };
    refused_for("certificate", foreign_ca).await;
    let nameless = NatsOptions { tls_cert_file: None, tls_key_file: None, ..servers.options() };
    refused_for("CertificateRequired", nameless).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let servers = NatsServers::start(Setup { login: Login::Token, ..Setup::OPEN }).await;
    let by_url =
        NatsOptions { urls: vec![servers.urls()[0].replace("nats://", "tls://")], ..servers.options() };
    for options in [by_url, NatsOptions { tls_required: true, ..servers.options() }] {
        refused_for("InvalidContentType", options).await;
    }
}

#[tokio::test]
async fn a_server_that_is_unreachable_at_the_start_is_connected_to_later() {
    let mut servers = NatsServers::prepare(Setup::OPEN);
    let woken = Arrivals::none();
    let options = NatsOptions { timeout: Duration::from_secs(1), ..servers.options() };
    let replica = Replica::start(options, &woken).await;
    let wake_up = due_in(0);
    for _ in 0..3 {
        let asked = tokio::time::timeout(PATIENCE, replica.nats.arm(std::slice::from_ref(&wake_up))).await;
        assert!(matches!(asked.unwrap()[0], Err(BackendError::Unreachable(_))));
        assert!(matches!(
            replica.nats.cancel(&[unwanted(&wake_up)]).await[0],
            Err(BackendError::Unreachable(_))
        ));
        assert!(replica.nats.health().await.is_err());
    }
    servers.restart(0).await;
    arm(&replica.nats, std::slice::from_ref(&wake_up)).await;
    woken.until(1).await;
    assert_eq!(replica.nats.health().await, Ok(()));
}

#[tokio::test]
async fn a_replica_that_never_connected_stops() {
    let servers = NatsServers::prepare(Setup::OPEN);
    let replica = Replica::start(servers.options(), &Arrivals::none()).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_nothing() {
    let mut servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    // Some are due while the server is down.
    let wake_ups: Vec<WakeUp> = (0..1_000).map(|i| due_in(3_000 + i * 4)).collect();
    arm(&replica.nats, &wake_ups).await;
    servers.kill(0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    servers.restart(0).await;
    woken.until(wake_ups.len()).await;
    until_empty(&servers).await;
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_loses_nothing() {
    let servers = NatsServers::one().await;
    let proxy = Proxy::start(servers.address(0)).await;
    let woken = Arrivals::none();
    // A wake-up whose acknowledgement was lost with the connection is redelivered after `ack_wait`.
    let options = NatsOptions {
        urls: vec![format!("nats://{}", proxy.address())],
        ack_wait: Duration::from_secs(3),
        ..servers.options()
    };
    let replica = Replica::start(options, &woken).await;
    let begin = now();
    let wake_ups: Vec<WakeUp> =
        (0..2_000).map(|i| due(begin + TimeDelta::milliseconds(2_000 + i * 3))).collect();
    arm(&replica.nats, &wake_ups).await;
    for count in [400, 800, 1_200] {
        woken.until(count).await;
        proxy.cut().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.restore().await;
    }
    woken.until(wake_ups.len()).await;
    until_empty(&servers).await;
}

#[tokio::test]
async fn calls_to_a_hanging_server_fail_at_their_deadline() {
    let mut servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let options = NatsOptions { timeout: Duration::from_secs(1), ..servers.options() };
    let replica = Replica::start(options, &woken).await;
    arm(&replica.nats, &[due_in(0)]).await;
    woken.until(1).await;
    servers.pause(0);
    let wake_ups = many(3_000, now());
    let gone: Vec<Unwanted> = wake_ups.iter().map(unwanted).collect();
    let asking = async {
        // More than fit into the client's queue.
        assert!(replica.nats.arm(&wake_ups).await.iter().all(Result::is_err));
        assert!(replica.nats.cancel(&gone).await.iter().all(Result::is_err));
        assert!(replica.nats.health().await.is_err());
    };
    // Three calls of one second each.
    tokio::time::timeout(PATIENCE, asking).await.expect("they end");
    servers.resume(0);
    arm(&replica.nats, &wake_ups).await;
    woken.until(wake_ups.len() + 1).await;
    assert_eq!(replica.nats.health().await, Ok(()));
}

#[tokio::test]
async fn a_server_without_scheduled_messages_is_refused_with_an_explanation() {
    let servers = NatsServers::start(Setup { old: true, ..Setup::OPEN }).await;
    let nats = Nats::new(servers.options()).await.unwrap();
    for answer in [nats.arm(&[due_in(0)]).await.remove(0).map(drop), nats.health().await] {
        match answer {
            Err(BackendError::Refused(why)) => {
                assert!(why.contains("2.11.11") && why.contains("2.12 or newer"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(servers.jetstream().await.get_stream(STREAM).await.is_err(), "no stream was created");
}

#[tokio::test]
async fn any_number_of_replicas_may_set_up_at_once() {
    let servers = NatsServers::one().await;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(Arc::new(Nats::new(servers.options()).await.unwrap()));
    }
    let arming = replicas.iter().map(|nats| {
        let nats = Arc::clone(nats);
        tokio::spawn(async move { nats.arm(&many(10, now() + TimeDelta::hours(1))).await })
    });
    for armed in futures::future::join_all(arming).await {
        assert!(armed.unwrap().iter().all(Result::is_ok));
    }
    assert_eq!(messages(&servers).await, 40);
}

#[tokio::test]
async fn a_stream_that_would_lose_wake_ups_is_refused_and_left_unchanged() {
    let servers = NatsServers::one().await;
    let theirs = Config {
        name: STREAM.to_owned(),
        subjects: vec!["nas-cron.>".to_owned()],
        retention: RetentionPolicy::Limits,
        max_age: Duration::from_hours(1),
        ..Config::default()
    };
    let jetstream = servers.jetstream().await;
    let before = jetstream.create_stream(theirs).await.unwrap().cached_info().config.clone();
    let nats = Nats::new(servers.options()).await.unwrap();
    for answer in [nats.arm(&[due_in(0)]).await.remove(0).map(drop), nats.health().await] {
        match answer {
            Err(BackendError::Refused(why)) => {
                assert!(
                    why.contains("NAS_CRON") && why.contains("workqueue") && why.contains("max_age"),
                    "{why}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(jetstream.get_stream(STREAM).await.unwrap().cached_info().config, before);
}

#[tokio::test]
async fn a_deleted_stream_is_created_again() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    arm(&replica.nats, &[due_in(0)]).await;
    woken.until(1).await;
    servers.jetstream().await.delete_stream(STREAM).await.unwrap();
    arm(&replica.nats, &[due_in(0), due_in(500)]).await;
    woken.until(3).await;
}

#[tokio::test]
async fn malformed_messages_are_dropped_without_blocking_others() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    arm(&replica.nats, &[due_in(0)]).await;
    woken.until(1).await;
    let jetstream = servers.jetstream().await;
    for garbage in
        ["", "{}", "\u{0}\u{1}", r#"{"instance_id":"i","job_id":"j","schedule_id":"x","fire_at":""}"#]
    {
        jetstream.publish("nas-cron.wake", garbage.into()).await.unwrap().await.unwrap();
    }
    arm(&replica.nats, &[due_in(0)]).await;
    woken.until(2).await;
    until_empty(&servers).await;
}

#[tokio::test]
async fn an_early_wake_up_is_left_to_the_built_in_loop_and_not_redelivered() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let taken = Arc::clone(&woken);
    let replica = Replica::with(servers.options(), move |wakes: Vec<Wake>| {
        taken.take(&wakes);
        async move { Ok(wakes.iter().map(|_| Woken::Early(Duration::from_millis(100))).collect()) }
    })
    .await;
    let (early, last) = (due_in(0), due_in(3_500));
    arm(&replica.nats, &[early.clone(), last.clone()]).await;
    woken.until(2).await;
    until_empty(&servers).await;
    assert_eq!((woken.of(&early).len(), woken.of(&last).len()), (1, 1));
}

#[tokio::test]
async fn wake_ups_that_cannot_be_stored_are_redelivered() {
    let servers = NatsServers::one().await;
    let options = NatsOptions { ack_wait: Duration::from_secs(8), ..servers.options() };
    let woken = Arrivals::none();
    let (later, failing, tries) =
        (Arc::clone(&woken), Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (is_failing, counted) = (Arc::clone(&failing), Arc::clone(&tries));
    let first = Replica::with(options.clone(), move |wakes: Vec<Wake>| {
        counted.fetch_add(1, Ordering::SeqCst);
        let answer = if is_failing.load(Ordering::SeqCst) {
            Err("the database is unavailable".to_owned())
        } else {
            Ok(later.take(&wakes))
        };
        async move { answer }
    })
    .await;
    let wake_ups = many(100, now());
    arm(&first.nats, &wake_ups).await;
    let begun = async {
        while tries.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The first replica has all wake-ups in hand.
        let jetstream = servers.jetstream().await;
        let stream = jetstream.get_stream(STREAM).await.unwrap();
        while stream.consumer_info("nas-cron").await.unwrap().num_ack_pending < wake_ups.len() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("they come");
    let elsewhere = Arrivals::none();
    let second = Replica::start(options, &elsewhere).await;
    // Twice as long as `ack_wait`.
    tokio::time::sleep(Duration::from_secs(17)).await;
    assert_eq!(*elsewhere.count.borrow(), 0, "kept by progress");
    failing.store(false, Ordering::SeqCst);
    woken.until(wake_ups.len()).await;
    until_empty(&servers).await;
    assert!(tries.load(Ordering::SeqCst) > 3);
    assert_eq!(*elsewhere.count.borrow(), 0);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn wake_ups_of_a_crashed_replica_are_redelivered_to_another() {
    let servers = NatsServers::one().await;
    let options = NatsOptions { ack_wait: Duration::from_secs(2), ..servers.options() };
    let (has, mut had) = watch::channel(0);
    let first = Replica::with(options.clone(), move |wakes: Vec<Wake>| {
        has.send_modify(|count| *count += wakes.len());
        std::future::pending()
    })
    .await;
    let wake_ups = many(300, now());
    arm(&first.nats, &wake_ups).await;
    tokio::time::timeout(PATIENCE, had.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    first.task.abort();
    let woken = Arrivals::none();
    let _second = Replica::start(options, &woken).await;
    woken.until(wake_ups.len()).await;
    until_empty(&servers).await;
}

#[tokio::test]
async fn a_stopping_replica_gives_unhandled_wake_ups_to_others() {
    let servers = NatsServers::one().await;
    // With this `ack_wait`, the second replica gets only wake-ups that the first one returns.
    let options = NatsOptions { ack_wait: Duration::from_mins(10), ..servers.options() };
    let (has, mut had) = watch::channel(0);
    let first = Replica::with(options.clone(), move |wakes: Vec<Wake>| {
        has.send_modify(|count| *count += wakes.len());
        async { Err("the database is unavailable".to_owned()) }
    })
    .await;
    let wake_ups = many(2_500, now());
    arm(&first.nats, &wake_ups).await;
    tokio::time::timeout(PATIENCE, had.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    first.stop().await;
    let woken = Arrivals::none();
    let _second = Replica::start(options, &woken).await;
    woken.until(wake_ups.len()).await;
    until_empty(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_wake_ups_at_one_instant_all_arrive() {
    let servers = NatsServers::one().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    arm(&replica.nats, &[due_in(0)]).await;
    woken.until(1).await;
    let wake_ups = many(5_000, now() + TimeDelta::seconds(8));
    let arming = Instant::now();
    arm(&replica.nats, &wake_ups).await;
    let arming = arming.elapsed();
    woken.until(wake_ups.len() + 1).await;
    let late = woken.lateness(replica.nats.limits().lead, &wake_ups);
    let burst = (late[late.len() - 1] - late[0]) / 1e3;
    println!(
        "armed {:.0}/s; came {:.0}/s, first {:.0} ms and last {:.0} ms after due - lead",
        5_000.0 / arming.as_secs_f64(),
        5_000.0 / burst,
        late[0],
        late[late.len() - 1]
    );
    until_empty(&servers).await;
    assert!(late[0] >= 0.0);
    let cancelling: Vec<WakeUp> = many(5_000, now() + TimeDelta::hours(1));
    arm(&replica.nats, &cancelling).await;
    let unwanted: Vec<Unwanted> = cancelling.iter().map(unwanted).collect();
    let begin = Instant::now();
    for batch in unwanted.chunks(500) {
        assert!(replica.nats.cancel(batch).await.iter().all(Result::is_ok));
    }
    println!("cancelled {:.0}/s", 5_000.0 / begin.elapsed().as_secs_f64());
    until_empty(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_node_loses_no_wake_up() {
    let mut servers = NatsServers::cluster().await;
    let woken = Arrivals::none();
    let replica = Replica::start(servers.options(), &woken).await;
    let _other = Replica::start(servers.options(), &woken).await;
    // Some are due while the cluster elects a new leader.
    let pending: Vec<WakeUp> = (0..2_000).map(|i| due_in(3_000 + i * 5)).collect();
    arm(&replica.nats, &pending).await;
    let stream = servers.jetstream().await.get_stream(STREAM).await.unwrap();
    assert_eq!(stream.cached_info().config.num_replicas, 3);
    // The loss of the leader is the worst case.
    let leader = servers.leader(STREAM).await;
    let nats = Arc::clone(&replica.nats);
    let arming = tokio::spawn(async move {
        let (mut armed, mut refused) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let batch = many(10, now() + TimeDelta::seconds(15));
            let answers = nats.arm(&batch).await;
            for (wake_up, answer) in batch.into_iter().zip(answers) {
                if answer.is_ok() { armed.push(wake_up) } else { refused.push(wake_up) }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (armed, refused)
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    servers.kill(leader).await;
    let (armed, refused) = arming.await.unwrap();
    println!("armed {} and refused {} while n{leader}, the leader, was killed", armed.len(), refused.len());
    arm(&replica.nats, &refused).await;
    woken.until(2_200).await;
    let wanted: BTreeSet<String> =
        pending.iter().chain(&armed).chain(&refused).map(|one| one.schedule_id.to_string()).collect();
    let came: BTreeSet<String> = woken.seen.lock().unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(came, wanted);
    let late = woken.lateness(replica.nats.limits().lead, &pending);
    println!("pending ones came p50 {:.0} max {:.0} ms after due - lead", percentile(&late, 50), late[1_999]);
    servers.restart(leader).await;
    until_empty(&servers).await;
}
