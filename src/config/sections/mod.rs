//! Settings by section: their rows of the table, their values, and the rules between them.
//!
//! A section's file declares its keys (`settings!`), its struct, `read` and `check`. A rule between two sections is in the
//! file of the dependent one.

pub(super) mod administration;
pub mod backends;
pub(super) mod database;
pub(super) mod events;
pub(super) mod fires;
pub(super) mod history;
pub(super) mod identity;
pub(super) mod keys;
pub(super) mod leases;
pub(super) mod listening;
pub(super) mod logs;
pub(super) mod portal;
pub(super) mod quotas;
pub(super) mod retries;
pub(super) mod stopping;
pub(super) mod traces;
