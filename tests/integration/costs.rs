//! Upper limits of the database's work for one provision and for one fire: statements, WAL records and bytes, and rows read.
//!
//! Counts, not times, so the speed of the machine does not matter. Concurrent work shares statements and commits. The
//! limits leave room for smaller batches, but not for a statement per row or for an index that every claim writes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::agent::Agents;
use nas_cron_testing::database::{server_options, with_slow_disk};
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;
use sqlx::{Connection, Executor, PgConnection};

const JOBS: usize = 1_000;
/// Jobs of a round of the test about plans.
const FEW: usize = 300;
/// Other one-shots, which nothing should read.
const OTHERS: u64 = 50_000;
/// Rounds in which sessions make their plans.
const PLANNING: usize = 4;
const AGENTS: usize = 50;
/// Concurrent provisions.
const IN_FLIGHT: usize = 32;
const DELIVERED: &str = "nas_cron_fires_total{outcome=\"delivered\"} ";

/// Start of a statement's line in the server's log. The service's sessions have its name, the test's have none.
const STATEMENT: [&str; 2] = ["nas-cron|LOG:  execute ", "nas-cron|LOG:  statement: "];

/// A server that logs every statement of the service, and what runs beside it.
struct Stage {
    postgres: PrivatePostgres,
    url: String,
    settings: Settings,
    portal: Portal,
    agents: Agents,
}

/// Work of the database.
struct Work {
    /// Executions, by the statement's text.
    statements: BTreeMap<String, usize>,
    wal_records: i64,
    wal_bytes: i64,
}

/// Work of the database for one job.
#[derive(Clone, Copy, Debug)]
struct Cost {
    statements: f64,
    wal_records: f64,
    wal_bytes: f64,
}

impl Stage {
    async fn start() -> Self {
        let mut options = with_slow_disk(server_options());
        let more = [
            ("log_statement", "all"),
            ("log_line_prefix", "%a|"),
            ("log_parameter_max_length", "0"),
            // These write WAL at any time.
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
            ("checkpoint_timeout", "1d"),
        ];
        options.settings.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let postgres = start(options).await;
        let url = postgres.tcp_url("postgres").expect("TCP is enabled");
        let portal = Portal::start().await;
        let settings = Settings::new(&url, &portal);
        Self { postgres, url, settings, portal, agents: Agents::start().await }
    }

