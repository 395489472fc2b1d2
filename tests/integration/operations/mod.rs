//! Operations with the real binary on a real Postgres: schema, probes, metrics, configuration, history, holds.

mod alerts;
mod configuration;
mod history;
mod metrics;
mod openapi;
mod probes;
mod schema;
mod why;
