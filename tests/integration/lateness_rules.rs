//! The rules of lateness and overdue one-shots, statement by statement on a real Postgres.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use nas_cron::db::{Db, directory, fires, holds, leases, outages, outcomes};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::{Attempt, Ended};
use nas_cron::domain::hold::HoldTarget;
use nas_cron::domain::lease::Lease;
use nas_cron::domain::one_shot::{DueKind, OneShotCounts};
use nas_cron::domain::{FireOutcome, HoldScope};
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::{InstanceId, JobId, ParkReason};
use nas_cron_testing::database::database;
use sqlx::{Connection, Executor};

use crate::redrives::redrive_all;

const LONG: Duration = Duration::from_secs(40);
const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const CALLBACK: &str = "https://agent.example";

struct World {
    db: Db,
    url: String,
    instance: InstanceId,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let world = Self { db, url, instance: InstanceId::new("inst-1").unwrap() };
        world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
        world
    }

    async fn sql(&self, statement: &str) {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect(statement);
    }

    /// Arms a job `seconds` from now, and returns the instant.
    async fn arm(&self, job: &str, seconds: i64) -> DateTime<Utc> {
        let now = directory::now(&self.db).await.unwrap();
        let at = now + TimeDelta::seconds(seconds);
        let text = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let wanted = Provision::new(job, &text, CALLBACK, &format!("{job}:{text}")).unwrap();
        oneshot::provision(&self.db, &self.instance, Some(CALLBACK), &wanted, &RULES).await.unwrap();
        at
    }

    /// Arms a job in time that came due `seconds_ago`.
    async fn arm_due(&self, job: &str, seconds_ago: i64) -> DateTime<Utc> {
        let at = self.arm(job, 3_600).await;
        let shift = 3_600 + seconds_ago;
        self.sql(&format!(
            "UPDATE one_shots SET fire_at = fire_at - interval '{shift} s', due_since = due_since - interval '{shift} s',
                                  next_attempt_at = next_attempt_at - interval '{shift} s',
                                  created_at = created_at - interval '{shift} s' WHERE job_id = '{job}'"
        ))
        .await;
        at - TimeDelta::seconds(shift)
    }

    async fn claim(&self) -> Vec<Lease> {
        leases::claim_due(&self.db, Duration::from_secs(2), Duration::from_secs(3), 100, &[])
            .await
            .unwrap()
            .leases
    }

    async fn start(&self) -> Attempt {
        let leases = self.claim().await;
        leases::confirm(&self.db, &leases, LONG, 1).await.unwrap().attempts.pop().expect("one is due")
    }

    async fn end(&self, attempt: &Attempt, outcome: FireOutcome, retry_in: Option<Duration>) {
        let ended = Ended {
            attempt: attempt.started(),
            outcome,
            http_status: None,
            error: None,
            answer: None,
            ambiguous: false,
            retry_in,
            retry_after: None,
        };
        outcomes::finish_fires(&self.db, &[ended], &RULES).await.unwrap();
    }

    async fn counts(&self) -> OneShotCounts {
        fires::counts(&self.db).await.unwrap()
    }
}

