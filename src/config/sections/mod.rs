//! The settings by section: the rows of the table, the values that they become, and the rules between them.
//!
//! A section's file has its keys (`settings!`), its struct, `read` and `check`. Rules that look at two sections stand
//! with the one that depends on the other.

pub(super) mod administration;
pub mod backends;
pub(super) mod database;
pub(super) mod fires;
pub(super) mod history;
pub(super) mod identity;
pub(super) mod keys;
pub(super) mod leases;
pub(super) mod listening;
pub(super) mod logs;
pub(super) mod portal;
pub(super) mod retries;
pub(super) mod stopping;
