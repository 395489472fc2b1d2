//! Operations with the real binary on a real Postgres: schema, probes, metrics, configuration, history, holds.

mod alerts;
mod closed_pipes;
mod configuration;
mod database_user;
mod history;
mod identifiers;
mod log_lines;
mod metrics;
mod openapi;
mod probes;
mod schema;
mod why;
