//! The integration tests, in one binary: the real service on a real Postgres, over real sockets.
//!
//! `cargo test --test integration fires::` runs one group. Shared fixtures are in `crates/nas-cron-testing`;
//! scripts and packages of other programs are in `tests/external`, fixed inputs in `tests/data`.

mod admin;
mod admin_operations;
mod agent_api;
mod agent_identity;
mod agent_tools;
mod architecture;
mod auth_profiles;
mod backend_switch;
mod backup;
mod cancelled_jobs;
#[cfg(target_os = "linux")]
mod clocks;
mod connections;
mod costs;
mod database_faults;
mod dead_replicas;
mod dev;
mod docs;
mod doctor;
mod dormant_jobs;
mod faults;
mod fires;
mod hermes_agent;
mod instances_of_one_shots;
mod keys;
mod lateness_rules;
mod nats;
mod nats_cluster;
mod nginx;
mod not_after;
mod one_shot_model;
mod one_shot_rules;
mod openapi;
mod operations;
mod operator;
mod operators_page;
mod overview;
mod own_agent;
mod own_limits;
mod own_portal;
mod portals;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod postgres_versions;
mod production;
mod provisions;
mod qstash;
mod qstash_direct;
mod readers;
mod redrives;
mod relay;
mod replicas;
mod scheduler_contract;
mod secrets;
mod traces;
mod wake_up_rules;
mod webhooks;
