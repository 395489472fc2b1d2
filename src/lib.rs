//! nas-cron: one-shot cron for agents that scale to zero.
//!
//! # Modules
//!
//! A module imports only modules further down in this table. `docs/ARCHITECTURE.md` lists the permitted imports, and a
//! test checks them.
//!
//! | module | contents |
//! |---|---|
//! | [`cli`] | the operator's commands, one file each |
//! | [`app`] | start and shutdown of `serve`, and everything that it holds |
//! | [`http`] | all routes ([`http::router`]), authentication of callers ([`http::auth`]), the agent API ([`http::agent_cron`]), error responses, connections ([`http::server`]) |
//! | [`operations`] | what operators do, for the admin API and the command line |
//! | [`backends`] | scheduler backends (Postgres, `QStash`, NATS), the outbox of orders to external backends, moves between backends |
//! | [`scheduler`] | the Postgres loop: claims, timer, slots, confirmations, outcomes |
//! | [`own_portal`] | the built-in portal, for agents without another one: logins and refresh tokens |
//! | [`webhooks`] | events for operators and portals, and the webhooks that receive them |
//! | [`oneshot`] | the rules of provision, cancel, list and status |
//! | [`admin_tokens`] | admin tokens: creation, lookup and revocation |
//! | [`operator_sessions`] | sessions of operators at the operators' page |
//! | [`audit`] | the audit log of state-changing calls and commands |
//! | [`auth_profiles`] | auth profiles: defaults and registered names per service, org and instance |
//! | [`fire`] | one attempt: mint a token, POST the fire, judge the response |
//! | [`instance`] | from an access token to an agent instance |
//! | [`identity`] | from a registered key to an agent instance |
//! | [`directory`] | registration of agent instances |
//! | [`keys`] | the keys that sign fire tokens, and their rotation |
//! | [`store_error`] | a database failure as `http` reports it |
//! | [`db_clock`] | this process's estimate of the database's clock |
//! | [`db`] | all SQL |
//! | [`traces`] | traces of requests and attempts, for a collector |
//! | [`heartbeat`] | supervision of the background loops |
//! | [`membership`] | the right of this replica to make attempts |
//! | [`shutdown`], [`limits`], [`metrics`], [`config`], [`diagnosis`] | shutdown phases, shares of the descriptor limit, metrics, settings, findings of `doctor` |
//! | [`domain`] | types that the modules above store, pass on and decide about; no I/O |
//!
//! Three crates are separate: `nas_cron_protocol` has the types of the wire, `nas_cron_base` has the code that all programs
//! share, and `nas_cron_agent` is the agent's side.
//!
//! # Two journeys
//!
//! **A request** (provision):
//!
//! 1. [`http::router`] routes it to its handler.
//! 2. [`http::auth::Caller`] and [`instance::Authenticator`] authenticate it: an access token by its issuer, or an
//!    assertion by [`identity`]. They find the agent instance in the service's own table or with the portal's lookup API.
//! 3. [`http::agent_cron`] reads the body and calls [`oneshot::provision`], which applies the rules.
//! 4. [`db::provisions::provision`] stores the one-shot in one statement. From here on it is durable.
//! 5. [`backends::Backends::armed`] wakes the scheduler if the one-shot is due soon, or arms it at the external backend.
//!
//! **A fire**:
//!
//! 1. [`scheduler::claims`] leases the one-shots that come due. A wake-up from an external backend arrives through
//!    [`http::relay`] or [`backends::nats`], and [`scheduler::wake`] leases its one-shot instead.
//! 2. [`scheduler::timer`] waits for the instant.
//! 3. [`scheduler::dispatch`] waits for a free slot in flight.
//! 4. [`db::leases::confirm`] checks that the one-shot is still due and leased here. When it commits, the attempt has
//!    started.
//! 5. [`fire::Firing::fire`] mints the token, POSTs the fire and judges the response.
//! 6. [`scheduler::recorder`] records the outcome in batches, with [`db::outcomes::finish_fires`].
//!
//! No transaction is open while an HTTP request is in flight. The row in Postgres is the truth: everything in memory may
//! be lost.

// `println!` and `eprintln!` panic if the reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin_tokens;
pub mod app;
pub mod audit;
pub mod auth_profiles;
pub mod backends;
pub mod cli;
pub mod config;
pub mod db;
pub mod db_clock;
pub mod diagnosis;
pub mod directory;
pub mod domain;
pub mod fire;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod heartbeat;
pub mod http;
pub mod identity;
pub mod instance;
pub mod keys;
pub mod limits;
pub mod membership;
pub mod metrics;
pub mod oneshot;
pub mod operations;
pub mod operator_sessions;
pub mod own_portal;
pub mod quotas;
pub mod scheduler;
pub mod shutdown;
pub mod store_error;
pub mod traces;
pub mod webhooks;
