//! Provisions that share a statement, on a real Postgres (`nas_cron::db::provisions`).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::db::{
    Db, DbError, DbResult, expiry, instances, leases, oneshots, outages, outcomes, provisions,
};
use nas_cron::domain::FireOutcome;
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::Ended;
use nas_cron::domain::one_shot::{Arm, Armed};
use nas_cron_protocol::{CallbackUrl, DedupKey, FireAt, Given, InstanceId, JobId, NotAfter};
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::world::eventually;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::{Connection, Executor, PgConnection};
use tokio::task::JoinHandle;

const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const CALLBACK: &str = "https://agent.example";
/// Maximum statements in flight of one replica.
const AT_ONCE: usize = 2;

fn arm(job: &str, key: &str, at: DateTime<Utc>) -> Arm {
    Arm {
        instance_id: InstanceId::new("inst-1").unwrap(),
        job_id: JobId::new(job).unwrap(),
        dedup_key: DedupKey::stored(key.to_owned()),
        fire_at: FireAt::stored(at.to_rfc3339(), at),
        callback_url: CallbackUrl::parse(CALLBACK).unwrap(),
        not_after: Given::Keep,
        seen: None,
        trace: None,
    }
}

fn tomorrow() -> DateTime<Utc> {
    nas_cron_testing::time::now() + TimeDelta::days(1)
}

struct World {
    db: Db,
    url: String,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let world = Self { db, url };
        world
            .sql("INSERT INTO instances (instance_id, org_id, callback_url) VALUES ('inst-1', 'org-1', 'https://agent.example')")
            .await;
        world
    }

    async fn session(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn sql(&self, statement: &'static str) {
        self.session().await.execute(statement).await.expect(statement);
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.session().await).await.expect(query)
    }

    async fn provision(&self, job: &str, key: &str) -> DbResult<Option<Armed>> {
        provisions::provision(&self.db, &arm(job, key, tomorrow()), &RULES).await
    }

    /// Provisions in the background, after everything that was provisioned so before.
    async fn provisioning(&self, job: &str, key: &str) -> JoinHandle<DbResult<Option<Armed>>> {
        let (db, arm) = (self.db.clone(), arm(job, key, tomorrow()));
        let task = tokio::spawn(async move { provisions::provision(&db, &arm, &RULES).await });
        // The runtime has one thread: afterwards the provision waits or is in flight.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        task
    }

    /// Waits until this many statements of the service wait for a lock.
    async fn blocked(&self, statements: usize) {
        eventually("statements wait for a lock", async || {
            let waiting = self
                .count(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'nas-cron' AND wait_event_type = 'Lock'",
                )
                .await;
            (usize::try_from(waiting).unwrap() == statements).then_some(())
        })
        .await;
    }

    /// Occupies all places: the next provisions share a statement once it is released.
    async fn occupy(&self) -> Occupied {
        for place in 0..AT_ONCE {
            self.provision(&format!("busy-{place}"), "k").await.unwrap().unwrap();
        }
        let mut holder = self.session().await;
        holder.execute("BEGIN; SELECT FROM one_shots WHERE job_id LIKE 'busy-%' FOR UPDATE").await.unwrap();
        let mut running = Vec::new();
        for place in 0..AT_ONCE {
            running.push(self.provisioning(&format!("busy-{place}"), "another").await);
            self.blocked(place + 1).await;
        }
        Occupied { holder, running }
    }

    /// The rows of these jobs were written by one transaction.
    async fn shared_a_statement(&self, jobs: &'static str) -> bool {
        let mut session = self.session().await;
        let query = "SELECT count(DISTINCT xmin::text) FROM one_shots WHERE job_id LIKE $1";
        let writers: i64 = sqlx::query_scalar(query).bind(jobs).fetch_one(&mut session).await.unwrap();
        writers == 1
    }

    async fn listed(&self, job: &str) -> Option<String> {
        let query = "SELECT dedup_key FROM one_shots WHERE instance_id = 'inst-1' AND job_id = $1";
        sqlx::query_scalar(query).bind(job).fetch_optional(&mut self.session().await).await.unwrap()
    }
}

