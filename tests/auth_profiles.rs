//! Auth profiles (docs/auth-profiles.md) over real sockets, with the real binary on a real Postgres: which one a fire
//! carries, who may change what, what is warned of, and that no secret gets anywhere.

#[path = "auth_profiles/commands.rs"]
mod commands;
#[path = "auth_profiles/desk.rs"]
mod desk;
#[path = "auth_profiles/fires.rs"]
mod fires;
#[path = "auth_profiles/isolation.rs"]
mod isolation;
#[path = "auth_profiles/jobs.rs"]
mod jobs;
#[path = "auth_profiles/registry.rs"]
mod registry;
#[path = "auth_profiles/secrets.rs"]
mod secrets;
#[path = "auth_profiles/statements.rs"]
mod statements;
mod support;
#[path = "auth_profiles/warnings.rs"]
mod warnings;
