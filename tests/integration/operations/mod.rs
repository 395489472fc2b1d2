//! What an operator meets: the schema, probes, metrics, the configuration, the history, holds. With the real binary
//! on a real Postgres.

mod alerts;
mod configuration;
mod history;
mod metrics;
mod openapi;
mod probes;
mod schema;