struct Occupied {
    holder: PgConnection,
    running: Vec<JoinHandle<DbResult<Option<Armed>>>>,
}

impl Occupied {
    async fn release(mut self) {
        self.holder.execute("COMMIT").await.unwrap();
        for one in self.running {
            one.await.unwrap().unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn provisions_that_arrive_together_share_a_statement() {
    let world = World::new().await;
    for round in ["first key", "second key"] {
        let busy = world.occupy().await;
        let mut asked = Vec::new();
        for job in 0..20 {
            asked.push(world.provisioning(&format!("job-{job}"), round).await);
        }
        busy.release().await;
        for (job, one) in asked.into_iter().enumerate() {
            let armed = one.await.unwrap().unwrap().unwrap();
            let mut session = world.session().await;
            let query = "SELECT schedule_id FROM one_shots WHERE job_id = $1";
            let stored: sqlx::types::Uuid =
                sqlx::query_scalar(query).bind(format!("job-{job}")).fetch_one(&mut session).await.unwrap();
            assert_eq!(armed.schedule_id.0, stored, "each caller gets the answer for its job");
        }
        assert!(world.shared_a_statement("job-%").await, "{round}");
    }
}

#[tokio::test]
async fn new_jobs_and_known_ones_are_provisioned_together() {
    let world = World::new().await;
    world.provision("known-1", "k").await.unwrap().unwrap();
    world.provision("known-2", "k").await.unwrap().unwrap();
    let busy = world.occupy().await;
    let mut asked = Vec::new();
    for job in ["new-1", "known-1", "new-2", "known-2"] {
        asked.push(world.provisioning(job, "k2").await);
    }
    busy.release().await;
    for one in asked {
        one.await.unwrap().unwrap().unwrap();
    }
    assert!(world.shared_a_statement("known-%").await && world.shared_a_statement("new-%").await);
    assert!(!world.shared_a_statement("%-1").await, "locks are not held during inserts");
    assert_eq!(world.count("SELECT count(*) FROM one_shots WHERE dedup_key = 'k2'").await, 4);
}

#[tokio::test]
async fn rejected_provision_does_not_fail_its_neighbours() {
    let world = World::new().await;
    world.provision("known", "k").await.unwrap().unwrap();
    let busy = world.occupy().await;
    let mut asked = Vec::new();
    for (job, key) in [("new-1", "k2"), ("bad", ""), ("new-2", "k2"), ("known", "k2"), ("worse", "\0")] {
        asked.push((job, world.provisioning(job, key).await));
    }
    busy.release().await;
    for (job, one) in asked {
        let result = one.await.unwrap();
        match job {
            "bad" | "worse" => assert!(matches!(result, Err(DbError::Defect(_))), "{job}: {result:?}"),
            _ => assert!(result.unwrap().is_some(), "{job}"),
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM one_shots WHERE dedup_key = 'k2'").await, 3);
}

#[tokio::test]
async fn unknown_instance_is_reported_to_its_caller_only() {
    let world = World::new().await;
    let busy = world.occupy().await;
    let (db, stray) = (
        world.db.clone(),
        Arm { instance_id: InstanceId::new("nobody").unwrap(), ..arm("job", "k", tomorrow()) },
    );
    let nobody = tokio::spawn(async move { provisions::provision(&db, &stray, &RULES).await });
    let neighbour = world.provisioning("job", "k").await;
    busy.release().await;
    assert_eq!(nobody.await.unwrap().unwrap(), None);
    assert!(neighbour.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn first_callbacks_that_arrive_together_are_recorded_once_for_each_instance() {
    let world = World::new().await;
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('a', 'org-1'), ('b', 'org-1')").await;
    let busy = world.occupy().await;
    let asked =
        [("a", "one"), ("a", "two"), ("b", "one"), ("inst-1", "one"), ("nobody", "one"), ("a", "one")];
    let recorded = asked.map(|(instance, home)| {
        let (db, instance) = (world.db.clone(), InstanceId::new(instance).unwrap());
        let callback = CallbackUrl::parse(&format!("https://{home}.example")).unwrap();
        tokio::spawn(
            async move { instances::record_first_callback(&db, &instance, &callback).await.unwrap() },
        )
    });
    busy.release().await;
    let mut results = Vec::new();
    for one in recorded {
        results.push(one.await.unwrap());
    }
    assert!(results[0] != results[1], "one home of `a` was first: {results:?}");
    assert_eq!(results[2..5], [true, false, false]);
    let home = if results[0] { "https://one.example" } else { "https://two.example" };
    let stored: Vec<(String, String)> =
        sqlx::query_as("SELECT instance_id, callback_url FROM instances ORDER BY instance_id COLLATE \"C\"")
            .fetch_all(&mut world.session().await)
            .await
            .unwrap();
    let expected = [("a", home), ("b", "https://one.example"), ("inst-1", CALLBACK)];
    assert_eq!(stored, expected.map(|(instance, callback)| (instance.to_owned(), callback.to_owned())));
}

#[tokio::test]
async fn provisions_of_one_job_are_stored_in_order_of_arrival() {
    let world = World::new().await;
    let busy = world.occupy().await;
    let mut asked = Vec::new();
    for key in ["a", "b", "c", "b"] {
        asked.push(world.provisioning("job", key).await);
    }
    busy.release().await;
    let mut schedules = Vec::new();
    for one in asked {
        schedules.push(one.await.unwrap().unwrap().unwrap().schedule_id);
    }
    assert_eq!(world.listed("job").await.as_deref(), Some("b"));
    schedules.sort_unstable_by_key(|one| one.0);
    schedules.dedup();
    assert_eq!(schedules.len(), 4, "each superseded the one before");
}

#[tokio::test]
async fn aborted_request_does_not_abort_its_neighbours_and_a_later_cancel_stands() {
    let world = World::new().await;
    world.provision("slow", "k").await.unwrap().unwrap();
    world.provision("aborted", "k").await.unwrap().unwrap();
    let busy = world.occupy().await;
    let mut holder = world.session().await;
    holder.execute("BEGIN; SELECT FROM one_shots WHERE job_id = 'slow' FOR UPDATE").await.unwrap();
    let (aborted, kept) = (world.provisioning("aborted", "k2").await, world.provisioning("slow", "k2").await);
    busy.release().await;
    world.blocked(1).await;
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
    // A newer request for the job must not be overtaken by the statement in flight.
    let (instance, job) = (InstanceId::new("inst-1").unwrap(), JobId::new("aborted").unwrap());
    let db = world.db.clone();
    let cancel = tokio::spawn(async move { oneshots::cancel(&db, &instance, &job).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!cancel.is_finished());
    holder.execute("COMMIT").await.unwrap();
    assert!(kept.await.unwrap().unwrap().is_some());
    assert!(cancel.await.unwrap().unwrap().is_some());
    assert_eq!(world.listed("aborted").await, None);
    assert_eq!(world.listed("slow").await.as_deref(), Some("k2"));
}

#[tokio::test]
async fn every_caller_gets_an_error_if_the_database_is_lost_during_the_statement() {
    let world = World::new().await;
    for job in ["slow", "known"] {
        world.provision(job, "k").await.unwrap().unwrap();
    }
    let busy = world.occupy().await;
    let mut holder = world.session().await;
    holder.execute("BEGIN; SELECT FROM one_shots WHERE job_id = 'slow' FOR UPDATE").await.unwrap();
    let mut asked = Vec::new();
    for job in ["slow", "known", "new-1", "new-2"] {
        asked.push(world.provisioning(job, "k2").await);
    }
    busy.release().await;
    world.blocked(1).await;
    world
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'nas-cron'",
        )
        .await;
    for one in asked {
        let error = one.await.unwrap().unwrap_err();
        assert!(matches!(error, DbError::Unavailable(_)), "{error}");
    }
    holder.execute("COMMIT").await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM one_shots WHERE dedup_key = 'k2'").await, 0);
}

/// Another replica inserts a job's first row during the statement that inserts it.
#[tokio::test]
async fn job_that_another_replica_provisions_first_is_superseded() {
    let world = World::new().await;
    let mut other = world.session().await;
    other
        .execute(
            "BEGIN;
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    next_attempt_at)
             VALUES ('inst-1', 'raced', gen_random_uuid(), 'theirs', '2099-01-01T00:00:00Z', '2099-01-01T00:00:00Z',
                     'https://agent.example', 'armed', '2099-01-01T00:00:00Z')",
        )
        .await
        .unwrap();
    let busy = world.occupy().await;
    let mut asked = Vec::new();
    for job in ["a", "raced", "z"] {
        asked.push(world.provisioning(job, "ours").await);
    }
    busy.release().await;
    world.blocked(1).await;
    other.execute("COMMIT").await.unwrap();
    for one in asked {
        assert!(one.await.unwrap().unwrap().is_some());
    }
    assert_eq!(world.count("SELECT count(*) FROM one_shots WHERE dedup_key = 'ours'").await, 3);
}

/// The row of a known job is deleted while its provision waits for it.
#[tokio::test]
async fn job_that_is_cancelled_during_its_provision_is_armed_anew() {
    let world = World::new().await;
    for job in ["cancelled", "kept"] {
        world.provision(job, "k").await.unwrap().unwrap();
    }
    let busy = world.occupy().await;
    let mut other = world.session().await;
    other.execute("BEGIN; DELETE FROM one_shots WHERE job_id = 'cancelled'").await.unwrap();
    let asked = [world.provisioning("cancelled", "k2").await, world.provisioning("kept", "k2").await];
    busy.release().await;
    world.blocked(1).await;
    other.execute("COMMIT").await.unwrap();
    for one in asked {
        assert!(one.await.unwrap().unwrap().is_some());
    }
    assert_eq!(world.count("SELECT count(*) FROM one_shots WHERE dedup_key = 'k2'").await, 2);
}

/// Everything that changes several rows, on the same few jobs, by two replicas.
async fn hammer(seed: u64, length: Duration) {
    println!("PROVISIONS_SEED={seed}");
    let world = World::new().await;
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-2', 'org-1')").await;
    let ends = tokio::time::Instant::now() + length;
    let replicas = [connect(&world.url), connect(&world.url)];
    let mut clients = Vec::new();
    for client in 0..12_u64 {
        let db = replicas[usize::try_from(client % 2).unwrap()].clone();
        let mut random = StdRng::seed_from_u64(seed * 100 + client);
        clients.push(tokio::spawn(async move {
            let mut count = 0_u32;
            while tokio::time::Instant::now() < ends {
                step(&db, &mut random).await.unwrap_or_else(|error| panic!("client {client}: {error}"));
                count += 1;
            }
            count
        }));
    }
    let mut steps = 0;
    for client in clients {
        steps += client.await.unwrap();
    }
    // A deadlock fails a step: its statement conflicted with a concurrent one.
    assert!(steps > 12, "{steps}");
    // The latest provision stands.
    for job in 0..JOBS {
        let key = format!("last-{job}");
        let arm = any_arm(1, job, &key, TimeDelta::days(1), Given::Keep);
        let armed = provisions::provision(&replicas[0], &arm, &RULES).await.unwrap().unwrap();
        let query = "SELECT count(*) FROM one_shots WHERE schedule_id = $1 AND dedup_key = $2";
        let stored: i64 = sqlx::query_scalar(query)
            .bind(armed.schedule_id.0)
            .bind(key)
            .fetch_one(&mut world.session().await)
            .await
            .unwrap();
        assert_eq!(stored, 1);
    }
}

const JOBS: u32 = 12;

fn any_arm(instance: u32, job: u32, key: &str, due_in: TimeDelta, not_after: Given<NotAfter>) -> Arm {
    Arm {
        instance_id: InstanceId::new(format!("inst-{instance}")).unwrap(),
        not_after,
        ..arm(&format!("job-{job}"), key, nas_cron_testing::time::now() + due_in)
    }
}

async fn step(db: &Db, random: &mut StdRng) -> DbResult<()> {
    let (instance, job) = (random.random_range(1..=2), random.random_range(0..JOBS));
    let instance_id = InstanceId::new(format!("inst-{instance}")).unwrap();
    let job_id = JobId::new(format!("job-{job}")).unwrap();
    let kind = random.random_range(0..20);
    step_of(kind, db, random, instance_id, job_id)
        .await
        .inspect_err(|error| eprintln!("step {kind}: {error:?}"))
}

async fn step_of(
    kind: u32,
    db: &Db,
    random: &mut StdRng,
    instance_id: InstanceId,
    job_id: JobId,
) -> DbResult<()> {
    match kind {
        0..8 => {
            let jobs = (0..8).map(|_| random.random_range(0..JOBS)).collect::<Vec<_>>();
            let (key, due_in) = (random.random_range(0..3).to_string(), random.random_range(-200..200));
            let limit = if random.random_bool(0.2) {
                Given::Set(NotAfter::stored(
                    nas_cron_testing::time::now() + TimeDelta::milliseconds(due_in + 50),
                ))
            } else {
                Given::Keep
            };
            let arms = jobs.into_iter().map(|job| {
                let (instance, limit) = (random.random_range(1..=2), limit.clone());
                any_arm(instance, job, &key, TimeDelta::milliseconds(due_in), limit)
            });
            let arms: Vec<Arm> = arms.collect();
            let asked = arms.iter().map(|arm| provisions::provision(db, arm, &RULES));
            for answer in futures::future::join_all(asked).await {
                assert!(answer?.is_some());
            }
        }
        8 | 9 => drop(oneshots::cancel(db, &instance_id, &job_id).await?),
        10..14 => {
            let seconds = Duration::from_secs;
            let leased = leases::claim_due(db, seconds(2), seconds(3), 50, &[]).await?.leases;
            let confirmed = leases::confirm(db, &leased, seconds(40), 1).await?.attempts;
            let ended: Vec<Ended> = confirmed
                .iter()
                .map(|attempt| Ended {
                    attempt: attempt.started(),
                    outcome: FireOutcome::Delivered,
                    http_status: Some(202),
                    error: None,
                    answer: None,
                    ambiguous: false,
                    retry_in: None,
                    retry_after: None,
                })
                .collect();
            outcomes::finish_fires(db, &ended, &RULES).await?;
            leases::give_back(db, &leased, Duration::ZERO).await?;
        }
        14 => drop(expiry::expire(db, 100).await?),
        15 | 16 => {
            let to =
                CallbackUrl::parse(&format!("https://agent-{}.example", random.random_range(0..3))).unwrap();
            oneshots::move_callback(db, &instance_id, &job_id, Some(CALLBACK), &to).await?;
        }
        17 => drop(outages::pull_retries(db, &instance_id, Duration::ZERO).await?),
        18 => {
            outages::open_outages(db, &[(&instance_id, &job_id, CALLBACK)]).await?;
            outages::close_outages(db, &[instance_id]).await?;
        }
        _ => drop(outages::tidy_parked(db, Duration::from_hours(1), 100).await?),
    }
    Ok(())
}

fn seed() -> u64 {
    std::env::var("PROVISIONS_SEED")
        .map_or_else(|_| rand::random_range(0..1_000_000), |seed| seed.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisions_and_other_statements_about_the_same_jobs_do_not_deadlock() {
    hammer(seed(), Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn provisions_and_other_statements_do_not_deadlock_for_longer() {
    for round in 0..10 {
        hammer(seed() + round, Duration::from_secs(20)).await;
    }
}
