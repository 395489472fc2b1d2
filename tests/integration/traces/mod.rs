//! Traces, as a collector receives them: docs/traces.md.

mod collector;
mod failures;
mod journeys;
