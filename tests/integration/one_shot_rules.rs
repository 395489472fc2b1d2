//! The rules of docs/contract.md#agent-api and docs/contract.md#states on a real Postgres, statement by statement.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::db::{Db, fires, holds, leases, outages, outcomes};
use nas_cron::domain::FireOutcome;
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::{Attempt, Ended};
use nas_cron::domain::hold::HoldTarget;
use nas_cron::domain::lease::{Lease, Recovered};
use nas_cron::domain::one_shot::Armed;
use nas_cron::oneshot::{self, Listing, Provision};
use nas_cron_protocol::{InstanceId, JobId, OneShotState, OrgId, ParkReason};
use nas_cron_testing::database::database;
use sqlx::{Connection, Executor};

const HORIZON: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(40);
const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const CALLBACK: &str = "https://agent.example";

/// One database, one instance, and the steps in the life of a one-shot.
struct World {
    db: Db,
    url: String,
    instance: InstanceId,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let world = Self { db, url, instance: InstanceId::new("inst-1").unwrap() };
        world
            .sql("INSERT INTO instances (instance_id, org_id, callback_url) VALUES ('inst-1', 'org-1', 'https://agent.example')")
            .await;
        world
    }

    async fn sql(&self, statement: &str) -> u64 {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        let done = connection.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect(statement);
        done.rows_affected()
    }

    async fn provision_at(&self, job: &str, at: DateTime<Utc>, callback: &str) -> Armed {
        let text = at.to_rfc3339();
        let wanted = Provision::new(job, &text, callback, &format!("{job}:{text}")).unwrap();
        let previous: Option<String> =
            sqlx::query_scalar("SELECT callback_url FROM instances WHERE instance_id = $1")
                .bind(self.instance.as_str())
                .fetch_one(&mut sqlx::PgConnection::connect(&self.url).await.unwrap())
                .await
                .unwrap();
        oneshot::provision(&self.db, &self.instance, previous.as_deref(), &wanted, &RULES).await.unwrap()
    }

    async fn provision(&self, job: &str, at: DateTime<Utc>) -> Armed {
        self.provision_at(job, at, CALLBACK).await
    }

    async fn cancel(&self, job: &str) {
        oneshot::cancel(&self.db, &self.instance, &JobId::new(job).unwrap()).await.unwrap();
    }

    async fn list(&self) -> Listing {
        oneshot::list(&self.db, &self.instance).await.unwrap()
    }

    async fn claim(&self) -> Vec<Lease> {
        leases::claim_due(&self.db, HORIZON, GRACE, 100, &[]).await.unwrap().leases
    }

    async fn confirm(&self, leases: &[Lease]) -> Vec<Attempt> {
        leases::confirm(&self.db, leases, ATTEMPT, 1).await.unwrap().attempts
    }

    /// Claims and confirms the only one-shot that is due.
    async fn start(&self) -> Attempt {
        let leases = self.claim().await;
        assert_eq!(leases.len(), 1, "one is due");
        self.confirm(&leases).await.pop().expect("it is confirmed")
    }

    async fn end(
        &self,
        attempt: &Attempt,
        outcome: FireOutcome,
        retry_in: Option<u64>,
    ) -> Option<OneShotState> {
        let ended = Ended {
            attempt: attempt.started(),
            outcome,
            http_status: Some(202),
            error: None,
            answer: None,
            ambiguous: false,
            retry_in: retry_in.map(Duration::from_secs),
            retry_after: None,
        };
        let recorded = outcomes::finish_fires(&self.db, &[ended], &RULES).await.unwrap();
        recorded.first().expect("it was not recorded before").state
    }

    async fn deliver(&self) -> Attempt {
        let attempt = self.start().await;
        self.end(&attempt, FireOutcome::Delivered, None).await;
        attempt
    }

    /// Waits until so many sessions of this database wait for a lock.
    async fn until_waiting(&self, sessions: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await.unwrap() < sessions {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends every lease now.
    async fn expire_leases(&self) {
        self.sql(
            "UPDATE one_shots SET claim_expires_at = now() - interval '1 ms',
             attempt_expires_at = CASE WHEN state = 'firing' THEN now() - interval '1 ms' END",
        )
        .await;
    }

    /// Sets the time of the last delivery (and start) back by `seconds`.
    async fn age(&self, seconds: i64) {
        self.sql(&format!(
            "UPDATE one_shots SET delivered_at = delivered_at - interval '{seconds} s',
                                  last_started_at = last_started_at - interval '{seconds} s',
                                  next_attempt_at = next_attempt_at - interval '{seconds} s'"
        ))
        .await;
    }
}

fn past(seconds: i64) -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "the database's clock is the machine's here")]
    let now = Utc::now();
    // Rounded to the database's precision.
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap() - TimeDelta::seconds(seconds)
}

fn seconds_from_now(at: Option<DateTime<Utc>>) -> f64 {
    (at.expect("it has a next attempt") - past(0)).as_seconds_f64()
}

