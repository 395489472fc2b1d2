//! A model of a one-shot's life, checked exhaustively.
//!
//! Read it in this order:
//!
//! 1. [`row`] has the rule of each statement, as a pure function of the row. The test `one_shot_model` of the service runs
//!    the SQL statements and compares them with these functions. [`callbacks`] has the rules about the callback of a row.
//! 2. [`world`] puts the rules into a world of two replicas, an agent, a database and their faults.
//! 3. [`check`] visits every state of that world and reports the shortest way to a broken property.
//! 4. `tests/model.rs` has the scopes that hold, and the planted mistakes that are found.
//!
//! `cargo test -p nas-cron-model` checks small scopes, and that planted mistakes are found; `make model` checks larger ones.

pub mod callbacks;
pub mod check;
pub mod row;
pub mod world;
