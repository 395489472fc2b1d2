//! Replicas behind a proxy that can fail, agents that provision continuously, and the final checks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use nas_cron_testing::agent::{Fire, Reply};
use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::{fire_at, lateness_ms};
use tokio::sync::watch;

/// The promise is 15 s; a machine that is busy with other tests gets 15 s more.
pub(super) const RECOVERY: Duration = Duration::from_secs(30);
/// Long enough for a second attempt to be seen beside a first one.
const ANSWER_AFTER: Duration = Duration::from_millis(100);

/// Returns the address of a database's server.
pub(crate) fn address_of(url: &str) -> SocketAddr {
    let url: url::Url = url.parse().unwrap();
    url.socket_addrs(|| None).unwrap()[0]
}

/// Returns the URL of the same database at another address.
pub(crate) fn at(url: &str, address: SocketAddr) -> String {
    let mut url: url::Url = url.parse().unwrap();
    url.set_ip_host(address.ip()).unwrap();
    url.set_port(Some(address.port())).unwrap();
    url.into()
}

/// Starts replicas behind a proxy, on a new database.
pub(super) async fn proxied(replicas: usize) -> (Cluster, Proxy) {
    let (_db, url) = database().await;
    proxied_on(&url, replicas).await
}

/// Starts replicas behind a proxy, on this database.
pub(super) async fn proxied_on(url: &str, replicas: usize) -> (Cluster, Proxy) {
    let proxy = Proxy::start(address_of(url)).await;
    let through = at(url, proxy.address());
    let cluster = Cluster::start_on(url, replicas, |settings| settings_through(settings, &through)).await;
    cluster.agents.answer(|_, _| Reply::accepted().after(ANSWER_AFTER));
    (cluster, proxy)
}

fn settings_through(settings: Settings, url: &str) -> Settings {
    settings.with("NAS_CRON_DATABASE_URL", url).with("NAS_CRON_LOG_FILTER", "info,nas_cron::scheduler=warn")
}

/// Creates the schema in a new database.
pub(super) async fn with_schema(url: &str) {
    nas_cron::db::migrate::migrate(&connect(url)).await.unwrap();
}

/// Returns the length of an outage that no provision may notice: ten seconds. It is shorter on a machine that is busy
/// with other work, where the service also needs longer for everything after the outage.
pub(super) async fn brief_outage(cluster: &Cluster) -> Duration {
    let (token, callback) = (cluster.agent("measured").await, cluster.agents.callback("measured"));
    let mut slowest = Duration::ZERO;
    // The first provision also fetches the portal's keys.
    for number in 0..6 {
        let (job, begun) = (format!("measured-{number}"), Instant::now());
        cluster.replicas[0].provision(&token, &job, &fire_at(3_600_000), &callback).await;
        slowest = if number == 0 { slowest } else { slowest.max(begun.elapsed()) };
    }
    match slowest {
        quiet if quiet < Duration::from_millis(100) => Duration::from_secs(10),
        busy => Duration::from_secs(10).saturating_sub(5 * busy).max(Duration::from_secs(5)),
    }
}

/// The provisions that agents made during a fault.
pub(super) struct Calls {
    /// Acknowledged jobs.
    pub(super) armed: Vec<String>,
    /// Provisions without a 200, with the response or error.
    pub(super) failed: Vec<String>,
}

/// Runs `work` while `agents` agents provision at every replica in turn, each with a `pause` between its calls.
pub(super) async fn under_load<T>(
    cluster: &Cluster,
    agents: usize,
    pause: Duration,
    work: impl Future<Output = T>,
) -> (T, Calls) {
    let mut tokens = Vec::new();
    for agent in 0..agents {
        tokens.push(cluster.agent(&format!("loaded-{agent}")).await);
    }
    let (over, ends) = watch::channel(false);
    let agents = join_all(tokens.iter().enumerate().map(async |(agent, token)| {
        let callback = cluster.agents.callback(&format!("loaded-{agent}"));
        let mut calls = Calls { armed: Vec::new(), failed: Vec::new() };
        for number in 0.. {
            if *ends.borrow() {
                break;
            }
            let service = &cluster.replicas[(agent + number) % cluster.replicas.len()];
            let (job, at, begun) = (format!("load-{agent}-{number}"), fire_at(1_500), Instant::now());
            let (status, body) = service.try_provision(token, &job, &at, &callback).await;
            if status == 200 {
                calls.armed.push(job);
            } else {
                calls.failed.push(format!("{status} after {:?}: {body}", begun.elapsed()));
            }
            tokio::time::sleep(pause).await;
        }
        calls
    }));
    let working = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let done = work.await;
        over.send(true).unwrap();
        done
    };
    let (done, calls) = tokio::join!(working, agents);
    let (mut armed, mut failed) = (Vec::new(), Vec::new());
    for mut one in calls {
        armed.append(&mut one.armed);
        failed.append(&mut one.failed);
    }
    (done, Calls { armed, failed })
}

/// Waits until every replica fires and provisions by itself. Fails if that takes longer than [`RECOVERY`].
pub(super) async fn recovered(cluster: &Cluster, probe: &str) {
    // The load has registered the instance: a fixture must not wait for the database during a fault.
    let token = cluster.portal.session_token("org-1", "loaded-0");
    let begun = Instant::now();
    let recover = join_all(cluster.replicas.iter().enumerate().map(async |(number, replica)| {
        let fires = async {
            let before = attempts(replica).await;
            while attempts(replica).await <= before {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let provisions = async {
            let callback = cluster.agents.callback("loaded-0");
            for try_number in 0.. {
                let job = format!("{probe}-{number}-{try_number}");
                if replica.try_provision(&token, &job, &fire_at(500), &callback).await.0 == 200 {
                    return;
                }
            }
        };
        tokio::join!(fires, provisions);
    }));
    let recovered = tokio::time::timeout(RECOVERY, recover).await;
    assert!(recovered.is_ok(), "after {RECOVERY:?} not every replica fires and provisions");
    println!("{probe}: every replica fires and provisions after {:?}", begun.elapsed());
}

/// Returns the number of attempts that have ended on a replica.
async fn attempts(replica: &Service) -> f64 {
    let page = replica.metrics().await;
    let ended = page.lines().filter(|line| line.starts_with("nas_cron_fires_total{outcome=\"delivered\"}"));
    ended.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Returns the lateness of a fire in milliseconds.
pub(super) fn lateness_of(fire: &Fire) -> f64 {
    lateness_ms(&fire.fire_at, fire.arrived)
}

/// Waits until all armed one-shots are delivered, and checks that no fire was early and no two attempts overlapped.
pub(super) async fn all_came(cluster: &Cluster, calls: &Calls) {
    let armed = calls.armed.clone();
    cluster
        .agents
        .wait_until("every acknowledged one-shot fires", |fires| {
            let fired: std::collections::BTreeSet<_> =
                fires.iter().map(|fire| fire.job_id.as_str()).collect();
            armed.iter().all(|job| fired.contains(job.as_str()))
        })
        .await;
    let mut last: BTreeMap<String, _> = BTreeMap::new();
    for fire in cluster.agents.fires() {
        assert!(lateness_of(&fire) >= 0.0, "{} was early", fire.job_id);
        if let Some(Some(answered)) = last.insert(fire.job_id.clone(), fire.answered) {
            assert!(answered <= fire.arrived, "two attempts of {} at once", fire.job_id);
        }
    }
}