#[tokio::test]
async fn provision_upserts_by_instance_and_job() {
    let world = World::new().await;
    let first = world.provision("a", past(-100)).await;
    let at = world.list().await.armed[0].fire_at.instant();
    let again = Armed { is_new_job: false, ..first.clone() };
    assert_eq!(world.provision("a", at).await, again, "same key: same schedule_id, nothing changes");
    let second = world.provision("a", past(-200)).await;
    assert_ne!(second.schedule_id, first.schedule_id, "a new key supersedes");
    assert_eq!(world.list().await.armed.len(), 1);
}

#[tokio::test]
async fn provision_that_waits_for_another_first_provision_supersedes_it() {
    let world = World::new().await;
    let mut other = sqlx::PgConnection::connect(&world.url).await.unwrap();
    other
        .execute(
            "BEGIN;
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    next_attempt_at)
             SELECT instance_id, 'a', gen_random_uuid(), 'other', 'then', now(), 'https://agent.example', 'armed', now()
             FROM instances",
        )
        .await
        .unwrap();
    let armed = world.provision("a", past(-100));
    let committed = async {
        world.until_waiting(1).await;
        other.execute("COMMIT").await.unwrap();
    };
    let (armed, ()) = tokio::join!(armed, committed);
    let listed = world.list().await.armed;
    assert_eq!(listed.iter().map(|one| one.schedule_id).collect::<Vec<_>>(), [armed.schedule_id]);
}

#[tokio::test]
async fn list_is_soonest_first_and_delivered_ones_leave_it() {
    let world = World::new().await;
    world.provision("late", past(-300)).await;
    world.provision("soon", past(-100)).await;
    world.provision("due", past(1)).await;
    let jobs = |listing: &Listing| listing.armed.iter().map(|o| o.job_id.to_string()).collect::<Vec<_>>();
    assert_eq!(jobs(&world.list().await), ["due", "soon", "late"]);
    world.deliver().await;
    assert_eq!(jobs(&world.list().await), ["soon", "late"]);
    assert!(world.list().await.dead.is_empty());
}

#[tokio::test]
async fn after_a_cancel_no_attempt_starts() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let leases = world.claim().await;
    world.cancel("a").await;
    assert!(world.confirm(&leases).await.is_empty());
    assert!(world.list().await.armed.is_empty());
    world.cancel("a").await;
}

#[tokio::test]
async fn after_a_supersede_no_attempt_of_the_old_one_starts() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let leases = world.claim().await;
    world.provision("a", past(-100)).await;
    assert!(world.confirm(&leases).await.is_empty());
}

#[tokio::test]
async fn no_attempt_starts_before_fire_at_by_the_databases_clock() {
    let world = World::new().await;
    world.provision("a", past(-1)).await;
    let leases = world.claim().await;
    assert_eq!(leases.len(), 1, "within the horizon it is leased");
    assert!(world.confirm(&leases).await.is_empty(), "but not confirmed");
    assert_eq!(world.list().await.armed[0].state, OneShotState::Leased);
}

#[tokio::test]
async fn a_lease_belongs_to_one_replica_and_expires() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let leases = world.claim().await;
    assert!(world.claim().await.is_empty(), "a leased one-shot is not claimed again");
    let recover = async || leases::recover_expired(&world.db, Duration::from_secs(10), 10).await.unwrap();
    assert_eq!(recover().await, Recovered { one_shots: 0, attempts: 0 });
    world.expire_leases().await;
    assert!(world.confirm(&leases).await.is_empty(), "an expired lease writes nothing");
    assert_eq!(recover().await, Recovered { one_shots: 1, attempts: 0 });
    assert_eq!(world.claim().await.len(), 1, "a one-shot that had not started is due at once");
}

#[tokio::test]
async fn attempt_with_an_expired_lease_ends_ambiguously_and_its_late_outcome_counts() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let attempt = world.start().await;
    world.expire_leases().await;
    let recovered = leases::recover_expired(&world.db, Duration::from_secs(100), 10).await.unwrap();
    assert_eq!(recovered, Recovered { one_shots: 1, attempts: 1 });
    let listed = world.list().await.armed.remove(0);
    assert_eq!((listed.state, listed.attempts), (OneShotState::Waiting, 1));
    assert!(seconds_from_now(listed.next_attempt_at) > 40.0, "waits for the agent's re-arm");
    // No other replica has claimed it, so the late outcome is recorded.
    assert_eq!(world.end(&attempt, FireOutcome::Delivered, None).await, Some(OneShotState::Delivered));
}

#[tokio::test]
async fn late_outcome_does_not_change_a_one_shot_that_was_claimed_again() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let attempt = world.start().await;
    world.expire_leases().await;
    leases::recover_expired(&world.db, Duration::ZERO, 10).await.unwrap();
    let second = world.start().await;
    assert_eq!(world.end(&attempt, FireOutcome::Failed, Some(5)).await, None, "history only");
    assert_eq!(world.list().await.armed[0].state, OneShotState::Firing);
    assert_eq!(world.end(&second, FireOutcome::Delivered, None).await, Some(OneShotState::Delivered));
}

