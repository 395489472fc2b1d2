//! The statements, one by one, on a real Postgres.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::db::{Db, expiry, fires, holds, leases, oneshots, outages, outcomes, wake_ups};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::{Attempt, Ended};
use nas_cron::domain::hold::HoldTarget;
use nas_cron::domain::lease::Lease;
use nas_cron::domain::one_shot::OneShot;
use nas_cron::domain::wake_up::{Found, Wake};
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::{
    BackendName, DeadReason, FireOutcome, Given, InstanceId, JobId, OneShotState, ScheduleId,
};
use nas_cron_testing::database::database;
use nas_cron_testing::time::now;
use sqlx::PgPool;

use crate::redrives::redrive_all;

const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const HORIZON: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(30);

struct World {
    db: Db,
    pool: PgPool,
    instance: InstanceId,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let world = Self {
            db,
            pool: PgPool::connect(&url).await.unwrap(),
            instance: InstanceId::new("inst-1").unwrap(),
        };
        world.sql("INSERT INTO instances (instance_id, org_id, callback_url) VALUES ('inst-1', 'org-1', 'https://a.example')").await;
        world
    }

    async fn sql(&self, statement: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.pool).await.expect(statement);
    }

    /// Provisions the job with this key. `fire_at` is a second ago.
    async fn provision(&self, key: &str, not_after: Given<DateTime<Utc>>) -> ScheduleId {
        let at = (now() - TimeDelta::seconds(1)).to_rfc3339();
        let wanted = Provision::new("job", &at, "https://a.example", key).unwrap();
        let limit = not_after.try_map(|at| Ok::<_, ()>(at.to_rfc3339())).unwrap();
        let wanted = wanted.with_not_after(limit).unwrap();
        let callback = Some("https://a.example");
        oneshot::provision(&self.db, &self.instance, callback, &wanted, &RULES).await.unwrap().schedule_id
    }

    async fn listed(&self) -> OneShot {
        oneshots::list(&self.db, &self.instance).await.unwrap().pop().expect("a one-shot")
    }

    async fn limit(&self) -> Option<DateTime<Utc>> {
        self.listed().await.not_after
    }

    async fn end_of(&self) -> (OneShotState, Option<DeadReason>) {
        let one = self.listed().await;
        (one.state, one.dead_reason)
    }

    async fn claim(&self) -> Vec<Lease> {
        leases::claim_due(&self.db, HORIZON, GRACE, 100, &[]).await.unwrap().leases
    }

    async fn confirm(&self, leases: &[Lease]) -> Vec<Attempt> {
        leases::confirm(&self.db, leases, Duration::from_secs(40), 1).await.unwrap().attempts
    }

    async fn start(&self) -> Attempt {
        self.confirm(&self.claim().await).await.pop().expect("it is confirmed")
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
            ambiguous: false,
            http_status: Some(503),
            answer: None,
            error: Some("busy".to_owned()),
            retry_in: retry_in.map(Duration::from_secs),
            retry_after: None,
        };
        outcomes::finish_fires(&self.db, &[ended], &RULES).await.unwrap()[0].state
    }

    async fn fail(&self, attempt: &Attempt, retry_in: u64) -> Option<OneShotState> {
        self.end(attempt, FireOutcome::Failed, Some(retry_in)).await
    }

    async fn expire(&self) -> usize {
        expiry::expire(&self.db, 100).await.unwrap().len()
    }

    /// Lets the limit pass.
    async fn pass(&self) {
        self.sql("UPDATE one_shots SET not_after = clock_timestamp() - interval '1 ms'").await;
    }
}

fn in_seconds(seconds: i64) -> Given<DateTime<Utc>> {
    Given::Set(now() + TimeDelta::seconds(seconds))
}

const EXPIRED: (OneShotState, Option<DeadReason>) = (OneShotState::Dead, Some(DeadReason::Expired));