fn due(counts: &OneShotCounts, kind: DueKind) -> i64 {
    counts.due.iter().filter(|one| one.0 == kind).map(|one| one.1).sum()
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn punctual_one_shot_is_late_from_its_instant_until_its_first_attempt_starts() {
    let world = World::new().await;
    let at = world.arm_due("a", 600).await;
    let counts = world.counts().await;
    assert!(counts.oldest_overdue >= MINUTE * 10 && counts.oldest_overdue < HOUR, "{counts:?}");
    assert_eq!(due(&counts, DueKind::Punctual), 1);
    let attempt = world.start().await;
    assert_eq!(attempt.late_since, Some(at));
    assert!(world.counts().await.oldest_overdue.is_zero(), "its attempt is in flight");
}

#[tokio::test]
async fn deferred_attempt_stays_late_from_its_instant() {
    let world = World::new().await;
    let at = world.arm_due("a", 600).await;
    let leases = world.claim().await;
    assert_eq!(leases::confirm(&world.db, &leases, LONG, 1).await.unwrap().attempts.len(), 1);
    leases::give_back(&world.db, &leases, Duration::from_secs(4)).await.unwrap();
    assert!(world.counts().await.oldest_overdue >= MINUTE * 10, "although it is due later");
    world.sql("UPDATE one_shots SET next_attempt_at = now()").await;
    let attempt = world.start().await;
    assert_eq!((attempt.attempt, attempt.late_since), (1, Some(at)));
}

#[tokio::test]
async fn one_shot_armed_after_its_instant_is_not_late() {
    let world = World::new().await;
    world.arm("yesterday", -86_400).await;
    let counts = world.counts().await;
    assert!(counts.oldest_overdue.is_zero(), "{counts:?}");
    assert_eq!((due(&counts, DueKind::ArmedLate), due(&counts, DueKind::Punctual)), (1, 0));
    assert_eq!(world.start().await.late_since, None);

    // Also if it replaces a punctual one, and vice versa.
    world.arm("other", 600).await;
    world.arm("other", -600).await;
    assert!(world.counts().await.oldest_overdue.is_zero());
    world.arm("other", 601).await;
    world.sql("UPDATE one_shots SET state = 'delivered', next_attempt_at = NULL, claim_expires_at = NULL, attempt_expires_at = NULL WHERE job_id = 'yesterday'").await;
    let at = world.arm_due("other", 600).await;
    assert_eq!(world.start().await.late_since, Some(at));
}

#[tokio::test]
async fn one_shot_released_from_a_hold_is_not_late() {
    let world = World::new().await;
    world.arm_due("a", 600).await;
    holds::hold(&world.db, &HoldTarget::All, None).await.unwrap();
    assert!(world.claim().await.is_empty());
    let counts = world.counts().await;
    assert!(counts.oldest_overdue.is_zero(), "{counts:?}");
    assert!(counts.parked.contains(&(ParkReason::Hold, 1)), "{counts:?}");
    assert!(outages::withheld(&world.db).await.unwrap().holds.contains(&(HoldScope::All, 1)));
    holds::release(&world.db, &HoldTarget::All).await.unwrap();
    outages::tidy_parked(&world.db, HOUR, 100).await.unwrap();
    let counts = world.counts().await;
    assert!(counts.oldest_overdue.is_zero(), "{counts:?}");
    assert_eq!(due(&counts, DueKind::Released), 1);
    assert_eq!(world.start().await.late_since, None);
}

#[tokio::test]
async fn one_shot_that_waited_for_a_probe_is_not_late() {
    let world = World::new().await;
    world.arm("probe", 0).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let probe = world.start().await;
    let job = JobId::new("probe").unwrap();
    outages::open_outages(&world.db, &[(&world.instance, &job, CALLBACK)]).await.unwrap();
    world.end(&probe, FireOutcome::Failed, Some(HOUR)).await;
    world.arm_due("a", 600).await;
    assert!(world.claim().await.is_empty(), "it is parked");
    let counts = world.counts().await;
    assert!(counts.parked.contains(&(ParkReason::Unreachable, 1)), "{counts:?}");
    assert_eq!(outages::withheld(&world.db).await.unwrap().unreachable, 1);
    outages::close_outages(&world.db, std::slice::from_ref(&world.instance)).await.unwrap();
    assert!(world.counts().await.oldest_overdue.is_zero());
    let attempts = leases::confirm(&world.db, &world.claim().await, LONG, 1).await.unwrap().attempts;
    assert!(attempts.iter().any(|one| one.job_id.as_str() == "a"), "{attempts:?}");
    assert!(attempts.iter().all(|one| one.late_since.is_none()), "{attempts:?}");
}

#[tokio::test]
async fn retry_second_fire_and_redrive_are_not_late() {
    let world = World::new().await;
    world.arm_due("a", 600).await;
    let first = world.start().await;
    world.end(&first, FireOutcome::Failed, Some(Duration::ZERO)).await;
    world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '10 min'").await;
    let counts = world.counts().await;
    assert!(counts.oldest_overdue.is_zero(), "{counts:?}");
    assert_eq!(due(&counts, DueKind::Again), 1);
    let retry = world.start().await;
    assert_eq!((retry.attempt, retry.late_since), (2, None));

    world.end(&retry, FireOutcome::Failed, None).await;
    let now = directory::now(&world.db).await.unwrap();
    let redriven = redrive_all(&world.db, now).await;
    assert_eq!(redriven.count, 1);
    world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '10 min'").await;
    assert!(world.counts().await.oldest_overdue.is_zero());
    let redriven = world.start().await;
    assert_eq!((redriven.attempt, redriven.late_since), (1, None));

    // The same key while its attempt is in flight: a second fire.
    world.sql("UPDATE one_shots SET asked_again_at = now()").await;
    world.end(&redriven, FireOutcome::Delivered, None).await;
    world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '10 min'").await;
    assert!(world.counts().await.oldest_overdue.is_zero());
    assert_eq!(world.start().await.late_since, None);
}

#[tokio::test]
async fn instances_that_are_disabled_or_denied_are_counted() {
    let world = World::new().await;
    world
        .sql(
            "INSERT INTO instances (instance_id, org_id, enabled) VALUES ('off', 'org-1', false);
             INSERT INTO instances (instance_id, org_id, denied_by_portal, looked_up_at)
             VALUES ('denied', 'org-1', 'unknown', now())",
        )
        .await;
    let withheld = outages::withheld(&world.db).await.unwrap();
    assert_eq!((withheld.disabled, withheld.denied, withheld.unreachable), (1, 1, 0));
}