#[tokio::test]
async fn outcome_of_a_superseded_one_shot_is_recorded_and_its_key_counts() {
    let world = World::new().await;
    let (old, new) = (past(1), past(-100));
    world.provision("a", old).await;
    let attempt = world.start().await;
    world.provision("a", new).await;
    assert_eq!(world.end(&attempt, FireOutcome::Delivered, None).await, None);
    assert_eq!(world.list().await.armed[0].fire_at.instant(), new, "the new arm stands");
    let again = world.provision("a", old).await;
    assert_eq!(again.schedule_id, attempt.schedule_id, "same key again: same schedule_id");
    assert!(seconds_from_now(again.next_attempt_at) > 10.0);
}

#[tokio::test]
async fn key_that_comes_again_while_its_delivery_is_recorded_is_a_second_fire() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    let attempt = world.start().await;
    // Both statements wait for the row: the outcome first, so that it commits while the provision waits.
    let mut lock = sqlx::PgConnection::connect(&world.url).await.unwrap();
    lock.execute("BEGIN").await.unwrap();
    lock.execute("SELECT FROM one_shots FOR UPDATE").await.unwrap();
    let recorded = world.end(&attempt, FireOutcome::Delivered, None);
    let again = async {
        world.until_waiting(1).await;
        world.provision("a", at).await
    };
    let released = async {
        world.until_waiting(2).await;
        lock.execute("COMMIT").await.unwrap();
    };
    let (recorded, again, ()) = tokio::join!(recorded, again, released);
    assert_eq!(recorded, Some(OneShotState::Delivered));
    assert_eq!(again.schedule_id, first.schedule_id, "same key again: same schedule_id");
    assert!(seconds_from_now(again.next_attempt_at) > 50.0, "{:?}", again.next_attempt_at);
}

#[tokio::test]
async fn provision_after_a_lost_lease_is_not_answered_by_the_late_delivery() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    let attempt = world.start().await;
    world.expire_leases().await;
    leases::recover_expired(&world.db, Duration::from_secs(100), 10).await.unwrap();
    // The agent provisions the same key after the attempt that it had accepted.
    assert_eq!(world.provision("a", at).await.schedule_id, first.schedule_id);
    assert_eq!(world.end(&attempt, FireOutcome::Delivered, None).await, Some(OneShotState::Waiting));
    assert!(seconds_from_now(world.list().await.armed[0].next_attempt_at) > 50.0, "a second fire");
}

#[tokio::test]
async fn late_delivery_ends_the_one_shot_although_another_attempt_is_in_flight() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let first = world.start().await;
    world.expire_leases().await;
    leases::recover_expired(&world.db, Duration::ZERO, 10).await.unwrap();
    let second = world.start().await;
    assert_eq!(world.end(&first, FireOutcome::Delivered, None).await, Some(OneShotState::Delivered));
    assert_eq!(world.end(&second, FireOutcome::Failed, Some(1)).await, None, "history only");
    assert!(world.list().await.armed.is_empty() && world.claim().await.is_empty(), "no third attempt");
    // It does not count as a second fire, so a new key shows no slow clock.
    assert!(!world.provision("a", past(-100)).await.shows_skew);
}

#[tokio::test]
async fn attempt_confirmed_while_an_earlier_delivery_waits_for_the_row_does_not_count_as_a_second_fire() {
    let world = World::new().await;
    // After an update, the two sessions that wait for the row may get it in either order.
    for round in 0..50 {
        let job = format!("job-{round}");
        world.provision(&job, past(1)).await;
        let first = world.start().await;
        world.expire_leases().await;
        leases::recover_expired(&world.db, Duration::ZERO, 10).await.unwrap();
        let claimed = world.claim().await;
        let mut lock = sqlx::PgConnection::connect(&world.url).await.unwrap();
        lock.execute("BEGIN").await.unwrap();
        lock.execute("SELECT FROM one_shots FOR UPDATE").await.unwrap();
        let confirmed = world.confirm(&claimed);
        let recorded = async {
            world.until_waiting(1).await;
            world.end(&first, FireOutcome::Delivered, None).await
        };
        let released = async {
            world.until_waiting(2).await;
            // The confirmation looks at the changed row again, and reads the clock again.
            lock.execute("UPDATE one_shots SET updated_at = now()").await.unwrap();
            lock.execute("COMMIT").await.unwrap();
        };
        let (confirmed, recorded, ()) = tokio::join!(confirmed, recorded, released);
        assert_eq!(recorded, Some(OneShotState::Delivered));
        let Some(second) = confirmed.first() else {
            world.cancel(&job).await;
            continue;
        };
        assert_eq!(world.end(second, FireOutcome::Delivered, None).await, None, "history only");
        // It repeated the delivery, so a new key shows no slow clock.
        assert!(!world.provision(&job, past(-100)).await.shows_skew);
        return;
    }
    panic!("no confirmation came first");
}

