//! The service's own words and records as types, below all other layers: what it stores and decides beyond the words
//! of the contract, which are in `nas_cron_protocol`. Nothing here does I/O.
//!
//! - [`one_shot`], [`arm_rules`], [`job_auth`]: arming a job's one-shot, and how it stands.
//! - [`lease`], [`attempt`]: a one-shot on its way through claim, confirmation and outcome, by the database's clock
//!   ([`clock_sample`]). [`lease_lengths`]: how long every lease lasts.
//! - [`wake_up`], [`outbox`], [`active_backend`], [`direct_call`]: what hosted backends bring and are told.
//! - [`agent_instance`], [`registration`], [`hold`], [`identity`], [`login`]: the instances, what they call with, and
//!   what stops their fires.
//! - [`job`]: what operators see of a job. Signing keys are at the top of this module.
//!
//! `db` reads and writes these types; the layers above pass them on without knowing how they are stored.

pub mod active_backend;
pub mod agent_instance;
pub mod arm_rules;
pub mod attempt;
pub mod clock_sample;
pub mod database_url;
pub mod direct_call;
pub mod hold;
pub mod identity;
pub mod job;
pub mod job_auth;
pub mod lease;
pub mod lease_lengths;
pub mod login;
pub mod one_shot;
pub mod outbox;
mod put_off;
pub mod registration;
mod signing_key;
pub mod wake_up;
mod words;

pub use put_off::PutOff;
pub use signing_key::{KeyRecord, KeyState, NewKey, PrivateHalf, SigningAlg, StoredKey};
pub use words::{FireOutcome, HoldScope, LoginEnd, PortalDenial};
