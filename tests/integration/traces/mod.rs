//! Traces, as a collector receives them: docs/traces.md.

pub(crate) mod collector;
mod failures;
mod hanging;
mod journeys;
mod reports;