#[tokio::test]
async fn attempt_of_a_superseded_one_shot_is_recorded_as_lost_if_its_replica_dies() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    world.provision("b", past(1)).await;
    let attempts = world.confirm(&world.claim().await).await;
    world.provision("a", past(-100)).await;
    world.cancel("b").await;
    world.sql("UPDATE superseded_attempts SET expires_at = now() - interval '1 ms'").await;
    let recovered = leases::recover_expired(&world.db, Duration::ZERO, 10).await.unwrap();
    assert_eq!(recovered, Recovered { one_shots: 0, attempts: 2 });
    for attempt in &attempts {
        let history =
            fires::of_job(&world.db, &world.instance, &attempt.job_id, None, None, 10).await.unwrap();
        assert_eq!(history.iter().map(|one| one.outcome).collect::<Vec<_>>(), [FireOutcome::Lost]);
        // The outcome that comes late replaces it.
        assert_eq!(world.end(attempt, FireOutcome::Delivered, None).await, None);
        let history =
            fires::of_job(&world.db, &world.instance, &attempt.job_id, None, None, 10).await.unwrap();
        assert_eq!(history.iter().map(|one| one.outcome).collect::<Vec<_>>(), [FireOutcome::Delivered]);
    }
}

#[tokio::test]
async fn recording_twice_changes_nothing() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let attempt = world.deliver().await;
    let again = Ended {
        attempt: attempt.started(),
        outcome: FireOutcome::Failed,
        http_status: None,
        error: None,
        answer: None,
        ambiguous: false,
        retry_in: Some(Duration::ZERO),
        retry_after: None,
    };
    assert!(outcomes::finish_fires(&world.db, &[again], &RULES).await.unwrap().is_empty());
    assert!(world.list().await.armed.is_empty());
}

#[tokio::test]
async fn client_4_same_key_again_fires_once_more_after_60_s_then_every_300_s_and_gets_stuck_after_three() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    world.deliver().await;
    for (delay, seconds, second_fire) in [(60.0, 60, 1), (300.0, 300, 2), (300.0, 300, 3)] {
        let again = world.provision("a", at).await;
        assert_eq!(again.schedule_id, first.schedule_id, "second fire {second_fire}");
        let wait = seconds_from_now(again.next_attempt_at);
        assert!((delay - 50.0..=delay).contains(&wait), "second fire {second_fire} in {wait} s");
        assert_eq!(world.provision("a", at).await, again, "further repetitions change nothing");
        assert!(world.claim().await.is_empty());
        world.age(seconds).await;
        world.deliver().await;
    }
    let stuck = world.provision("a", at).await;
    assert_eq!((stuck.schedule_id, stuck.next_attempt_at), (first.schedule_id, None));
    let listing = world.list().await;
    assert_eq!((listing.armed.len(), listing.dead[0].state), (0, OneShotState::Stuck));
    // A new key resets the count.
    world.provision("a", past(-100)).await;
    assert_eq!(world.list().await.armed.len(), 1);
}

#[tokio::test]
async fn client_4_a_key_repeated_during_its_attempt_fires_again_after_the_delivery() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    let attempt = world.start().await;
    assert_eq!(world.provision("a", at).await.schedule_id, first.schedule_id);
    assert_eq!(world.end(&attempt, FireOutcome::Delivered, None).await, Some(OneShotState::Waiting));
    let wait = seconds_from_now(world.list().await.armed[0].next_attempt_at);
    assert!((10.0..=60.0).contains(&wait), "{wait}");
}

#[tokio::test]
async fn client_4_a_new_key_after_a_second_fire_teaches_a_skew_guard() {
    let world = World::new().await;
    let at = past(10);
    world.provision("a", at).await;
    world.deliver().await;
    world.provision("a", at).await;
    world.age(60).await;
    world.deliver().await;
    let next = past(-100);
    let armed = world.provision("a", next).await;
    let guard = (armed.next_attempt_at.unwrap() - next).as_seconds_f64();
    assert!((guard - 1.0).abs() < 1e-6, "1 s at first, not {guard}");
    // The guard delays later fires of all jobs of the instance, and decays.
    assert_eq!(world.provision("b", next).await.next_attempt_at, Some(next + TimeDelta::seconds(1)));
    world.sql("UPDATE instances SET skew_guard_ms = 8000, skew_learned_at = now() - interval '2 days'").await;
    assert_eq!(world.provision("c", next).await.next_attempt_at, Some(next + TimeDelta::seconds(2)));
    world.sql("UPDATE instances SET skew_learned_at = now() - interval '4 days'").await;
    assert_eq!(world.provision("d", next).await.next_attempt_at, Some(next), "below a second it is over");
}

#[tokio::test]
async fn client_4_a_new_key_teaches_the_skew_guard_before_the_second_fire_is_recorded() {
    let world = World::new().await;
    let at = past(10);
    world.provision("a", at).await;
    world.deliver().await;
    world.provision("a", at).await;
    world.age(60).await;
    let second_fire = world.start().await;
    let next = past(-100);
    assert_eq!(world.provision("a", next).await.next_attempt_at, Some(next + TimeDelta::seconds(1)));
    world.end(&second_fire, FireOutcome::Delivered, None).await;
    // An ordinary fire that is superseded during its attempt teaches nothing.
    world.provision("b", past(1)).await;
    world.start().await;
    assert_eq!(world.provision("b", next).await.next_attempt_at, Some(next + TimeDelta::seconds(1)));
}

