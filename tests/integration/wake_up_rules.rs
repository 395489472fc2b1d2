//! The statements about outbox rows and wake-ups, on a real Postgres.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::db::{Db, directory, holds, leases, outages, outcomes, wake_ups};
use nas_cron::domain::FireOutcome;
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::Ended;
use nas_cron::domain::hold::HoldTarget;
use nas_cron::domain::lease::Lease;
use nas_cron::domain::one_shot::Armed;
use nas_cron::domain::outbox::{Done, Order, Outbox, ToTell, Told};
use nas_cron::domain::wake_up::{Found, Wake};
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::{BackendName, InstanceId, JobId, OneShotState, ScheduleId};
use nas_cron_testing::database::database;
use nas_cron_testing::time::now;
use sqlx::PgPool;

const HORIZON: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(30);
/// Lease of an order.
const LEASE: Duration = Duration::from_mins(1);
const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const BACKEND: BackendName = BackendName::Nats;
const CALLBACK: &str = "https://agent.example";

/// A database with one instance, whose new one-shots await an external backend.
struct World {
    db: Db,
    pool: PgPool,
    instance: InstanceId,
}

/// A row of `wake_ups`.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
struct Row {
    schedule_id: uuid::Uuid,
    generation: i32,
    backend: String,
    state: String,
    message_id: Option<String>,
    tries: i32,
    /// True if its order is due.
    due: bool,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        let world = Self { db, pool, instance: InstanceId::new("inst-1").unwrap() };
        world
            .sql("INSERT INTO instances (instance_id, org_id, callback_url) VALUES ('inst-1', 'org-1', 'https://agent.example')")
            .await;
        world.activate(BACKEND).await;
        world
    }

    async fn sql(&self, statements: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&self.pool)
            .await
            .expect(statements);
    }

    async fn activate(&self, backend: BackendName) {
        wake_ups::activate(&self.db, backend).await.unwrap();
    }

    /// Arms a job `seconds` from now.
    async fn arm(&self, job: &str, seconds: i64) -> Armed {
        self.arm_at(job, now() + TimeDelta::seconds(seconds)).await
    }

    async fn arm_at(&self, job: &str, at: DateTime<Utc>) -> Armed {
        let text = at.to_rfc3339();
        let wanted = Provision::new(job, &text, CALLBACK, &format!("{job}:{text}")).unwrap();
        oneshot::provision(&self.db, &self.instance, Some(CALLBACK), &wanted, &RULES).await.unwrap()
    }

    /// Arms a job that awaits its backend, and makes it due in `seconds`.
    async fn awaiting(&self, job: &str, seconds: f64) -> ScheduleId {
        let armed = self.arm(job, 3_600).await;
        assert_eq!(armed.awaits, Some(BACKEND));
        sqlx::query(
            "WITH o AS (UPDATE one_shots SET fire_at = now() + make_interval(secs => $2),
                                             next_attempt_at = now() + make_interval(secs => $2)
                        WHERE job_id = $1 RETURNING schedule_id)
             UPDATE wake_ups u SET due_at = now() + make_interval(secs => $2) FROM o WHERE u.schedule_id = o.schedule_id",
        )
        .bind(job)
        .bind(seconds)
        .execute(&self.pool)
        .await
        .unwrap();
        armed.schedule_id
    }

    async fn cancel(&self, job: &str) {
        oneshot::cancel(&self.db, &self.instance, &JobId::new(job).unwrap()).await.unwrap();
    }

    fn wake(&self, job: &str, schedule_id: ScheduleId) -> Wake {
        Wake { instance_id: self.instance.clone(), job_id: JobId::new(job).unwrap(), schedule_id }
    }

    async fn take(&self, wakes: &[Wake]) -> Vec<Found> {
        self.take_with_room(wakes, 1_000).await
    }

    async fn take_with_room(&self, wakes: &[Wake], room: i64) -> Vec<Found> {
        wake_ups::take(&self.db, wakes, HORIZON, GRACE, room).await.unwrap()
    }

    async fn take_one(&self, job: &str, schedule_id: ScheduleId) -> Found {
        self.take(&[self.wake(job, schedule_id)]).await.pop().unwrap()
    }

    async fn claim(&self) -> Vec<Lease> {
        leases::claim_due(&self.db, HORIZON, GRACE, 100, &[]).await.unwrap().leases
    }

    /// Confirms leases. Returns the number of attempts that may start.
    async fn confirm(&self, leases: &[Lease]) -> usize {
        leases::confirm(&self.db, leases, Duration::from_secs(40), 1).await.unwrap().attempts.len()
    }

    /// Confirms a lease, and records a delivery.
    async fn deliver(&self, lease: Lease) {
        let confirmed =
            leases::confirm(&self.db, &[lease], Duration::from_secs(40), 1).await.unwrap().attempts;
        let ended = Ended {
            attempt: confirmed[0].started(),
            outcome: FireOutcome::Delivered,
            http_status: Some(202),
            error: None,
            answer: None,
            ambiguous: false,
            retry_in: None,
            retry_after: None,
        };
        outcomes::finish_fires(&self.db, &[ended], &RULES).await.unwrap();
    }

    async fn rows(&self) -> Vec<Row> {
        sqlx::query_as(
            "SELECT schedule_id, generation, backend::text, state::text, message_id, tries,
                    COALESCE(next_try_at <= now(), false) AS due
             FROM wake_ups ORDER BY generation, due_at, schedule_id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    async fn row(&self, schedule_id: ScheduleId) -> Option<Row> {
        self.rows().await.into_iter().find(|row| row.schedule_id == schedule_id.0)
    }

    async fn awaits(&self, job: &str) -> Option<String> {
        sqlx::query_scalar("SELECT awaits::text FROM one_shots WHERE job_id = $1")
            .bind(job)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn orders(&self) -> Outbox {
        wake_ups::take_orders(&self.db, BACKEND, None, LEASE, 100).await.unwrap()
    }

    async fn one_order(&self) -> ToTell {
        let mut orders = self.orders().await.to_tell;
        assert_eq!(orders.len(), 1, "{orders:?}");
        orders.remove(0)
    }

    async fn record(&self, schedule_id: ScheduleId, done: Done) {
        self.record_of(schedule_id, 1, done).await;
    }

    async fn record_of(&self, schedule_id: ScheduleId, generation: i32, done: Done) {
        wake_ups::record_results(&self.db, &[Told { schedule_id, generation, done }]).await.unwrap();
    }

    /// Records that the only order was armed, with `message_id`.
    async fn tell(&self, message_id: &str) {
        let order = self.one_order().await;
        assert!(matches!(order.order, Order::Arm { .. }), "{order:?}");
        self.record_of(order.schedule_id, order.generation, Done::Armed(Some(message_id.to_owned()))).await;
    }

    async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect(query)
    }
}

fn leased(found: Found) -> Lease {
    match found {
        Found::Leased(lease) => lease,
        other => panic!("not leased: {other:?}"),
    }
}

fn message(order: &ToTell) -> Option<&str> {
    match &order.order {
        Order::Cancel { message_id, .. } => message_id.as_deref(),
        Order::Arm { .. } => panic!("not a cancel: {order:?}"),
    }
}

// Arming.

#[tokio::test]
async fn only_one_shots_far_enough_ahead_await_a_backend() {
    let world = World::new().await;
    let near = world.arm("near", 2).await;
    let far = world.arm("far", 60).await;
    assert_eq!((near.awaits, far.awaits), (None, Some(BACKEND)));
    let rows = world.rows().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let Row { schedule_id, generation, backend, state, due, .. } = &rows[0];
    assert_eq!(
        (*schedule_id, *generation, backend.as_str(), state.as_str(), *due),
        (far.schedule_id.0, 1, "nats", "wanted", true)
    );
}

#[tokio::test]
async fn arming_the_same_key_again_changes_nothing() {
    let world = World::new().await;
    let at = now() + TimeDelta::seconds(60);
    let first = world.arm_at("job", at).await;
    world.tell("m-1").await;
    let before = world.rows().await;
    assert_eq!(world.arm_at("job", at).await, Armed { is_new_job: false, ..first });
    assert_eq!(world.rows().await, before);
}

// Processing wake-ups.

#[tokio::test]
async fn a_one_shot_due_soon_is_leased_by_its_wake_up() {
    let world = World::new().await;
    let id = world.awaiting("job", 0.0).await;
    assert!(world.claim().await.is_empty(), "the built-in loop leaves it to the backend");
    let lease = leased(world.take_one("job", id).await);
    assert_eq!(world.awaits("job").await, None);
    assert_eq!(world.rows().await, [], "the outbox row is deleted");
    assert!(world.claim().await.is_empty(), "it has one lease");
    assert_eq!(world.confirm(&[lease]).await, 1);
}

#[tokio::test]
async fn a_lease_of_a_wake_up_before_the_instant_is_not_confirmed_before_it() {
    let world = World::new().await;
    let id = world.awaiting("job", 60.0).await;
    let minutes = Duration::from_mins(2);
    let found = wake_ups::take(&world.db, &[world.wake("job", id)], minutes, GRACE, 1).await.unwrap().pop();
    assert_eq!(world.confirm(&[leased(found.unwrap())]).await, 0, "too early");
}

#[tokio::test]
async fn a_one_shot_woken_too_early_is_fired_by_the_built_in_loop() {
    let world = World::new().await;
    let id = world.awaiting("job", 900.0).await;
    match world.take_one("job", id).await {
        Found::Standing { state: OneShotState::Armed, parked: false, due_in: Some(due_in), .. } => {
            assert!((600..=900).contains(&due_in.as_secs()), "{due_in:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((world.awaits("job").await, world.rows().await.len()), (None, 0));
    world.sql("UPDATE one_shots SET fire_at = now(), next_attempt_at = now()").await;
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn the_same_wake_up_twice_in_one_statement_is_one_lease() {
    let world = World::new().await;
    let (a, b) = (world.awaiting("a", 0.0).await, world.awaiting("b", 0.0).await);
    let wakes = [world.wake("a", a), world.wake("b", b), world.wake("a", a)];
    let found = world.take(&wakes).await;
    assert!(
        matches!(
            found[..],
            [Found::Leased(_), Found::Leased(_), Found::Standing { state: OneShotState::Armed, .. }]
        ),
        "in the order of the wake-ups: {found:?}"
    );
    assert_eq!(found.iter().filter(|one| matches!(one, Found::Leased(_))).count(), 2);
}

#[tokio::test]
async fn every_wake_up_gets_the_current_state() {
    let world = World::new().await;
    let old = world.awaiting("superseded", 0.0).await;
    let new = world.awaiting("superseded", 0.0).await;
    let cancelled = world.awaiting("cancelled", 0.0).await;
    world.cancel("cancelled").await;
    let dead = world.awaiting("dead", 0.0).await;
    world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), awaits = NULL, next_attempt_at = NULL WHERE job_id = 'dead'").await;
    let done = world.awaiting("done", 0.0).await;
    world.deliver(leased(world.take_one("done", done).await)).await;
    let again = world.awaiting("again", 0.0).await;
    world.deliver(leased(world.take_one("again", again).await)).await;
    world.awaiting("again", 0.0).await;
    let found = world
        .take(&[
            world.wake("superseded", old),
            world.wake("cancelled", cancelled),
            world.wake("dead", dead),
            world.wake("done", done),
            world.wake("again", again),
            world.wake("nothing", ScheduleId::fresh()),
            world.wake("superseded", new),
        ])
        .await;
    assert!(
        matches!(
            found[..],
            [
                Found::Superseded,
                Found::Gone,
                Found::Standing { state: OneShotState::Dead, .. },
                Found::Standing { state: OneShotState::Delivered, .. },
                Found::Delivered,
                Found::Gone,
                Found::Leased(_)
            ]
        ),
        "{found:?}"
    );
    assert_eq!(world.awaits("again").await.as_deref(), Some("nats"), "the next one still awaits its wake-up");
}

#[tokio::test]
async fn another_jobs_schedule_wakes_nothing() {
    let world = World::new().await;
    let (a, _) = (world.awaiting("a", 0.0).await, world.awaiting("b", 0.0).await);
    assert!(matches!(world.take_one("b", a).await, Found::Superseded));
    assert_eq!(world.awaits("a").await.as_deref(), Some("nats"));
    assert_eq!(world.awaits("b").await.as_deref(), Some("nats"));
}

#[tokio::test]
async fn a_held_one_shot_is_parked_by_its_wake_up_and_fires_after_the_release() {
    let world = World::new().await;
    let id = world.awaiting("job", 0.0).await;
    holds::hold(&world.db, &HoldTarget::All, None).await.unwrap();
    let found = world.take_one("job", id).await;
    assert!(matches!(found, Found::Standing { parked: true, .. }), "{found:?}");
    assert_eq!((world.awaits("job").await, world.rows().await.len()), (None, 0));
    assert!(world.claim().await.is_empty());
    holds::release(&world.db, &HoldTarget::All).await.unwrap();
    outages::tidy_parked(&world.db, Duration::from_hours(48), 100).await.unwrap();
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn a_wake_up_during_a_retry_after_postpones_its_one_shot_to_the_end_of_it() {
    let world = World::new().await;
    let schedule_id = world.awaiting("a", 0.0).await;
    outages::set_busy(&world.db, &[(world.instance.clone(), Duration::from_secs(40))]).await.unwrap();
    let Found::Standing { state: OneShotState::Armed, parked: false, due_in: Some(due_in), .. } =
        world.take_one("a", schedule_id).await
    else {
        panic!("it is neither leased nor parked")
    };
    assert!((30..=40).contains(&due_in.as_secs()), "{due_in:?}");
    assert!(world.claim().await.is_empty(), "the built-in loop waits as well");
    world.sql("UPDATE instances SET busy_until = now(); UPDATE one_shots SET next_attempt_at = now()").await;
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn a_one_shot_of_an_unreachable_instance_is_parked_by_its_wake_up() {
    let world = World::new().await;
    let id = world.awaiting("job", 0.0).await;
    world.sql("UPDATE instances SET unreachable_since = now(), probe_job_id = 'probe'").await;
    let found = world.take_one("job", id).await;
    assert!(matches!(found, Found::Standing { parked: true, .. }), "{found:?}");
    assert_eq!(
        world
            .count(
                "SELECT count(*) FROM one_shots WHERE parked = 'unreachable' AND retrying_since IS NOT NULL"
            )
            .await,
        1
    );
}

#[tokio::test]
async fn one_shots_without_a_free_slot_are_claimed_later() {
    let world = World::new().await;
    let mut wakes = Vec::new();
    for job in ["a", "b", "c"] {
        wakes.push(world.wake(job, world.awaiting(job, 0.0).await));
    }
    let found = world.take_with_room(&wakes, 2).await;
    assert_eq!(found.iter().filter(|one| matches!(one, Found::Leased(_))).count(), 2, "{found:?}");
    assert_eq!(world.rows().await, []);
    assert_eq!(world.claim().await.len(), 1, "the third");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_concurrent_wake_ups_give_each_one_shot_one_lease() {
    const JOBS: usize = 40;
    let world = World::new().await;
    let mut wakes = Vec::new();
    for number in 0..JOBS {
        let job = format!("job-{number}");
        let id = world.awaiting(&job, 0.0).await;
        wakes.push(world.wake(&job, id));
    }
    let backwards: Vec<_> = wakes.iter().rev().cloned().collect();
    let all = (0..10).map(|number| {
        let wakes = if number % 2 == 0 { &wakes } else { &backwards };
        world.take(wakes)
    });
    let found: Vec<Found> = futures::future::join_all(all).await.into_iter().flatten().collect();
    let mut jobs: Vec<_> = found
        .iter()
        .filter_map(|one| match one {
            Found::Leased(lease) => Some(lease.job_id.to_string()),
            _ => None,
        })
        .collect();
    jobs.sort();
    let leased = jobs.len();
    jobs.dedup();
    assert_eq!((leased, jobs.len()), (JOBS, JOBS));
    assert_eq!(world.rows().await, []);
}

#[tokio::test]
async fn a_wake_up_of_a_locked_row_is_left_for_redelivery() {
    let world = World::new().await;
    let (a, b) = (world.awaiting("a", 0.0).await, world.awaiting("b", 0.0).await);
    // A repeated provision of the same key locks the row like this.
    let mut other = world.pool.begin().await.unwrap();
    sqlx::query("UPDATE one_shots SET updated_at = now() WHERE job_id = 'a'")
        .execute(&mut *other)
        .await
        .unwrap();
    let found = world.take(&[world.wake("a", a), world.wake("b", b)]).await;
    assert!(matches!(found[..], [Found::Locked, Found::Leased(_)]), "{found:?}");
    assert!(world.row(a).await.is_some(), "the row stays for a repeated wake-up");
    other.commit().await.unwrap();
    assert!(matches!(world.take_one("a", a).await, Found::Leased(_)));
    assert_eq!(world.rows().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_concurrent_cancel_leaves_nothing_that_could_start() {
    let world = World::new().await;
    for round in 0..40 {
        let job = format!("job-{round}");
        let id = world.awaiting(&job, 0.0).await;
        let (found, ()) = tokio::join!(world.take_one(&job, id), world.cancel(&job));
        if let Found::Leased(lease) = found {
            assert_eq!(world.confirm(&[lease]).await, 0, "the cancel has been answered");
        }
        assert!(matches!(world.take_one(&job, id).await, Found::Gone));
    }
    assert_eq!(world.count("SELECT count(*) FROM one_shots").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM wake_ups WHERE state <> 'unwanted'").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_concurrent_supersede_starts_neither_one_shot_early() {
    let world = World::new().await;
    for round in 0..40 {
        let job = format!("job-{round}");
        let id = world.awaiting(&job, 0.0).await;
        let (found, new) = tokio::join!(world.take_one(&job, id), world.arm(&job, 3_600));
        assert_ne!(new.schedule_id, id);
        if let Found::Leased(lease) = found {
            assert_eq!(world.confirm(&[lease]).await, 0, "the new one has been answered");
        }
        assert_eq!(world.awaits(&job).await.as_deref(), Some("nats"), "the new one awaits its backend");
        assert!(matches!(world.take_one(&job, id).await, Found::Superseded));
        assert_eq!(world.row(new.schedule_id).await.unwrap().state, "wanted");
        assert!(world.row(id).await.is_none_or(|row| row.state == "unwanted"));
    }
}

/// Postgres would end a deadlock only after a second, with an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_batches_of_wake_ups_do_not_deadlock() {
    const JOBS: usize = 60;
    let world = World::new().await;
    // With this many rows, Postgres looks each one up by its key, and locks them in the order of the arguments.
    world
        .sql(
            "INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at, state, next_try_at)
             SELECT gen_random_uuid(), 1, 'qstash', 'other', 'job-' || n, now() + interval '1 day', 'armed', NULL
             FROM generate_series(1, 20000) AS n;
             ANALYZE wake_ups",
        )
        .await;
    for _ in 0..12 {
        let mut armed = Vec::new();
        for number in 0..JOBS {
            let job = format!("job-{number}");
            armed.push((job.clone(), world.awaiting(&job, 0.0).await));
        }
        let wakes: Vec<_> = armed.iter().map(|(job, id)| world.wake(job, *id)).collect();
        let results = |step: usize, done: fn() -> Done| {
            let mut results: Vec<_> = armed
                .iter()
                .map(|(_, schedule_id)| Told { schedule_id: *schedule_id, generation: 1, done: done() })
                .collect();
            results.rotate_left(step);
            results.reverse();
            results
        };
        let (armed_now, failed, backwards) = (
            results(7, || Done::Armed(None)),
            results(30, || Done::Failed {
                again_in: Duration::from_secs(1),
                error: "unavailable".to_owned(),
            }),
            wakes.iter().rev().cloned().collect::<Vec<_>>(),
        );
        let (one, other, one_told, other_told) = tokio::join!(
            wake_ups::take(&world.db, &wakes, HORIZON, GRACE, 1_000),
            wake_ups::take(&world.db, &backwards, HORIZON, GRACE, 1_000),
            wake_ups::record_results(&world.db, &armed_now),
            wake_ups::record_results(&world.db, &failed),
        );
        one.unwrap();
        other.unwrap();
        one_told.unwrap();
        other_told.unwrap();
        world.sql("DELETE FROM one_shots; DELETE FROM wake_ups WHERE backend = 'nats'").await;
    }
}

// The watchdog.

#[tokio::test]
async fn the_watchdog_takes_only_one_shots_overdue_by_the_backends_grace() {
    let world = World::new().await;
    let graces = [
        (BackendName::Nats, Duration::from_mins(5)),
        (BackendName::Qstash, Duration::from_mins(5)),
        (BackendName::QstashDirect, Duration::from_hours(1)),
    ];
    let missed = world.awaiting("missed", -301.0).await;
    let late = world.awaiting("late", -200.0).await;
    world.activate(BackendName::QstashDirect).await;
    let direct = world.arm("direct", 3_600).await;
    assert_eq!(direct.awaits, Some(BackendName::QstashDirect));
    world
        .sql("UPDATE one_shots SET next_attempt_at = now() - interval '30 min' WHERE job_id = 'direct'")
        .await;
    let next = leases::next_look(&world.db, &graces).await.unwrap();
    assert!(next.missed_in.is_some_and(|missed_in| missed_in.is_zero()), "{next:?}");
    assert!(next.due_in.is_none(), "the built-in loop has nothing: {next:?}");

    let taken = wake_ups::take_over_missed(&world.db, &graces, 100).await.unwrap();
    assert_eq!(taken, [(BackendName::Nats, 1)]);
    assert_eq!((world.awaits("missed").await, world.awaits("late").await.as_deref()), (None, Some("nats")));
    assert_eq!(world.awaits("direct").await.as_deref(), Some("qstash_direct"));
    assert_eq!(world.row(missed).await.unwrap().state, "unwanted", "its wake-up must be cancelled");
    assert_eq!(world.row(late).await.unwrap().state, "wanted");
    assert_eq!(world.claim().await.len(), 1);
    assert_eq!(wake_ups::take_over_missed(&world.db, &graces, 100).await.unwrap(), []);
}

#[tokio::test]
async fn the_watchdog_respects_its_limit_and_takes_the_most_overdue_first() {
    let world = World::new().await;
    for number in 0..5 {
        world.awaiting(&format!("job-{number}"), -10.0 - f64::from(number)).await;
    }
    let graces = [(BACKEND, Duration::from_secs(5))];
    for (limit, expected) in [(3, 3), (3, 2)] {
        let taken = wake_ups::take_over_missed(&world.db, &graces, limit).await.unwrap();
        assert_eq!(taken, [(BACKEND, expected)]);
        if expected == 3 {
            assert_eq!(world.awaits("job-4").await, None);
            assert_eq!(world.awaits("job-0").await.as_deref(), Some("nats"));
        }
    }
    assert_eq!(world.claim().await.len(), 5);
    assert_eq!(wake_ups::take_over_missed(&world.db, &graces, 3).await.unwrap(), []);
    let counts = wake_ups::counts(&world.db).await.unwrap();
    let missed: Vec<_> = counts.iter().map(|one| (one.backend, one.missed)).filter(|one| one.1 > 0).collect();
    assert_eq!(missed, [(BACKEND, 5)], "all of them are counted, and none of them twice");
}

#[tokio::test]
async fn a_wake_up_after_the_watchdog_reports_the_current_state() {
    let world = World::new().await;
    let id = world.awaiting("job", -6.0).await;
    wake_ups::take_over_missed(&world.db, &[(BACKEND, Duration::from_secs(5))], 10).await.unwrap();
    let lease = world.claim().await.pop().unwrap();
    let found = world.take_one("job", id).await;
    assert!(matches!(found, Found::Standing { state: OneShotState::Leased, .. }), "{found:?}");
    assert_eq!(world.rows().await, [], "there is nothing to cancel any more");
    world.deliver(lease).await;
    let found = world.take_one("job", id).await;
    assert!(matches!(found, Found::Standing { state: OneShotState::Delivered, .. }), "{found:?}");
}

// The outbox.

#[tokio::test]
async fn an_order_has_all_that_the_backend_needs_and_is_leased_to_one_replica() {
    let world = World::new().await;
    let at = now() + TimeDelta::seconds(60);
    let armed = world.arm_at("job", at).await;
    let order = world.one_order().await;
    assert_eq!((order.schedule_id, order.generation, order.tries), (armed.schedule_id, 1, 1));
    let Order::Arm { one_shot } = order.order else { panic!("{order:?}") };
    assert_eq!((one_shot.instance_id.as_str(), one_shot.job_id.as_str()), ("inst-1", "job"));
    assert_eq!(one_shot.fire_at.as_str(), at.to_rfc3339());
    assert_eq!((one_shot.fire_at.instant() - at).num_milliseconds(), 0);
    assert_eq!((one_shot.due_at - at).num_milliseconds(), 0);
    assert_eq!(one_shot.callback_url.as_str(), CALLBACK);
    let others = world.orders().await;
    assert!(others.to_tell.is_empty(), "{others:?}");
    assert!(others.next_in.is_some_and(|next_in| (30..=60).contains(&next_in.as_secs())), "{others:?}");
    assert!(
        wake_ups::take_orders(&world.db, BackendName::Qstash, None, LEASE, 100)
            .await
            .unwrap()
            .to_tell
            .is_empty(),
        "it is not an order of another backend"
    );

    world.record(armed.schedule_id, Done::Armed(Some("m-1".to_owned()))).await;
    let row = world.row(armed.schedule_id).await.unwrap();
    assert_eq!(
        (row.state.as_str(), row.message_id.as_deref(), row.tries, row.due),
        ("armed", Some("m-1"), 0, false)
    );
    let idle = world.orders().await;
    assert!(idle.to_tell.is_empty() && idle.next_in.is_none(), "{idle:?}");
}

#[tokio::test]
async fn a_failed_order_is_retried_after_its_back_off() {
    let world = World::new().await;
    let id = world.arm("job", 60).await.schedule_id;
    for tries in 1..=2 {
        assert_eq!(world.one_order().await.tries, tries);
        world.record(id, Done::Failed { again_in: Duration::from_secs(30), error: "x".repeat(5_000) }).await;
        let row = world.row(id).await.unwrap();
        assert_eq!((row.state.as_str(), row.due), ("wanted", false));
        let waiting = world.orders().await;
        assert!(waiting.to_tell.is_empty());
        assert!(waiting.next_in.is_some_and(|next_in| (10..=30).contains(&next_in.as_secs())), "{waiting:?}");
        world.sql("UPDATE wake_ups SET next_try_at = now()").await;
    }
    assert_eq!(world.count("SELECT max(length(last_error))::int8 FROM wake_ups").await, 1_000);
}

#[tokio::test]
async fn orders_of_a_dead_replica_are_taken_over() {
    let world = World::new().await;
    let id = world.arm("job", 60).await.schedule_id;
    assert_eq!(world.one_order().await.tries, 1);
    // The replica dies, and the lease expires.
    world.sql("UPDATE wake_ups SET next_try_at = next_try_at - interval '1 min'").await;
    let order = world.one_order().await;
    assert_eq!((order.schedule_id, order.tries), (id, 2));
    assert!(matches!(order.order, Order::Arm { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_replicas_get_different_orders() {
    let world = World::new().await;
    for number in 0..60 {
        world.arm(&format!("job-{number}"), 60).await;
    }
    let looks = (0..6).map(|_| wake_ups::take_orders(&world.db, BACKEND, None, LEASE, 20));
    let mut ids: Vec<_> = futures::future::join_all(looks)
        .await
        .into_iter()
        .flat_map(|taken| taken.unwrap().to_tell)
        .map(|order| order.schedule_id.0)
        .collect();
    ids.extend(world.orders().await.to_tell.into_iter().map(|order| order.schedule_id.0));
    let taken = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((taken, ids.len()), (60, 60));
}

#[tokio::test]
async fn an_order_too_far_ahead_is_postponed_until_it_is_near_enough() {
    let world = World::new().await;
    let day = Duration::from_hours(24);
    let far = world.arm("far", 86_400 + 500).await.schedule_id;
    let near = world.arm("near", 86_400 - 500).await.schedule_id;
    let take = async || wake_ups::take_orders(&world.db, BACKEND, Some(day), LEASE, 100).await.unwrap();
    let first = take().await;
    assert_eq!((first.to_tell.len(), first.looked_at), (1, 2));
    assert_eq!(first.to_tell[0].schedule_id, near);
    world.record(near, Done::Armed(None)).await;
    let idle = take().await;
    assert!(idle.next_in.is_some_and(|next_in| (100..=500).contains(&next_in.as_secs())), "{idle:?}");
    assert_eq!(world.row(far).await.unwrap().tries, 0, "it was not tried");
    // It is near enough now.
    world.sql("UPDATE wake_ups SET due_at = due_at - interval '501 s', next_try_at = next_try_at - interval '501 s'").await;
    let later = take().await;
    assert_eq!(later.to_tell.len(), 1, "{later:?}");
    assert!(matches!(later.to_tell[0].order, Order::Arm { .. }));
}

#[tokio::test]
async fn a_postponed_order_that_is_cancelled_is_removed_without_telling_the_backend() {
    let world = World::new().await;
    let take = async || {
        wake_ups::take_orders(&world.db, BACKEND, Some(Duration::from_hours(1)), LEASE, 100)
            .await
            .unwrap()
            .to_tell
    };
    let id = world.arm("far", 86_400).await.schedule_id;
    assert!(take().await.is_empty());
    world.cancel("far").await;
    let orders = take().await;
    assert_eq!(orders.len(), 1);
    assert_eq!(message(&orders[0]), None);
    world.record(id, Done::Cancelled).await;
    assert_eq!(world.rows().await, []);
}

#[tokio::test]
async fn a_superseded_or_cancelled_wake_up_is_cancelled_at_the_backend_by_its_name() {
    let world = World::new().await;
    let old = world.arm("job", 60).await.schedule_id;
    world.tell("m-1").await;
    let new = world.arm("job", 90).await.schedule_id;
    let orders = world.orders().await.to_tell;
    assert_eq!(orders.len(), 2, "{orders:?}");
    let (arm, cancel): (Vec<_>, Vec<_>) =
        orders.iter().partition(|order| matches!(order.order, Order::Arm { .. }));
    assert_eq!((arm[0].schedule_id, cancel[0].schedule_id, message(cancel[0])), (new, old, Some("m-1")));
    world.record(new, Done::Armed(Some("m-2".to_owned()))).await;
    world.record(old, Done::Cancelled).await;
    world.cancel("job").await;
    let order = world.one_order().await;
    assert_eq!((order.schedule_id, message(&order)), (new, Some("m-2")));
    // The backend is unavailable.
    world
        .record(new, Done::Failed { again_in: Duration::from_secs(9), error: "unavailable".to_owned() })
        .await;
    let row = world.row(new).await.unwrap();
    assert_eq!((row.state.as_str(), row.message_id.as_deref(), row.due), ("unwanted", Some("m-2"), false));
    world.sql("UPDATE wake_ups SET next_try_at = now()").await;
    assert_eq!(message(&world.one_order().await), Some("m-2"));
    world.record(new, Done::Cancelled).await;
    assert_eq!(world.rows().await, []);
}

/// A cancel before the arm would leave the wake-up at the backend, with an unknown message id.
#[tokio::test]
async fn an_order_that_becomes_unwanted_while_it_is_armed_is_cancelled_afterwards() {
    for unwant in ["cancel", "supersede", "miss", "move"] {
        let world = World::new().await;
        let id = world.arm("job", 60).await.schedule_id;
        assert_eq!(world.one_order().await.schedule_id, id);
        match unwant {
            "cancel" => world.cancel("job").await,
            "supersede" => drop(world.arm("job", 2).await),
            "miss" => {
                world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '9 s'").await;
                wake_ups::take_over_missed(&world.db, &[(BACKEND, Duration::from_secs(5))], 10)
                    .await
                    .unwrap();
            }
            _ => {
                world.activate(BackendName::Postgres).await;
                assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 1);
            }
        }
        assert_eq!(world.row(id).await.unwrap().state, "unwanted", "{unwant}");
        assert!(world.orders().await.to_tell.is_empty(), "{unwant}: the call is in flight");
        world.record(id, Done::Armed(Some("m-1".to_owned()))).await;
        let order = world.one_order().await;
        assert_eq!((order.schedule_id, message(&order)), (id, Some("m-1")), "{unwant}");
        world.record(id, Done::Cancelled).await;
        assert_eq!(world.rows().await, [], "{unwant}");
    }
}

#[tokio::test]
async fn a_cancel_is_unconfirmed_only_after_an_arm_without_an_answer_and_before_the_instant() {
    let unconfirmed = |order: ToTell| match order.order {
        Order::Cancel { unconfirmed, .. } => unconfirmed,
        Order::Arm { .. } => panic!("not a cancel: {order:?}"),
    };
    let lease_ends = "UPDATE wake_ups SET next_try_at = now()";
    let failed = || Done::Failed { again_in: Duration::ZERO, error: "no answer".to_owned() };

    let world = World::new().await;
    world.arm("never-tried", 60).await;
    world.cancel("never-tried").await;
    assert!(!unconfirmed(world.one_order().await));

    for died in [true, false] {
        let world = World::new().await;
        let id = world.arm("job", 60).await.schedule_id;
        world.one_order().await;
        if !died {
            world.record(id, failed()).await;
        }
        world.cancel("job").await;
        world.sql(lease_ends).await;
        assert!(unconfirmed(world.one_order().await), "died: {died}");
        world.sql("UPDATE wake_ups SET next_try_at = now(), due_at = now()").await;
        assert!(!unconfirmed(world.one_order().await), "it has been sent");
    }

    let world = World::new().await;
    world.arm("known", 60).await;
    world.tell("m-1").await;
    world.cancel("known").await;
    assert!(!unconfirmed(world.one_order().await));
    world.sql(lease_ends).await;
    assert!(!unconfirmed(world.one_order().await), "a repeated cancel, with the message id");
}

#[tokio::test]
async fn a_wake_up_before_the_backends_acknowledgement_leaves_no_order() {
    let world = World::new().await;
    let id = world.awaiting("job", 1.0).await;
    world.one_order().await;
    leased(world.take_one("job", id).await);
    world.record(id, Done::Armed(Some("m-1".to_owned()))).await;
    assert_eq!(world.rows().await, []);
}

#[tokio::test]
async fn wake_ups_of_a_deleted_instance_are_cancelled_at_the_backend() {
    let world = World::new().await;
    let id = world.arm("job", 60).await.schedule_id;
    world.tell("m-1").await;
    nas_cron::db::directory::delete(&world.db, &world.instance, None).await.unwrap();
    assert!(matches!(world.take_one("job", id).await, Found::Gone));
    assert_eq!(world.rows().await, []);
}

#[tokio::test]
async fn orders_of_long_past_one_shots_are_pruned() {
    let world = World::new().await;
    world.awaiting("old", -7_200.0).await;
    let recent = world.awaiting("recent", -60.0).await;
    let pruned = wake_ups::prune(&world.db, Duration::from_hours(1), 100).await.unwrap();
    assert_eq!(pruned, 1);
    assert_eq!(world.rows().await.iter().map(|row| row.schedule_id).collect::<Vec<_>>(), [recent.0]);
}

// Switches.

#[tokio::test]
async fn a_switch_moves_far_one_shots_and_leaves_near_and_running_ones() {
    let world = World::new().await;
    let far = world.arm("far", 60).await.schedule_id;
    world.tell("m-far").await;
    world.awaiting("near", 1.0).await;
    let own = world.arm("own", 2).await;
    assert_eq!(own.awaits, None);
    let leased_id = world.awaiting("leased", 0.0).await;
    leased(world.take_one("leased", leased_id).await);

    world.activate(BackendName::Qstash).await;
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 1);
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 0, "nothing more can move");
    let waits = [
        world.awaits("far").await,
        world.awaits("near").await,
        world.awaits("own").await,
        world.awaits("leased").await,
    ];
    assert_eq!(waits, [Some("qstash".to_owned()), Some("nats".to_owned()), None, None]);
    let of_far: Vec<_> = world.rows().await.into_iter().filter(|row| row.schedule_id == far.0).collect();
    let said: Vec<_> =
        of_far.iter().map(|row| (row.backend.as_str(), row.generation, row.state.as_str())).collect();
    assert_eq!(said, [("nats", 1, "unwanted"), ("qstash", 2, "wanted")]);

    // Back again, with a new generation.
    world.activate(BACKEND).await;
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 1);
    let of_far: Vec<_> = world.rows().await.into_iter().filter(|row| row.schedule_id == far.0).collect();
    let said: Vec<_> =
        of_far.iter().map(|row| (row.backend.as_str(), row.generation, row.state.as_str())).collect();
    assert_eq!(said, [("nats", 1, "unwanted"), ("qstash", 2, "unwanted"), ("nats", 3, "wanted")]);
}

#[tokio::test]
async fn a_switch_from_and_to_the_postgres_loop_moves_everything_movable() {
    let world = World::new().await;
    world.activate(BackendName::Postgres).await;
    for number in 0..5 {
        assert_eq!(world.arm(&format!("job-{number}"), 3_600).await.awaits, None);
    }
    world.activate(BACKEND).await;
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 5);
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 0);
    assert_eq!(
        world.count("SELECT count(*) FROM wake_ups WHERE state = 'wanted' AND backend = 'nats'").await,
        5
    );
    world.activate(BackendName::Postgres).await;
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 5);
    assert_eq!(world.count("SELECT count(*) FROM one_shots WHERE awaits IS NOT NULL").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM wake_ups WHERE state = 'unwanted'").await, 5);
    let active = wake_ups::active(&world.db, BackendName::Qstash).await.unwrap();
    assert_eq!(
        (active.backend, active.generation),
        (BackendName::Postgres, 4),
        "the stored row counts, not the argument"
    );
    wake_ups::activate(&world.db, BackendName::Postgres).await.unwrap();
    assert_eq!(
        wake_ups::active(&world.db, BackendName::Qstash).await.unwrap().generation,
        4,
        "nothing was switched"
    );
}

#[tokio::test]
async fn a_direct_call_that_qstash_may_make_is_not_moved_and_the_rest_is() {
    let world = World::new().await;
    world.activate(BackendName::QstashDirect).await;
    let handed_over = world.arm("handed-over", 1_800).await.schedule_id;
    world.arm("not-armed", 7_200).await;
    world
        .sql(
            "UPDATE wake_ups SET state = 'armed', next_try_at = NULL, message_id = 'm' WHERE job_id = 'handed-over'",
        )
        .await;
    world.activate(BackendName::Postgres).await;
    assert_eq!(wake_ups::move_to_active(&world.db).await.unwrap().count, 1);
    assert_eq!(world.awaits("not-armed").await, None);
    assert_eq!(
        world.awaits("handed-over").await.as_deref(),
        Some("qstash_direct"),
        "both backends would call the agent"
    );
    assert_eq!(wake_ups::left(&world.db, now()).await.unwrap().to_move, 0, "it drains by itself");
    // A wake-up at the relay from before the switch: the direct call is cancelled.
    assert!(matches!(
        world.take_one("handed-over", handed_over).await,
        Found::Standing { state: OneShotState::Armed, .. }
    ));
    let rows: Vec<_> =
        world.rows().await.into_iter().filter(|row| row.schedule_id == handed_over.0).collect();
    assert_eq!(rows.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["unwanted"]);
}

#[tokio::test]
async fn outbox_rows_that_no_one_shot_awaits_become_unwanted() {
    let world = World::new().await;
    for job in ["left", "stays"] {
        world.arm(job, 3_600).await;
    }
    world.sql("UPDATE wake_ups SET state = 'armed', next_try_at = NULL").await;
    // Two concurrent calls for one job can leave such a row.
    world.sql("DELETE FROM one_shots WHERE job_id = 'left'").await;
    assert_eq!(wake_ups::find_orphans(&world.db, 10).await.unwrap(), 1);
    assert_eq!(wake_ups::find_orphans(&world.db, 10).await.unwrap(), 0);
    assert_eq!(
        world.count("SELECT count(*) FROM wake_ups WHERE state = 'unwanted' AND job_id = 'left'").await,
        1
    );
    directory::delete(&world.db, &world.instance, None).await.unwrap();
    assert_eq!(
        world.count("SELECT count(*) FROM wake_ups WHERE state = 'unwanted'").await,
        2,
        "with its instance"
    );
}
