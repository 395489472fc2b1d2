//! Auth profiles (docs/auth-profiles.md) over real sockets, with the real binary on a real Postgres: the profile of a
//! fire, access control, warnings, and the protection of secrets.

mod commands;
mod fires;
mod fixture;
mod forms;
mod isolation;
mod jobs;
mod registry;
mod secrets;
mod statements;
mod warnings;
