//! The operations of operators: over the admin API of the real binary, and with commands on the database and on a server.

mod agent_search;
mod auth_profiles;
pub(crate) mod fixture;
mod holds;
mod jobs;
mod keys;
mod orgs;
mod plans;
mod redrive;
mod server;
mod server_of_service;
mod tenants;
mod unreachable;
