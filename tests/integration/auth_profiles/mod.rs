//! Auth profiles (docs/auth-profiles.md) over real sockets, with the real binary on a real Postgres: which one a fire
//! carries, who may change what, what is warned of, and that no secret gets anywhere.

mod commands;
mod fires;
mod fixture;
mod isolation;
mod jobs;
mod registry;
mod secrets;
mod statements;
mod warnings;