#[tokio::test]
async fn client_4_an_undelivered_key_that_is_provisioned_again_in_the_past_fires_at_once() {
    let world = World::new().await;
    let at = past(100);
    world.provision("a", at).await;
    world.provision("a", past(-1000)).await;
    let again = world.provision("a", at).await;
    assert!(seconds_from_now(again.next_attempt_at) < 0.0);
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn response_gone_forgets_the_key() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    let attempt = world.start().await;
    assert_eq!(world.end(&attempt, FireOutcome::Gone, None).await, Some(OneShotState::Delivered));
    world.age(5).await;
    let again = world.provision("a", at).await;
    assert_ne!(again.schedule_id, first.schedule_id);
    assert_eq!(world.claim().await.len(), 1, "fires at once");
}

#[tokio::test]
async fn a_cancel_forgets_the_delivered_key() {
    let world = World::new().await;
    let at = past(1);
    world.provision("a", at).await;
    world.deliver().await;
    world.cancel("a").await;
    let again = world.provision("a", at).await;
    assert!(seconds_from_now(again.next_attempt_at) < 0.0, "as a new one-shot");
}

#[tokio::test]
async fn client_7_fires_of_one_job_are_at_least_one_second_apart() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    world.deliver().await;
    world.provision("a", past(0)).await;
    // Delayed, not rejected.
    let apart: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM next_attempt_at - started_at)::float8
         FROM one_shots JOIN fires USING (instance_id, job_id)",
    )
    .fetch_one(&mut sqlx::PgConnection::connect(&world.url).await.unwrap())
    .await
    .unwrap();
    assert!((1.0..1.1).contains(&apart), "{apart}");
}

#[tokio::test]
async fn failures_are_retried_and_end_as_a_dead_letter_that_the_same_key_revives() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    let attempt = world.start().await;
    assert_eq!(world.end(&attempt, FireOutcome::Failed, Some(0)).await, Some(OneShotState::Waiting));
    let second = world.start().await;
    assert_eq!(second.attempt, 2);
    assert_eq!(world.end(&second, FireOutcome::Failed, None).await, Some(OneShotState::Dead));
    let dead = world.list().await.dead.remove(0);
    assert_eq!((dead.state, dead.attempts, dead.last_status), (OneShotState::Dead, 2, Some(202)));
    world.age(5).await;
    let again = world.provision("a", at).await;
    assert_eq!(again.schedule_id, first.schedule_id, "same key on a dead letter: same schedule_id");
    assert_eq!(world.start().await.attempt, 1, "a fresh budget, due now");
}

#[tokio::test]
async fn a_new_callback_moves_all_jobs_of_the_instance() {
    let world = World::new().await;
    world.provision("a", past(-100)).await;
    world.sql("UPDATE one_shots SET callback_url = 'https://elsewhere.example' WHERE job_id = 'a'").await;
    world.provision("b", past(-100)).await;
    world.provision_at("c", past(-100), "https://new.example").await;
    let listing = world.list().await;
    let callbacks: Vec<_> =
        listing.armed.iter().map(|o| (o.job_id.as_str(), o.callback_url.as_str())).collect();
    assert!(callbacks.contains(&("a", "https://elsewhere.example")), "it did not hold the previous one");
    assert!(callbacks.contains(&("b", "https://new.example")));
    assert!(callbacks.contains(&("c", "https://new.example")));
}

#[tokio::test]
async fn one_shots_on_hold_do_not_fire_and_are_not_lost() {
    let org = HoldTarget::Org(OrgId::new("org-1").unwrap());
    let instance = HoldTarget::Instance(InstanceId::new("inst-1").unwrap());
    for target in [HoldTarget::All, org, instance] {
        let world = World::new().await;
        world.provision("leased", past(1)).await;
        let leased = world.claim().await;
        world.provision("armed", past(1)).await;
        assert!(holds::hold(&world.db, &target, Some("maintenance")).await.unwrap());
        assert!(world.confirm(&leased).await.is_empty(), "a confirmation sees the hold");
        leases::give_back(&world.db, &leased, Duration::ZERO).await.unwrap();
        assert!(world.claim().await.is_empty());
        assert!(world.list().await.armed.iter().all(|o| o.parked == Some(ParkReason::Hold)));
        assert!(holds::release(&world.db, &target).await.unwrap());
        assert_eq!(outages::tidy_parked(&world.db, ATTEMPT, 100).await.unwrap().released, 2);
        assert_eq!(world.claim().await.len(), 2, "released");
    }
}

#[tokio::test]
async fn held_job_is_not_confirmed_and_other_jobs_are() {
    let world = World::new().await;
    world.provision("held", past(1)).await;
    world.provision("other", past(1)).await;
    let leased = world.claim().await;
    assert_eq!(leased.len(), 2);
    let target = HoldTarget::Job(world.instance.clone(), JobId::new("held").unwrap());
    assert!(holds::hold(&world.db, &target, None).await.unwrap());
    let confirmed = world.confirm(&leased).await;
    assert_eq!(confirmed.iter().map(|one| one.job_id.as_str()).collect::<Vec<_>>(), ["other"]);
    assert!(world.claim().await.is_empty(), "it is parked, and not claimed again");
    assert_eq!(outages::tidy_parked(&world.db, ATTEMPT, 100).await.unwrap().released, 0);
    // One that comes due under the hold is parked by the claim.
    world.cancel("held").await;
    world.provision("held", past(1)).await;
    assert!(world.claim().await.is_empty());
    assert!(holds::release(&world.db, &target).await.unwrap());
    assert_eq!(outages::tidy_parked(&world.db, ATTEMPT, 100).await.unwrap().released, 1);
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn a_disabled_instances_fires_are_held_until_it_is_enabled() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    world.sql("UPDATE instances SET enabled = false").await;
    assert!(world.claim().await.is_empty());
    assert_eq!(outages::tidy_parked(&world.db, ATTEMPT, 100).await.unwrap().released, 0);
    world.sql("UPDATE instances SET enabled = true").await;
    outages::tidy_parked(&world.db, ATTEMPT, 100).await.unwrap();
    assert_eq!(world.claim().await.len(), 1);
}

