//! Redrives for the tests of statements.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron::db::{Db, jobs};
use nas_cron::domain::job::Redriven;
use nas_cron::domain::job_filter::JobFilter;
use nas_cron_protocol::OneShotState;

/// Redrives every dead or stuck one-shot that ended before `ended_before`, all due at once.
pub async fn redrive_all(db: &Db, ended_before: DateTime<Utc>) -> Redriven {
    let states = vec![OneShotState::Dead, OneShotState::Stuck];
    let filter = JobFilter { states, ..JobFilter::default() };
    let selected = jobs::select(db, &filter, None, 200).await.unwrap();
    jobs::redrive(db, &selected.keys, None, ended_before, Duration::ZERO).await.unwrap()
}
