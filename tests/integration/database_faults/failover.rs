//! A real standby takes over: acknowledged one-shots fire, and both replicas recover by themselves.

use std::time::Duration;

use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::database::server_options;
use nas_cron_testing::frozen;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;

use super::fixture::{Calls, address_of, all_came, at, recovered, under_load, with_schema};

const AGENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(150);

/// A primary with the schema, and its standby.
struct Pair {
    primary: PrivatePostgres,
    standby: PrivatePostgres,
}

impl Pair {
    async fn start(synchronous: bool) -> Self {
        let options = || Options { durable: true, ..server_options() };
        let primary = tokio::task::spawn_blocking(move || {
            let primary = PrivatePostgres::start(options()).unwrap_or_else(|error| panic!("{error}"));
            primary.create_database("nas_cron").unwrap();
            primary
        });
        let primary = primary.await.unwrap();
        with_schema(&primary.tcp_url("nas_cron").unwrap()).await;
        let pair = tokio::task::spawn_blocking(move || {
            let standby = primary.start_standby(options()).unwrap_or_else(|error| panic!("{error}"));
            primary.wait_for_standby(synchronous).unwrap();
            Self { primary, standby }
        });
        pair.await.unwrap()
    }

    fn url(&self) -> String {
        self.primary.tcp_url("nas_cron").unwrap()
    }

    fn standby_url(&self) -> String {
        self.standby.tcp_url("nas_cron").unwrap()
    }

    /// Waits until the standby streams and has all commits.
    async fn caught_up(&self) {
        let pool = sqlx::PgPool::connect(&self.url()).await.unwrap();
        eventually("the standby has everything", async || {
            let has: Option<bool> = sqlx::query_scalar(
                "SELECT bool_and(flush_lsn >= pg_current_wal_flush_lsn()) FROM pg_stat_replication",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            has.filter(|has| *has)
        })
        .await;
        pool.close().await;
    }

    /// Ends the primary by a crash or a freeze. On return the standby accepts writes.
    async fn fail_over(self, freeze: bool) -> Over {
        let over = tokio::task::spawn_blocking(move || {
            let Self { mut primary, standby } = self;
            if freeze {
                frozen::freeze(&primary);
            } else {
                primary.kill9();
            }
            standby.promote().unwrap();
            Over { former: Some(primary), _primary: standby, frozen: freeze }
        });
        over.await.unwrap()
    }
}

/// The servers after a failover.
struct Over {
    former: Option<PrivatePostgres>,
    _primary: PrivatePostgres,
    frozen: bool,
}

impl Drop for Over {
    fn drop(&mut self) {
        if let Some(mut former) = self.former.take().filter(|_| self.frozen) {
            frozen::thaw(&former);
            former.kill9();
        }
    }
}

/// Two replicas that find the primary themselves.
async fn by_url(pair: &Pair) -> Cluster {
    let (one, other) = (address_of(&pair.url()), address_of(&pair.standby_url()));
    // The standby first: the service must find out which server accepts writes.
    let url = format!("postgres://postgres@{other},{one}/nas_cron?target_session_attrs=read-write");
    Cluster::start_on(&pair.standby_url(), 2, |settings| {
        settings
            .with("NAS_CRON_DATABASE_URL", url)
            .with("NAS_CRON_LOG_FILTER", "info,nas_cron::scheduler=warn")
    })
    .await
}

/// Registers an instance at the server that accepts writes: the cluster's pool is connected to the standby.
async fn register(url: &str, instance: &str) {
    let pool = sqlx::PgPool::connect(url).await.unwrap();
    let statement =
        "INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ($1, 'org-1', $1)";
    sqlx::query(statement).bind(instance).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_both_hosts_in_their_url_find_the_promoted_standby() {
    let pair = Pair::start(true).await;
    pair.caught_up().await;
    let cluster = by_url(&pair).await;
    register(&pair.url(), "inst-1").await;
    let token = cluster.portal.session_token("org-1", "inst-1");
    let callback = cluster.agents.callback("inst-1");
    for number in 0..20 {
        let job = format!("job-{number}");
        cluster.replicas[number % 2].provision(&token, &job, &fire_at(4_000), &callback).await;
    }
    let over = pair.fail_over(false).await;
    // From here on the cluster's pool can write, too.
    let ((), calls) = under_load(&cluster, AGENTS, PAUSE, recovered(&cluster, "by-url")).await;
    let acknowledged = (0..20).map(|number| format!("job-{number}"));
    let calls = Calls { armed: calls.armed.into_iter().chain(acknowledged).collect(), ..calls };
    all_came(&cluster, &calls).await;
    drop(cluster);
    tokio::task::spawn_blocking(move || drop(over)).await.unwrap();
}

/// The address is switched to the standby, and the primary freezes without closing its connections.
///
/// Synchronous replication: the standby has every acknowledged one-shot, including the last ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_behind_a_switched_address_loses_nothing_acknowledged() {
    let pair = Pair::start(true).await;
    pair.caught_up().await;
    let (standby, proxy) = (pair.standby_url(), Proxy::start(address_of(&pair.url())).await);
    let through = at(&pair.url(), proxy.address());
    let cluster =
        Cluster::start_on(&through, 2, |s| s.with("NAS_CRON_LOG_FILTER", "info,nas_cron::scheduler=warn"))
            .await;
    let work = async {
        let over = pair.fail_over(true).await;
        proxy.switch(address_of(&standby));
        recovered(&cluster, "switch").await;
        over
    };
    let (over, calls) = under_load(&cluster, AGENTS, PAUSE, work).await;
    all_came(&cluster, &calls).await;
    drop(cluster);
    tokio::task::spawn_blocking(move || drop(over)).await.unwrap();
}

/// Asynchronous replication: one-shots that had reached the standby survive. The last acknowledged ones may be lost with
/// the primary, so the test waits until they are replicated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asynchronous_standby_keeps_all_replicated_one_shots() {
    let pair = Pair::start(false).await;
    let (standby, proxy) = (pair.standby_url(), Proxy::start(address_of(&pair.url())).await);
    let through = at(&pair.url(), proxy.address());
    let mut cluster = Cluster::start_on(&pair.url(), 2, |settings| {
        settings
            .with("NAS_CRON_DATABASE_URL", through)
            .with("NAS_CRON_LOG_FILTER", "info,nas_cron::scheduler=warn")
    })
    .await;
    cluster.agents.answer(|_, _| Reply::accepted().after(Duration::from_millis(100)));
    let token = cluster.agent("inst-1").await;
    let callback = cluster.agents.callback("inst-1");
    for number in 0..50 {
        let job = format!("job-{number}");
        cluster.replicas[number % 2].provision(&token, &job, &fire_at(5_000), &callback).await;
    }
    pair.caught_up().await;
    let over = pair.fail_over(true).await;
    proxy.switch(address_of(&standby));
    cluster.pool = sqlx::PgPool::connect(&standby).await.unwrap();
    let ((), calls) = under_load(&cluster, AGENTS, PAUSE, recovered(&cluster, "asynchronous")).await;
    let reached = (0..50).map(|number| format!("job-{number}"));
    let calls = Calls { armed: calls.armed.into_iter().chain(reached).collect(), ..calls };
    all_came(&cluster, &calls).await;
    drop(cluster);
    tokio::task::spawn_blocking(move || drop(over)).await.unwrap();
}