#[tokio::test]
async fn a_confirmation_after_not_after_starts_no_attempt() {
    let world = World::new().await;
    world.provision("k", in_seconds(60)).await;
    let leases = world.claim().await;
    assert_eq!(leases.len(), 1);
    world.pass().await;
    assert!(world.confirm(&leases).await.is_empty(), "too late");
    assert_eq!(world.expire().await, 0, "it is claimed");
    assert_eq!(leases::give_back(&world.db, &leases, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(world.expire().await, 1);
    assert_eq!((world.end_of().await, world.listed().await.attempts), (EXPIRED, 0));
    assert!(world.claim().await.is_empty());
}

#[tokio::test]
async fn an_attempt_that_started_before_not_after_may_deliver_afterwards() {
    let world = World::new().await;
    world.provision("k", in_seconds(60)).await;
    let attempt = world.start().await;
    world.pass().await;
    assert_eq!(world.expire().await, 0, "an attempt is in flight");
    let state = world.end(&attempt, FireOutcome::Delivered, None).await;
    assert_eq!(state, Some(OneShotState::Delivered));
    assert_eq!(world.expire().await, 0);
}

#[tokio::test]
async fn a_retry_later_than_not_after_ends_the_one_shot_at_once() {
    let world = World::new().await;
    world.provision("k", in_seconds(60)).await;
    let first = world.start().await;
    assert_eq!(world.fail(&first, 20).await, Some(OneShotState::Waiting), "in time");
    assert_eq!(world.end_of().await, (OneShotState::Waiting, None));
    world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '1 s'").await;
    let second = world.start().await;
    assert_eq!(world.fail(&second, 90).await, Some(OneShotState::Dead));
    let one = world.listed().await;
    assert_eq!((one.state, one.dead_reason, one.attempts), (EXPIRED.0, EXPIRED.1, 2));
    assert_eq!((one.last_status, one.last_error.as_deref()), (Some(503), Some("busy")), "the last attempt's");
}

#[tokio::test]
async fn an_outcome_of_a_superseded_one_shot_does_not_end_the_current_one() {
    let world = World::new().await;
    world.provision("old", Given::Keep).await;
    let old = world.start().await;
    world.provision("k", in_seconds(60)).await;
    // Past the floor between two fires.
    world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '1 s'").await;
    let current = world.start().await;
    assert_eq!(world.fail(&current, 20).await, Some(OneShotState::Waiting));
    // The same key shortens its limit: the waiting retry would be too late by itself.
    world.provision("k", in_seconds(5)).await;
    assert_eq!(world.fail(&old, 90).await, None);
    assert_eq!(world.end_of().await, (OneShotState::Waiting, None));
}

#[tokio::test]
async fn a_spent_retry_budget_is_another_reason() {
    let world = World::new().await;
    world.provision("k", in_seconds(3_600)).await;
    let attempt = world.start().await;
    world.end(&attempt, FireOutcome::Failed, None).await;
    assert_eq!(world.end_of().await, (OneShotState::Dead, Some(DeadReason::BudgetSpent)));
    world.pass().await;
    assert_eq!(world.expire().await, 0, "it is dead already");
    let counted = async || fires::counts(&world.db).await.unwrap().dead_letters;
    assert_eq!(counted().await, [(DeadReason::BudgetSpent, 1), (DeadReason::Expired, 0)]);
    world.provision("k", in_seconds(60)).await;
    world.pass().await;
    assert_eq!(world.expire().await, 1);
    assert_eq!(counted().await, [(DeadReason::BudgetSpent, 0), (DeadReason::Expired, 1)]);
}

#[tokio::test]
async fn parked_one_shots_expire_while_they_are_parked() {
    let world = World::new().await;
    world.provision("k", in_seconds(60)).await;
    holds::hold(&world.db, &HoldTarget::All, None).await.unwrap();
    assert!(world.claim().await.is_empty(), "parked");
    assert_eq!(world.expire().await, 0, "in time");
    world.pass().await;
    assert_eq!(world.expire().await, 1);
    let one = world.listed().await;
    assert_eq!((one.state, one.dead_reason, one.parked), (EXPIRED.0, EXPIRED.1, None));
    holds::release(&world.db, &HoldTarget::All).await.unwrap();
    outages::tidy_parked(&world.db, Duration::from_hours(72), 100).await.unwrap();
    assert_eq!(world.end_of().await, EXPIRED, "a release does not revive it");

    world.provision("behind a probe", in_seconds(60)).await;
    world.sql("UPDATE instances SET unreachable_since = now(), probe_job_id = 'another'").await;
    assert!(world.claim().await.is_empty(), "parked");
    world.pass().await;
    assert_eq!(world.expire().await, 1);
    assert_eq!(world.end_of().await, EXPIRED);
}

#[tokio::test]
async fn the_next_look_knows_the_first_limit_of_what_is_not_claimed() {
    let world = World::new().await;
    let look = async || leases::next_look(&world.db, &[]).await.unwrap().expires_in;
    world.provision("k", Given::Keep).await;
    assert_eq!(look().await, None, "no limit");
    world.provision("k", in_seconds(600)).await;
    let left = look().await.expect("a limit");
    assert!(left > Duration::from_mins(5) && left <= Duration::from_mins(10), "{left:?}");
    let leases = world.claim().await;
    assert_eq!(look().await, None, "claimed");
    leases::give_back(&world.db, &leases, Duration::ZERO).await.unwrap();
    world.pass().await;
    assert_eq!(look().await, Some(Duration::ZERO));
    world.expire().await;
    assert_eq!(look().await, None, "dead");
}

#[tokio::test]
async fn the_same_key_keeps_changes_or_clears_the_limit_and_a_new_arm_has_its_own() {
    let world = World::new().await;
    let hour = now() + TimeDelta::hours(1);
    let first = world.provision("k", Given::Set(hour)).await;
    let millis = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_millis());
    for (given, expected) in [
        (Given::Keep, Some(hour)),
        (Given::Set(hour + TimeDelta::hours(1)), Some(hour + TimeDelta::hours(1))),
        (Given::Keep, Some(hour + TimeDelta::hours(1))),
        (Given::Clear, None),
        (Given::Keep, None),
        (Given::Set(hour), Some(hour)),
    ] {
        assert_eq!(world.provision("k", given.clone()).await, first, "the same one-shot");
        assert_eq!(millis(world.limit().await), millis(expected), "{given:?}");
    }
    // Also while an attempt is in flight: its retry has the new limit.
    let attempt = world.start().await;
    world.provision("k", in_seconds(30)).await;
    assert_eq!(world.fail(&attempt, 40).await, Some(OneShotState::Dead));
    assert_eq!(world.end_of().await, EXPIRED);
    // A dead letter is armed again by its key, and its old limit does not end it again.
    assert_eq!(world.provision("k", Given::Keep).await, first);
    assert_eq!((world.end_of().await, world.limit().await), ((OneShotState::Armed, None), None));
    world.provision("k", Given::Set(hour)).await;
    world.provision("another", Given::Keep).await;
    assert_eq!(world.limit().await, None, "not inherited");
}

#[tokio::test]
async fn a_second_fire_has_the_limit_of_its_provision() {
    let world = World::new().await;
    world.provision("k", in_seconds(3_600)).await;
    let attempt = world.start().await;
    world.end(&attempt, FireOutcome::Delivered, None).await;
    world.provision("k", in_seconds(30)).await;
    let one = world.listed().await;
    assert_eq!(one.state, OneShotState::Waiting);
    assert!(one.next_attempt_at > one.not_after, "60 s after the delivery");
    world.pass().await;
    assert_eq!(world.expire().await, 1);
    assert_eq!(world.end_of().await, EXPIRED);
}

#[tokio::test]
async fn the_fire_after_a_duplicate_is_not_later_than_the_limit() {
    let world = World::new().await;
    world.provision("k", in_seconds(120)).await;
    let lost = world.start().await;
    world.sql("UPDATE one_shots SET claimed_at = now()").await;
    let state = world.end(&lost, FireOutcome::Duplicate, None).await;
    assert_eq!(state, Some(OneShotState::Dead), "330 s later would be too late");
    assert_eq!(world.end_of().await, EXPIRED);
}

#[tokio::test]
async fn a_redrive_clears_the_limit() {
    let world = World::new().await;
    world.provision("k", in_seconds(60)).await;
    world.pass().await;
    assert_eq!(world.expire().await, 1);
    let later = now() + TimeDelta::hours(1);
    let redriven = redrive_all(&world.db, later).await;
    assert_eq!(redriven.count, 1);
    assert_eq!((world.end_of().await, world.limit().await), ((OneShotState::Armed, None), None));
    assert_eq!(world.expire().await, 0);
    world.start().await;
}

#[tokio::test]
async fn expiry_withdraws_the_wake_up_and_a_late_one_finds_it_expired() {
    let world = World::new().await;
    wake_ups::activate(&world.db, BackendName::Nats).await.unwrap();
    let at = (now() + TimeDelta::hours(1)).to_rfc3339();
    let wanted = Provision::new("job", &at, "https://a.example", "k").unwrap();
    let wanted = wanted.with_not_after(Given::Set(at)).unwrap();
    let armed = oneshot::provision(&world.db, &world.instance, Some("https://a.example"), &wanted, &RULES)
        .await
        .unwrap();
    assert_eq!(armed.awaits, Some(BackendName::Nats));
    world.pass().await;
    assert_eq!(world.expire().await, 1);
    let state: String =
        sqlx::query_scalar("SELECT state::text FROM wake_ups").fetch_one(&world.pool).await.unwrap();
    assert_eq!(state, "unwanted");
    let wake = Wake {
        instance_id: world.instance.clone(),
        job_id: JobId::new("job").unwrap(),
        schedule_id: armed.schedule_id,
    };
    let found = wake_ups::take(&world.db, &[wake], HORIZON, GRACE, 10).await.unwrap();
    assert!(
        matches!(found[..], [Found::Standing { state: OneShotState::Dead, expired: true, .. }]),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_call_that_qstash_makes_itself_decides_and_not_the_limit() {
    let world = World::new().await;
    wake_ups::activate(&world.db, BackendName::QstashDirect).await.unwrap();
    let at = (now() + TimeDelta::hours(1)).to_rfc3339();
    let wanted = Provision::new("job", &at, "https://a.example", "k").unwrap();
    let wanted = wanted.with_not_after(Given::Set(at)).unwrap();
    oneshot::provision(&world.db, &world.instance, Some("https://a.example"), &wanted, &RULES).await.unwrap();
    world.pass().await;
    assert_eq!(leases::next_look(&world.db, &[]).await.unwrap().expires_in, None);
    assert_eq!(world.expire().await, 0, "its result is awaited");
    world.sql("UPDATE one_shots SET awaits = NULL").await;
    assert_eq!(world.expire().await, 1, "the Postgres loop has taken over");
}
