//! The service's own types, below all other layers. They add to the types of the contract, which are in
//! `nas_cron_protocol`. Nothing here does I/O.
//!
//! - [`one_shot`], [`arm_rules`], [`job_auth`]: arming, and the state of a job's one-shot.
//! - [`lease`], [`attempt`]: a one-shot from its claim through the confirmation to its outcome, by the database's clock
//!   ([`clock_sample`]). [`lease_lengths`]: the lengths of all leases. [`Deferral`]: reasons for deferred attempts.
//! - [`wake_up`], [`outbox`], [`active_backend`], [`direct_call`], [`qstash_region`]: wake-ups from external backends, and
//!   orders to them.
//! - [`agent_instance`], [`registration`], [`hold`], [`quota`], [`identity`], [`login`]: agent instances, their credentials,
//!   and the conditions that stop their fires or limit their jobs. [`agent_search`]: the search for them.
//! - [`event`], [`webhook`]: events, and their receivers.
//! - [`trace_context`], [`stage`]: what traces record. [`transfer`]: what exports contain.
//! - [`actor`], [`admin_token`], [`audit`]: callers of the admin API and of the commands, their tokens, and the log of what
//!   they did.
//! - [`replica`], [`fire_minutes`]: the running replicas, and their attempts by minute.
//! - [`job`]: jobs as operators see them. [`circumstances`]: what stops or delays a job. [`recurrence`], [`dormancy`]: jobs
//!   whose agents have not armed the next fire. [`release`]: the release that runs.
//!   [`StoredKey`] and the other types at the top of this module: signing keys. [`sealed`]: what is stored encrypted.
//!
//! `db` reads and writes these types. The layers above it do not know how they are stored.

pub mod active_backend;
pub mod actor;
pub mod admin_token;
pub mod agent_contact;
pub mod agent_instance;
pub mod agent_search;
pub mod arm_rules;
pub mod attempt;
pub mod audit;
pub mod circumstances;
pub mod clock_sample;
pub mod database_url;
pub mod dead_letters;
mod deferral;
pub mod direct_call;
pub mod dormancy;
pub mod event;
pub mod fire_minutes;
pub mod hold;
pub mod identity;
pub mod job;
pub mod job_auth;
pub mod job_filter;
pub mod job_status;
pub mod lease;
pub mod lease_lengths;
pub mod login;
pub mod one_shot;
pub mod operator_session;
pub mod outbox;
pub mod qstash_region;
pub mod quota;
pub mod recurrence;
pub mod registration;
pub mod release;
pub mod replica;
pub mod sealed;
mod signing_key;
pub mod stage;
pub mod trace_context;
pub mod transfer;
pub mod wake_up;
pub mod webhook;
mod words;

pub use deferral::Deferral;
pub use nas_cron_protocol::FireOutcome;
pub use nas_cron_protocol::admin_api::HoldScope;
pub use signing_key::{KeyRecord, KeyState, NewKey, PrivateHalf, SigningAlg, StoredKey};
pub use words::{LoginEnd, PortalDenial};
