//! Jobs for the tests.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_protocol::{DeadReason, FireOutcome, OneShotState, ScheduleId};
use uuid::Uuid;

use nas_cron_protocol::admin_api::{DormantReason, Job};

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(crate) fn job() -> Job {
    Job {
        instance_id: "agent-1".to_owned(),
        org_id: "acme".to_owned(),
        job_id: "3f2a9c01d4e5".to_owned(),
        schedule_id: ScheduleId(Uuid::from_u128(7)),
        dedup_key: "3f2a9c01d4e5:2027-01-15T09:03:00+01:00".to_owned(),
        fire_at: "2027-01-15T09:03:00+01:00".to_owned(),
        fire_at_instant: now() + TimeDelta::minutes(3),
        callback_url: "https://agent-1.example".to_owned(),
        own_callback_url: None,
        state: OneShotState::Armed,
        parked: None,
        awaits: None,
        next_attempt_at: Some(now() + TimeDelta::minutes(3)),
        not_after: None,
        dead_reason: None,
        lease_expires_at: None,
        attempts: 0,
        retrying_since: None,
        retry_after_until: None,
        last_started_at: None,
        last_outcome: None,
        last_status: None,
        last_error: None,
        asked_again: false,
        created_at: now() - TimeDelta::hours(3),
        updated_at: now() - TimeDelta::hours(3),
        dormant_since: None,
        dormant_reason: None,
        expected_at: None,
        delivered_at: None,
        superseded_fire_at: None,
        superseded_untried: None,
    }
}

pub(crate) fn dead() -> Job {
    Job {
        job_id: "b".to_owned(),
        state: OneShotState::Dead,
        dead_reason: Some(DeadReason::BudgetSpent),
        next_attempt_at: None,
        attempts: 81,
        retrying_since: Some(now() - TimeDelta::days(3)),
        last_started_at: Some(now() - TimeDelta::seconds(20)),
        last_outcome: Some(FireOutcome::Failed),
        last_status: Some(503),
        last_error: Some("the agent answered 503: <html>\u{1b}[2J".to_owned()),
        ..job()
    }
}

pub(crate) fn dormant() -> Job {
    Job {
        state: OneShotState::Delivered,
        next_attempt_at: None,
        last_started_at: Some(now() - TimeDelta::hours(30)),
        last_outcome: Some(FireOutcome::Delivered),
        last_status: Some(202),
        dormant_since: Some(now() - TimeDelta::hours(5)),
        dormant_reason: Some(DormantReason::Silent),
        expected_at: Some(now() - TimeDelta::hours(6)),
        delivered_at: Some(now() - TimeDelta::hours(30)),
        ..job()
    }
}