#[tokio::test]
async fn unreachable_instance_has_one_probe_whose_success_releases_the_rest() {
    let world = World::new().await;
    for job in ["a", "b", "c"] {
        world.provision(job, past(1)).await;
    }
    let leases = world.claim().await;
    let attempts = world.confirm(&leases).await;
    for attempt in &attempts {
        world.end(attempt, FireOutcome::Failed, Some(0)).await;
    }
    let found: Vec<_> = attempts.iter().map(|a| (&a.instance_id, &a.job_id, CALLBACK)).collect();
    assert_eq!(outages::open_outages(&world.db, &found).await.unwrap(), 1);
    world.provision("d", past(1)).await;
    let probe = world.start().await;
    assert!(probe.probes);
    let parked =
        world.list().await.armed.iter().filter(|o| o.parked == Some(ParkReason::Unreachable)).count();
    assert_eq!(parked, 3, "everything else waits");
    world.end(&probe, FireOutcome::Delivered, None).await;
    let released = outages::close_outages(&world.db, std::slice::from_ref(&world.instance)).await.unwrap();
    assert_eq!(released, 3);
    assert_eq!(world.claim().await.len(), 3);
}

#[tokio::test]
async fn callback_that_the_agent_has_left_opens_no_outage() {
    let world = World::new().await;
    let job = JobId::new("a").unwrap();
    let left = (&world.instance, &job, "https://left.example");
    assert_eq!(outages::open_outages(&world.db, &[left]).await.unwrap(), 0);
    let both = [left, (&world.instance, &job, CALLBACK)];
    assert_eq!(outages::open_outages(&world.db, &both).await.unwrap(), 1);
}

#[tokio::test]
async fn outage_gets_a_new_probe_after_a_cancel() {
    let world = World::new().await;
    for job in ["a", "b"] {
        world.provision(job, past(1)).await;
    }
    let job = JobId::new("a").unwrap();
    outages::open_outages(&world.db, &[(&world.instance, &job, CALLBACK)]).await.unwrap();
    assert_eq!(world.claim().await.len(), 1);
    world.cancel("a").await;
    assert!(world.claim().await.is_empty());
    assert_eq!(outages::tidy_parked(&world.db, ATTEMPT, 100).await.unwrap().probes, 1);
    let probe = world.start().await;
    assert_eq!(probe.job_id.as_str(), "b");
}

#[tokio::test]
async fn a_one_shot_parked_beyond_its_budget_becomes_a_dead_letter() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    world.provision("b", past(1)).await;
    let job = JobId::new("a").unwrap();
    outages::open_outages(&world.db, &[(&world.instance, &job, CALLBACK)]).await.unwrap();
    world.claim().await;
    world.sql("UPDATE one_shots SET retrying_since = now() - interval '73 hours' WHERE job_id = 'b'").await;
    let tidied = outages::tidy_parked(&world.db, Duration::from_hours(72), 100).await.unwrap();
    assert_eq!(tidied.given_up, 1);
    assert_eq!(world.list().await.dead[0].job_id.as_str(), "b");
}

#[tokio::test]
async fn a_call_from_the_agent_pulls_its_retries_once_a_minute_and_respects_its_retry_after() {
    let world = World::new().await;
    for job in ["a", "asked"] {
        world.provision(job, past(1)).await;
    }
    for attempt in world.confirm(&world.claim().await).await {
        world.end(&attempt, FireOutcome::Failed, Some(1800)).await;
    }
    world
        .sql("UPDATE one_shots SET retry_after_until = now() + interval '50 s' WHERE job_id = 'asked'")
        .await;
    let minute = Duration::from_mins(1);
    assert_eq!(outages::pull_retries(&world.db, &world.instance, minute).await.unwrap(), 2);
    for one in world.list().await.armed {
        let wait = seconds_from_now(one.next_attempt_at);
        let expected = if one.job_id.as_str() == "a" { -40.0..=3.0 } else { 10.0..=50.0 };
        assert!(expected.contains(&wait), "{} in {wait} s", one.job_id);
        assert_eq!(one.attempts, 1, "attempt counts are kept");
    }
    world.sql("UPDATE one_shots SET next_attempt_at = now() + interval '1 hour'").await;
    assert_eq!(outages::pull_retries(&world.db, &world.instance, minute).await.unwrap(), 0, "once a minute");
}

