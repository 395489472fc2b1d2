//! Thousands of one-shots move between backends, under traffic, while processes and servers are killed.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::qstash_emulator::Emulator;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::{fire_at, now};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::ledger::Ledger;

/// Timeout of waits, generous for slow machines.
const PATIENCE: Duration = Duration::from_mins(2);

const AGENTS: usize = 10;
/// Time until the first one-shot is due, in milliseconds: after the end of the import, on almost any machine.
const FIRST_DUE: i64 = 8_000;
/// Minimum number of jobs that are provisioned during the test.
const ROUNDS: usize = 60;
const HOUR: i64 = 3_600_000;

/// A cluster with its agents, and a ledger of the expected fires.
struct Fixture {
    cluster: Cluster,
    tokens: Vec<String>,
    ledger: Arc<Ledger>,
}

impl Fixture {
    async fn new(replicas: usize, change: impl FnOnce(Settings) -> Settings) -> Self {
        let cluster = Cluster::start(replicas, |settings| {
            change(
                settings
                    // Orders and attempts of a killed process are repeated soon.
                    .with("NAS_CRON_ENGINE_TIMEOUT", "2s")
                    .with("NAS_CRON_FIRE_TIMEOUT", "5s")
                    .with("NAS_CRON_CONNECT_TIMEOUT", "5s")
                    .with("NAS_CRON_LEASE_MARGIN", "2s")
                    .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "1s"),
            )
        })
        .await;
        let mut tokens = Vec::new();
        for agent in 0..AGENTS {
            tokens.push(cluster.agent(&format!("agent-{agent}")).await);
        }
        Self { cluster, tokens, ledger: Arc::default() }
    }

    /// Arms `due` one-shots spread over `spread_ms`, and `far` in an hour, with `nas-cron jobs import`.
    async fn import(&self, due: usize, spread_ms: i64, far: usize) {
        let mut lines = String::new();
        for i in 0..due + far {
            let millis = match i {
                i if i < due => {
                    FIRST_DUE + spread_ms * i64::try_from(i).unwrap() / i64::try_from(due).unwrap()
                }
                i => HOUR + i64::try_from(i).unwrap(),
            };
            let (agent, at) = (format!("agent-{}", i % AGENTS), fire_at(millis));
            let callback = self.cluster.agents.callback(&agent);
            let line = json!({
                "instance_id": agent, "job_id": format!("job-{i}"), "fire_at": at, "agent_callback_url": callback,
            });
            let _ = writeln!(lines, "{line}");
            self.ledger.armed(&format!("job-{i}"), &at);
        }
        let file = std::env::temp_dir().join(format!("nas-cron-{:016x}.jsonl", rand::random::<u64>()));
        std::fs::write(&file, lines).unwrap();
        let settings = &self.cluster.settings;
        let (status, out, error) = settings.run(&["jobs", "import", file.to_str().unwrap(), "--json"]).await;
        std::fs::remove_file(&file).unwrap();
        assert!(status.success(), "{out}{error}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["armed"], due + far, "{report}");
    }

    /// Runs a switch to its end.
    async fn switch(&self, to: &str) -> Value {
        let (status, out, error) = self.cluster.settings.run(&["backend", "switch", to, "--json"]).await;
        assert!(status.success(), "{out}{error}");
        let report: Value = serde_json::from_str(&out).expect(&out);
        assert_eq!((&report["active"], &report["finished"]), (&json!(to), &json!(true)), "{report}");
        report
    }

    /// Starts a switch, and kills it once `far_enough` is true of a count. Returns false if the switch ended before.
    async fn kill_switch(&self, to: &str, query: &'static str, far_enough: impl Fn(i64) -> bool) -> bool {
        let mut child = self.spawn_switch(to);
        let killed = tokio::time::timeout(PATIENCE, async {
            loop {
                if child.try_wait().unwrap().is_some() {
                    return false;
                }
                if far_enough(self.cluster.count(query).await) {
                    let _ = child.kill();
                    return child.wait().unwrap().signal() == Some(9);
                }
            }
        });
        killed.await.expect("the switch makes progress")
    }

    fn spawn_switch(&self, to: &str) -> Child {
        let mut command = self.cluster.settings.command(&["backend", "switch", to, "--json"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits until every fire that is due until `until` has arrived and is recorded.
    async fn all_fired(&self, until: DateTime<Utc>) {
        let due: HashSet<_> = self.ledger.due_until(until).into_iter().collect();
        let waiting = async {
            loop {
                let fires = self.cluster.agents.fires();
                let seen: HashSet<_> =
                    fires.iter().map(|fire| (fire.job_id.clone(), fire.fire_at.clone())).collect();
                let missing: Vec<_> = due.difference(&seen).collect();
                if missing.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let fires = self.cluster.agents.fires();
            let seen: HashSet<_> =
                fires.iter().map(|fire| (fire.job_id.clone(), fire.fire_at.clone())).collect();
            panic!("never arrived: {:?}", due.difference(&seen).collect::<Vec<_>>());
        }
        // No attempt is in flight that could arrive a second time.
        self.cluster
            .until_none(
                "SELECT count(*) FROM one_shots WHERE state IN ('leased', 'firing', 'waiting')
                 OR state = 'armed' AND next_attempt_at < now() + interval '30 min'",
            )
            .await;
    }

    /// Returns jobs with an attempt that was interrupted when its replica was killed.
    async fn lost(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT job_id FROM fires WHERE outcome = 'lost' UNION ALL SELECT job_id FROM superseded_attempts")
            .fetch_all(&self.cluster.pool)
            .await
            .unwrap()
    }

    /// Compares the fires of the agents, and the database, with the ledger.
    async fn audit(&self, until: DateTime<Utc>, awaited: Option<&str>) {
        let lost = self.lost().await;
        self.ledger.audit(&self.cluster.agents.fires(), until, &lost);
        assert_eq!(self.cluster.agents.strays(), Vec::<String>::new());
        let armed: Vec<(Option<String>, i64)> =
            sqlx::query_as("SELECT awaits::text, count(*) FROM one_shots WHERE state = 'armed' GROUP BY 1")
                .fetch_all(&self.cluster.pool)
                .await
                .unwrap();
        let expected = i64::try_from(self.ledger.due_after(until)).unwrap();
        assert_eq!(armed, [(awaited.map(str::to_owned), expected)], "(awaits, armed)");
        let wake_ups: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT backend::text, state::text, count(*) FROM wake_ups
             WHERE due_at > now() GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .fetch_all(&self.cluster.pool)
        .await
        .unwrap();
        let all = awaited.map(|backend| (backend.to_owned(), "armed".to_owned(), expected));
        assert_eq!(wake_ups, all.into_iter().collect::<Vec<_>>(), "(backend, state, wake-ups)");
    }

    /// Provisions, supersedes and cancels through a replica until `stop`, for at least [`ROUNDS`] jobs.
    fn traffic(&self, service: &Service, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
        let (url, tokens, ledger) = (service.url.clone(), self.tokens.clone(), Arc::clone(&self.ledger));
        let callbacks: Vec<_> =
            (0..AGENTS).map(|agent| self.cluster.agents.callback(&format!("agent-{agent}"))).collect();
        tokio::spawn(async move {
            let http = nas_cron_testing::service::client();
            let call = async |path: &str, agent: usize, body: Value| {
                let request = http.post(format!("{url}/api/agent-cron/{path}")).bearer_auth(&tokens[agent]);
                let answer = request.json(&body).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{path} {body}");
            };
            let provision = async |job: &str, agent: usize, at: &str| {
                let body = json!({
                    "job_id": job, "fire_at": at, "agent_callback_url": callbacks[agent],
                    "dedup_key": format!("{job}:{at}"),
                });
                call("provision", agent, body).await;
                ledger.armed(job, at);
            };
            for round in 0.. {
                if stop.load(Ordering::SeqCst) && round >= ROUNDS {
                    break;
                }
                let agent = round % AGENTS;
                let job = format!("live-{round}");
                // Armed far ahead, then near; then a quarter is cancelled, and another quarter superseded once more.
                let (far, near) = (fire_at(HOUR), fire_at(6_000));
                provision(&job, agent, &far).await;
                provision(&job, agent, &near).await;
                ledger.ended(&job, &far);
                match round % 4 {
                    0 => {
                        call("cancel", agent, json!({ "job_id": job })).await;
                        ledger.ended(&job, &near);
                    }
                    1 => {
                        let again = fire_at(HOUR + 1_000);
                        provision(&job, agent, &again).await;
                        ledger.ended(&job, &near);
                    }
                    _ => {}
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        })
    }
}

/// Counts the messages of the stream: schedules, and others.
async fn held_by_nats(servers: &NatsServers) -> (usize, usize) {
    use futures::TryStreamExt;
    let stream = servers.jetstream().await.get_stream("NAS_CRON").await.unwrap();
    let subjects: Vec<(String, usize)> =
        stream.info_with_subjects("nas-cron.>").await.unwrap().try_collect().await.unwrap();
    let schedules = subjects.iter().filter(|(subject, _)| subject.starts_with("nas-cron.schedule."));
    let others = subjects.iter().filter(|(subject, _)| !subject.starts_with("nas-cron.schedule."));
    (schedules.map(|(_, count)| count).sum(), others.map(|(_, count)| count).sum())
}

/// Waits until the stream has exactly this many schedules, and no other message.
async fn until_nats_holds(servers: &NatsServers, schedules: usize) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let held = held_by_nats(servers).await;
        if held == (schedules, 0) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{held:?} instead of {schedules} schedules");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const MOVED_TO_NATS: &str = "SELECT count(*) FROM one_shots WHERE awaits = 'nats'";
const ARMED_AT_NATS: &str = "SELECT count(*) FROM wake_ups WHERE backend = 'nats' AND state = 'armed'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_one_shots_move_to_nats_and_back_while_replicas_and_servers_are_killed() {
    let servers = NatsServers::one().await;
    let urls = servers.urls().join(",");
    let mut fixture = Fixture::new(2, |settings| settings.with("NAS_CRON_NATS_URLS", urls)).await;
    fixture.import(900, 16_000, 9_100).await;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = fixture.traffic(&fixture.cluster.replicas[1], Arc::clone(&stop));

    // The switch is killed while it moves rows, and again while it arms wake-ups; the second time together with a
    // replica. A switch that ended before its kill is undone and repeated.
    let mut kills = 0;
    while kills < 2 {
        let killed = if kills == 0 {
            fixture.kill_switch("nats", MOVED_TO_NATS, |moved| moved >= 1_500).await
        } else {
            fixture.kill_switch("nats", ARMED_AT_NATS, |armed| armed >= 1_500).await
        };
        if killed {
            kills += 1;
        } else {
            fixture.switch("postgres").await;
        }
    }
    fixture.cluster.replicas[0].kill9();

    // Switch back before the move is complete (killed again if there is time), and forth once more.
    let _ = fixture.kill_switch("postgres", MOVED_TO_NATS, |moved| moved <= 6_000).await;
    fixture.cluster.replicas[0] = Service::start(&fixture.cluster.settings).await;
    fixture.switch("nats").await;

    stop.store(true, Ordering::SeqCst);
    traffic.await.unwrap();
    let until = now() + TimeDelta::minutes(20);
    fixture.all_fired(until).await;
    // Finishes one-shots that were armed during a switch, or cancelled during a kill.
    let report = fixture.switch("nats").await;
    assert_eq!(report["switched"], false);
    until_at_rest(&fixture.cluster).await;
    fixture.audit(until, Some("nats")).await;
    until_nats_holds(&servers, fixture.ledger.due_after(until)).await;

    fixture.switch("postgres").await;
    until_at_rest(&fixture.cluster).await;
    fixture.audit(until, None).await;
    until_nats_holds(&servers, 0).await;
}

/// Waits until no order is left.
async fn until_at_rest(cluster: &Cluster) {
    cluster.until_none("SELECT count(*) FROM wake_ups WHERE state <> 'armed'").await;
}

/// An address for the backend to call, which exists before the service that it forwards to.
struct Forwarder {
    address: SocketAddr,
    to: Arc<OnceLock<SocketAddr>>,
}

impl Forwarder {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), Arc::new(OnceLock::<SocketAddr>::new()));
        let target = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let Some(to) = target.get().copied() else { continue };
                tokio::spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
        Self { address, to }
    }

    fn forward_to(&self, service: &Service) {
        let address = service.url.trim_start_matches("http://").parse().unwrap();
        self.to.set(address).unwrap();
    }
}

const ARMED_AT_QSTASH: &str = "SELECT count(*) FROM wake_ups WHERE backend = 'qstash' AND state = 'armed'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_one_shots_move_to_qstash_and_back() {
    let emulator = Emulator::quick().await;
    let forwarder = Forwarder::new().await;
    let relay = format!("http://{}/api/agent-cron/relay", forwarder.address);
    let fixture = Fixture::new(1, |settings| {
        let account = emulator.settings();
        settings
            .with("NAS_CRON_RELAY_URL", relay)
            .with("NAS_CRON_QSTASH_URL", emulator.url())
            .with("NAS_CRON_QSTASH_TOKEN", account.token.clone())
            .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", account.current_key.clone())
            .with("NAS_CRON_QSTASH_NEXT_SIGNING_KEY", account.next_key.clone())
    })
    .await;
    forwarder.forward_to(&fixture.cluster.replicas[0]);
    fixture.import(200, 8_000, 1_800).await;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = fixture.traffic(&fixture.cluster.replicas[0], Arc::clone(&stop));
    while !fixture.kill_switch("qstash", ARMED_AT_QSTASH, |armed| armed >= 300).await {
        fixture.switch("postgres").await;
    }
    fixture.switch("qstash").await;
    stop.store(true, Ordering::SeqCst);
    traffic.await.unwrap();
    let until = now() + TimeDelta::minutes(20);
    fixture.all_fired(until).await;
    fixture.switch("qstash").await;
    until_at_rest(&fixture.cluster).await;
    fixture.audit(until, Some("qstash")).await;
    assert_eq!(emulator.pending().len(), fixture.ledger.due_after(until), "pending at QStash");

    fixture.switch("postgres").await;
    until_at_rest(&fixture.cluster).await;
    fixture.audit(until, None).await;
    assert_eq!(emulator.pending(), [], "pending at QStash");
}
