//! nas-cron: one-shot cron for agents that scale to zero.
//!
//! # The map
//!
//! Modules import those further down. Who may import whom is a table in `docs/ARCHITECTURE.md`, checked by a test.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cli`] | the operator's commands, one file each |
//! | [`app`] | what `serve` holds; how it starts and stops |
//! | [`http`] | all routes ([`http::router`]), who calls ([`http::auth`]), the agent API ([`http::agent_cron`]), errors, connections ([`http::server`]) |
//! | [`backends`] | scheduler backends: Postgres, `QStash`, NATS; the outbox that tells them; moving between them |
//! | [`scheduler`] | the service's own loop: claims, instants, slots, confirmations, outcomes |
//! | [`own_portal`] | being the agents' portal where there is no other: logins and refresh tokens |
//! | [`oneshot`] | what provision, cancel and list mean |
//! | [`auth_profiles`] | auth profiles: what is set where, and which are known |
//! | [`fire`] | one attempt: mint, POST, judge |
//! | [`instance`] | from an access token to an agent instance |
//! | [`identity`] | from a registered key to an agent instance |
//! | [`directory`] | registering agent instances |
//! | [`keys`] | the keys that sign fire tokens, and their rotation |
//! | [`store_error`] | a database failure as `http` sees it |
//! | [`db_clock`] | the database's clock, as this process knows it |
//! | [`db`] | the only module with SQL |
//! | [`heartbeat`] | supervision of the loops that must never stop |
//! | [`shutdown`], [`limits`], [`metrics`], [`config`], [`diagnosis`] | phases of the end, shares of the descriptor limit, metrics, settings, findings of `doctor` |
//! | [`domain`] | what is stored, handed on and decided, as types without I/O |
//!
//! The words of the wire are in `nas_cron_protocol`, what all programs share is in `nas_cron_base`, and the agent's side
//! is `nas_cron_agent`.
//!
//! # Two journeys
//!
//! **A request** (`provision`): [`http::router`] → [`http::auth::Caller`] → [`instance::Authenticator`] (an access token
//! by its issuer, or an assertion by [`identity`]; then its instance, by our own table or the portal's lookup) →
//! [`http::agent_cron`] → [`oneshot::provision`] (the rule) → [`db::oneshots::arm`] (one statement, durable) →
//! [`backends::Backends::armed`] (the scheduler wakes if it is soon; an external backend is told).
//!
//! **A fire**: [`scheduler::claims`] (lease what comes due), or [`http::relay`] or [`backends::nats`] with a backend's
//! wake-up → [`scheduler::wake`] (lease that one) → [`scheduler::timer`] (wait for the instant) →
//! [`scheduler::dispatch`] (a slot in flight) → [`db::leases::confirm`] (it still stands: the attempt has started)
//! → [`fire::Firing::fire`] (mint, POST, judge) → [`scheduler::recorder`] → [`db::outcomes::finish_fires`].
//!
//! No transaction is open while HTTP is in flight. The row in Postgres is the truth; everything in memory may be lost.

pub mod app;
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
pub mod heartbeat;
pub mod http;
pub mod identity;
pub mod instance;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod oneshot;
pub mod own_portal;
pub mod scheduler;
pub mod shutdown;
pub mod store_error;