#[tokio::test]
async fn confirmed_attempt_that_was_not_sent_can_be_given_back() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    let leases = world.claim().await;
    assert_eq!(world.confirm(&leases).await.len(), 1);
    assert_eq!(leases::give_back(&world.db, &leases, Duration::ZERO).await.unwrap(), 1);
    let attempt = world.start().await;
    assert_eq!(attempt.attempt, 1, "it did not count");
}

/// A one-shot leased before its instance's outage began is not confirmed.
#[tokio::test]
async fn one_shots_leased_before_an_outage_are_parked_until_the_probe_succeeds() {
    let world = World::new().await;
    for job in ["a", "b", "c"] {
        world.provision(job, past(1)).await;
    }
    let leases = world.claim().await;
    let probe = JobId::new("b").unwrap();
    outages::open_outages(&world.db, &[(&world.instance, &probe, CALLBACK)]).await.unwrap();
    let confirmed = world.confirm(&leases).await;
    assert_eq!(confirmed.iter().map(|attempt| attempt.job_id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(confirmed[0].probes);
    let others: Vec<Lease> = leases.into_iter().filter(|lease| lease.job_id.as_str() != "b").collect();
    assert_eq!(leases::give_back(&world.db, &others, Duration::ZERO).await.unwrap(), 2);
    assert_eq!(leases::claim_due(&world.db, HORIZON, GRACE, 100, &[]).await.unwrap().postponed, 2);
}

/// A delivered key is provisioned again for a later instant. Its second fire is not before that instant, and until then
/// it is not claimed repeatedly.
#[tokio::test]
async fn one_shot_not_confirmed_before_its_fire_at_is_not_claimed_again_before_it() {
    let world = World::new().await;
    let wanted = |at: DateTime<Utc>| Provision::new("a", &at.to_rfc3339(), CALLBACK, "one key").unwrap();
    let provision = async |at| {
        oneshot::provision(&world.db, &world.instance, Some(CALLBACK), &wanted(at), &RULES).await.unwrap()
    };
    provision(past(1)).await;
    world.deliver().await;
    assert!(seconds_from_now(provision(past(-600)).await.next_attempt_at) > 500.0);
    // Forces a due time before the instant.
    world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '1 s'").await;
    let leases = world.claim().await;
    assert_eq!(leases.len(), 1);
    assert!(world.confirm(&leases).await.is_empty(), "never before fire_at");
    leases::give_back(&world.db, &leases, Duration::ZERO).await.unwrap();
    assert!(world.claim().await.is_empty(), "not claimed again at once");
    assert!(seconds_from_now(world.list().await.armed[0].next_attempt_at) > 500.0);
}

#[tokio::test]
async fn ended_one_shots_are_pruned_after_the_retention_in_batches() {
    let world = World::new().await;
    for job in ["old", "new", "armed"] {
        world.provision(job, past(if job == "armed" { -100 } else { 1 })).await;
    }
    for attempt in world.confirm(&world.claim().await).await {
        world.end(&attempt, FireOutcome::Delivered, None).await;
    }
    world
        .sql("UPDATE one_shots SET updated_at = updated_at - interval '31 days' WHERE job_id <> 'new'")
        .await;
    // A row at a time: `armed`, `new`, `old`.
    let month = Duration::from_hours(30 * 24);
    let (mut cursor, mut deleted) = (None, Vec::new());
    for _ in 0..3 {
        let (next, gone) = fires::prune_ended(&world.db, month, month, cursor.as_ref(), 1).await.unwrap();
        cursor = next;
        deleted.push(gone);
    }
    assert_eq!(deleted, [0, 0, 1], "what is armed is not history, however old");
    assert_eq!(
        fires::prune_ended(&world.db, month, month, cursor.as_ref(), 1).await.unwrap(),
        (None, 0),
        "the end"
    );
    assert_eq!(world.list().await.armed.len(), 1);
}

#[tokio::test]
async fn history_is_dropped_by_partition_after_its_retention() {
    let world = World::new().await;
    for job in ["old", "new"] {
        world.provision(job, past(1)).await;
    }
    for attempt in world.confirm(&world.claim().await).await {
        world.end(&attempt, FireOutcome::Delivered, None).await;
    }
    let weeks = async || {
        let count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'fires'::regclass";
        let mut connection = sqlx::PgConnection::connect(&world.url).await.unwrap();
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection).await.unwrap()
    };
    let before = weeks().await;
    // A week of long ago, and one row in it.
    world
        .sql(
            "CREATE TABLE fires_20200106 (LIKE fires INCLUDING ALL);
             ALTER TABLE fires ATTACH PARTITION fires_20200106 FOR VALUES FROM ('2020-01-06Z') TO ('2020-01-13Z');
             UPDATE fires SET started_at = '2020-01-07Z' WHERE job_id = 'old'",
        )
        .await;
    let history = |job| {
        let job = JobId::new(job).unwrap();
        async { fires::of_job(&world.db, &world.instance, &{ job }, None, None, 10).await.unwrap().len() }
    };
    assert_eq!((history("old").await, history("new").await), (1, 1));
    assert_eq!(fires::maintain_history(&world.db, Duration::from_hours(30 * 24)).await.unwrap(), 1);
    assert_eq!((history("old").await, history("new").await), (0, 1));
    assert_eq!(weeks().await, before, "no other week was dropped");
    // A week whose partition is missing goes into the default one, and out of it in time.
    world.sql("UPDATE fires SET started_at = '2020-01-07Z' WHERE job_id = 'new'").await;
    assert_eq!(history("new").await, 1);
    assert_eq!(fires::maintain_history(&world.db, Duration::from_hours(30 * 24)).await.unwrap(), 0);
    assert_eq!(history("new").await, 0);
}

#[tokio::test]
async fn one_shot_that_was_leased_before_its_agent_asked_to_wait_is_not_confirmed() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    world.provision("b", past(1)).await;
    let leases = world.claim().await;
    outages::set_busy(&world.db, &[(world.instance.clone(), Duration::from_secs(30))]).await.unwrap();
    assert!(world.confirm(&leases).await.is_empty());
    leases::give_back(&world.db, &leases, Duration::ZERO).await.unwrap();
    let claimed = leases::claim_due(&world.db, HORIZON, GRACE, 100, &[]).await.unwrap();
    assert_eq!((claimed.leases.len(), claimed.postponed), (0, 2));
    for one in world.list().await.armed {
        assert_eq!((one.state, one.parked, one.attempts), (OneShotState::Armed, None, 0));
        let wait = seconds_from_now(one.next_attempt_at);
        assert!((25.0..=30.0).contains(&wait), "due when that time is over: {wait}");
    }
    assert!(world.claim().await.is_empty(), "they are not looked at again");
}

