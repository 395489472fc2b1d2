//! What an operator meets: the schema, probes, metrics, the configuration, the history, holds. With the real binary
//! on a real Postgres.

#[path = "operations/configuration.rs"]
mod configuration;
#[path = "operations/history.rs"]
mod history;
#[path = "operations/metrics.rs"]
mod metrics;
#[path = "operations/openapi.rs"]
mod openapi;
#[path = "operations/probes.rs"]
mod probes;
#[path = "operations/schema.rs"]
mod schema;
mod support;