    /// Returns the work of the database from the start of a service to its end, with `during` in between.
    async fn work(&self, during: impl AsyncFnOnce(&Service)) -> Work {
        let (log, [records, bytes]) = (self.log().len(), self.wal().await);
        let service = Service::start(&self.settings).await;
        during(&service).await;
        assert!(service.stop().await.success());
        let [wal_records, wal_bytes] = self.wal().await;
        let statements = statements(&self.log()[log..]);
        Work { statements, wal_records: wal_records - records, wal_bytes: wal_bytes - bytes }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.postgres.data_dir().join("postgres.log")).expect("a readable log")
    }

    /// Returns the number of WAL records and bytes so far. Sessions report theirs at their end at the latest.
    async fn wal(&self) -> [i64; 2] {
        let session = &mut PgConnection::connect(&self.url).await.expect("the server answers");
        let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        eventually("all sessions have ended", async || {
            let others: i64 = sqlx::query_scalar(others).fetch_one(&mut *session).await.expect(others);
            (others == 0).then_some(())
        })
        .await;
        let so_far = "SELECT ARRAY[wal_records, wal_bytes::int8] FROM pg_stat_wal";
        let so_far: Vec<i64> = sqlx::query_scalar(so_far).fetch_one(session).await.expect(so_far);
        so_far.try_into().expect("two numbers")
    }

    /// Returns the rows of `one_shots` and the entries of its indexes that were read so far.
    async fn rows_read(&self) -> i64 {
        let session = &mut PgConnection::connect(&self.url).await.expect("the server answers");
        let read = "SELECT t.seq_tup_read + t.idx_tup_fetch + (SELECT sum(i.idx_tup_read) FROM pg_stat_user_indexes i
                                                              WHERE i.relname = 'one_shots')::int8
                    FROM pg_stat_user_tables t WHERE t.relname = 'one_shots'";
        sqlx::query_scalar(read).fetch_one(session).await.expect(read)
    }

    /// Returns the agent of a job, and its token.
    fn agent(&self, job: usize) -> (String, String) {
        let agent = format!("agent-{}", job % AGENTS);
        let token = self.portal.client_token("org-1", &agent);
        (agent, token)
    }

    /// Provisions the first `jobs`, due in `millis`.
    async fn arm(&self, service: &Service, jobs: usize, millis: i64) {
        let at = fire_at(millis);
        let provisions = (0..jobs).map(|number| {
            let ((agent, token), at) = (self.agent(number), &at);
            async move {
                let (job, callback) = (format!("job-{number}"), self.agents.callback(&agent));
                match service.try_provision(&token, &job, at, &callback).await {
                    (200, _) => Ok(()),
                    failed => Err(failed),
                }
            }
        });
        let done = stream::iter(provisions).buffer_unordered(IN_FLIGHT).try_collect::<()>().await;
        done.expect("provisions succeed");
    }

    /// Waits until the outcomes of so many fires are durable.
    async fn fired(&self, service: &Service, fires: usize) {
        eventually("all fires are delivered", async || {
            let page = service.metrics().await;
            let delivered = page.lines().find_map(|line| line.strip_prefix(DELIVERED)?.parse::<usize>().ok());
            (delivered == Some(fires)).then_some(())
        })
        .await;
    }
}

async fn start(options: Options) -> PrivatePostgres {
    let started = tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.expect("no panic");
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Counts the statements of the service in a log. The further lines of a statement begin with a tab.
fn statements(log: &str) -> BTreeMap<String, usize> {
    let mut lines = log.lines().peekable();
    let mut counts = BTreeMap::new();
    while let Some(line) = lines.next() {
        let Some(begin) = STATEMENT.iter().find_map(|start| line.strip_prefix(start)) else { continue };
        let mut text = begin.split_once(": ").map_or(begin, |(_prepared, text)| text).to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with('\t')) {
            text.push_str(more);
        }
        let words: Vec<_> = text.split_whitespace().collect();
        *counts.entry(words.join(" ")).or_default() += 1;
    }
    counts
}

impl Work {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn per_job(&self) -> Cost {
        let jobs = JOBS as f64;
        Cost {
            statements: self.statements.values().sum::<usize>() as f64 / jobs,
            wal_records: self.wal_records as f64 / jobs,
            wal_bytes: self.wal_bytes as f64 / jobs,
        }
    }
}

/// The most frequent statements, for a failed test.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut statements: Vec<_> = self.statements.iter().collect();
        statements.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let lines = statements.iter().take(10).map(|(text, count)| format!("{count:>8}  {text:.200}"));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl Cost {
    /// Fails if a count is above its limit. `of` contains the statements.
    fn is_at_most(self, limit: Self, what: &str, of: &Work) {
        let within = self.statements <= limit.statements
            && self.wal_records <= limit.wal_records
            && self.wal_bytes <= limit.wal_bytes;
        println!("{what}: {self:.2?}");
        assert!(
            within,
            "{what} costs {self:.2?}; the limit is {limit:.2?}. The most frequent statements:\n{of}"
        );
    }
}

impl std::ops::Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            statements: self.statements - other.statements,
            wal_records: self.wal_records - other.wal_records,
            wal_bytes: self.wal_bytes - other.wal_bytes,
        }
    }
}

