//! stub
use crate::db::fires::Census;
use crate::domain::FireOutcome;
use std::time::Duration;
pub fn set_census(_: &Census) {}
pub fn set_db_clock_offset(_: f64) {}
pub fn count_recovered(_: u64) {}
pub fn count_lease_lost(_: u64) {}
pub fn count_panic() {}
pub fn set_in_flight(_: usize) {}
pub fn observe_lateness(_: f64) {}
pub fn observe_attempt(_: Duration, _: Option<u16>) {}
pub fn count_fire(_: FireOutcome) {}