#[tokio::test]
async fn shorter_retry_after_does_not_end_a_longer_one() {
    let world = World::new().await;
    let instance = || world.instance.clone();
    outages::set_busy(
        &world.db,
        &[(instance(), Duration::from_secs(50)), (instance(), Duration::from_secs(1))],
    )
    .await
    .unwrap();
    outages::set_busy(&world.db, &[(instance(), Duration::from_secs(2))]).await.unwrap();
    assert_eq!(world.sql("SELECT FROM instances WHERE busy_until > now() + interval '40 s'").await, 1);
}

#[tokio::test]
async fn one_shot_that_is_due_at_the_end_of_a_retry_after_is_leased_for_that_instant() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    outages::set_busy(&world.db, &[(world.instance.clone(), Duration::from_secs(1))]).await.unwrap();
    let leases = world.claim().await;
    assert_eq!(leases.len(), 1, "within the horizon");
    assert!(seconds_from_now(Some(leases[0].due_at)) > -1.0 && leases[0].due_at > past(1));
}

#[tokio::test]
async fn dropped_fire_forgets_its_key_also_for_a_provision_during_the_attempt() {
    let world = World::new().await;
    let at = past(1);
    let first = world.provision("a", at).await;
    let attempt = world.start().await;
    world.provision("a", at).await;
    assert_eq!(world.end(&attempt, FireOutcome::Dropped, None).await, Some(OneShotState::Armed));
    let listed = world.list().await.armed.remove(0);
    assert!(seconds_from_now(listed.next_attempt_at) < 2.0, "it is due at once");
    world.age(2).await;
    let attempt = world.start().await;
    assert_eq!(world.end(&attempt, FireOutcome::Dropped, None).await, Some(OneShotState::Delivered));
    let again = world.provision("a", at).await;
    assert!(again.schedule_id != first.schedule_id && !again.shows_skew);
    assert!(!world.provision("a", past(-100)).await.shows_skew);
}

#[tokio::test]
async fn duplicate_after_a_lost_attempt_is_fired_once_more() {
    let world = World::new().await;
    world.provision("a", past(1)).await;
    world.start().await;
    world.expire_leases().await;
    leases::recover_expired(&world.db, Duration::ZERO, 10).await.unwrap();
    let second = world.start().await;
    assert_eq!(world.end(&second, FireOutcome::Duplicate, None).await, Some(OneShotState::Waiting));
    let listed = world.list().await.armed.remove(0);
    assert_eq!((listed.attempts, listed.last_outcome), (0, Some(FireOutcome::Duplicate)));
    assert!(
        (300.0..=330.0).contains(&seconds_from_now(listed.next_attempt_at)),
        "{:?}",
        listed.next_attempt_at
    );
    world
        .sql("UPDATE one_shots SET next_attempt_at = now(), claimed_at = claimed_at - interval '330 s'")
        .await;
    let third = world.start().await;
    assert_eq!(
        world.end(&third, FireOutcome::Duplicate, None).await,
        Some(OneShotState::Delivered),
        "it is final"
    );
}

#[tokio::test]
async fn duplicate_is_final_more_than_300_seconds_after_the_earlier_attempt() {
    let world = World::new().await;
    let at = past(1);
    for (age, state) in [(299, OneShotState::Waiting), (301, OneShotState::Delivered)] {
        world.provision("a", at).await;
        world.deliver().await;
        world.sql(&format!("UPDATE one_shots SET claimed_at = claimed_at - interval '{age} s'")).await;
        world.age(age).await;
        world.provision("a", at).await;
        let second = world.start().await;
        assert_eq!(world.end(&second, FireOutcome::Duplicate, None).await, Some(state), "after {age} s");
        world.cancel("a").await;
    }
}