#[tokio::test]
async fn provisions_and_fires_cost_the_database_no_more_than_these_limits() {
    let stage = Stage::start().await;
    stage
        .work(async |service| {
            for number in 0..AGENTS {
                service.register(&format!("agent-{number}"), "org-1", None).await;
            }
            // The first call of an agent costs more.
            stage.arm(service, AGENTS, 3_600_000).await;
            for number in 0..AGENTS {
                service.cancel(&stage.agent(number).1, &format!("job-{number}")).await;
            }
        })
        .await;

    // Measured: 0.7 to 1.0 statements (a shared read of instances and a shared provision), 4.3 records, 490 bytes.
    let new = stage.work(async |service| stage.arm(service, JOBS, 3_600_000).await).await;
    new.per_job().is_at_most(
        Cost { statements: 1.4, wal_records: 4.8, wal_bytes: 650.0 },
        "provision of a new job",
        &new,
    );

    let superseded = stage.work(async |service| stage.arm(service, JOBS, 7_200_000).await).await;
    // Fires may begin before all are armed. The sum is the same.
    let fired = stage
        .work(async |service| {
            stage.arm(service, JOBS, 3_000).await;
            stage.fired(service, JOBS).await;
        })
        .await;
    // Measured: 0.1 to 0.3 statements, 9.3 records, 1,100 bytes.
    (fired.per_job() - superseded.per_job()).is_at_most(
        Cost { statements: 0.7, wal_records: 10.8, wal_bytes: 1_450.0 },
        "fire",
        &fired,
    );

    // Measured: 0.4 to 1.0 statements, 4.5 records, 590 bytes. The index of armed one-shots, for quotas, is one more record for
    // a job that was delivered.
    let again = stage.work(async |service| stage.arm(service, JOBS, 3_600_000).await).await;
    again.per_job().is_at_most(
        Cost { statements: 1.4, wal_records: 5.0, wal_bytes: 750.0 },
        "provision of a delivered job",
        &again,
    );
}

/// Sessions keep their plans while the table grows. A plan that reads the whole table is the best one while it is small.
#[tokio::test]
async fn plans_made_for_a_small_table_stay_good_when_it_has_grown() {
    let stage = Stage::start().await;
    let service = Service::start(&stage.settings).await;
    for number in 0..AGENTS {
        service.register(&format!("agent-{number}"), "org-1", None).await;
    }
    stage.arm(&service, 3, 3_600_000).await;
    let mut session = PgConnection::connect(&stage.url).await.expect("the server answers");
    session.execute("VACUUM ANALYZE").await.expect("an analysed table");
    // Every session executes every statement often enough to keep its plan.
    for round in 1..=PLANNING {
        stage.arm(&service, FEW, 1_000).await;
        stage.fired(&service, round * FEW).await;
    }
    sqlx::query(
        "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
             next_attempt_at)
         SELECT 'agent-' || n % 50, 'other-' || n, gen_random_uuid(), 'k', 'x', now() + interval '1 year',
                'https://agent.example', 'armed', now() + interval '1 year'
         FROM generate_series(1, $1::int8) AS n",
    )
    .bind(OTHERS.cast_signed())
    .execute(&mut session)
    .await
    .expect("more one-shots");
    session.close().await.expect("a session that ends");
    let (before, since) = (stage.rows_read().await, Instant::now());
    stage.arm(&service, FEW, 1_000).await;
    stage.fired(&service, (PLANNING + 1) * FEW).await;
    // Sessions report what they have read at their end at the latest.
    assert!(service.stop().await.success());
    stage.wal().await;
    // Maintenance counts by a sample, which is all of such a table.
    let counts = 2 + since.elapsed().as_secs() / 11;
    let read = stage.rows_read().await - before;
    println!("{} rows and index entries for each job", read / i64::try_from(FEW).expect("few"));
    let allowed = 150 * FEW as u64 + counts * (OTHERS + 4 * FEW as u64);
    assert!(
        read < i64::try_from(allowed).expect("few"),
        "{read} read, {allowed} allowed for {FEW} jobs and {counts} counts"
    );
}
