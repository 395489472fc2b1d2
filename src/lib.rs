//! nas-cron: one-shot cron for agents that scale to zero.
//!
//! # The map
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | one file per subcommand |
//! | [`mcp`] | the agent's own side as tools for a model, on stdio |
//! | [`client`] | the agent's own side: calls to any server, as an identity of its own or with a token, and the store of both |
//! | [`app`] | what `serve` holds; how it starts and ends |
//! | [`http`] | all routes ([`http::router`]), who calls ([`http::auth`]), hop 1 ([`http::agent_cron`]), errors |
//! | [`backends`] | scheduler backends: our own loop and others; telling them about wake-ups, and moving between them |
//! | [`scheduler`] | our own loop: leases, instants, slots, confirmations, outcomes |
//! | [`own_portal`] | being the agents' portal, where there is no other: logins and their refresh tokens |
//! | [`oneshot`] | what provision, cancel and list mean |
//! | [`auth_profiles`] | with which of its credentials an agent runs a job: what is set where, and what is known |
//! | [`fire`] | one attempt: mint, POST, judge |
//! | [`instance`] | from an access token to an agent instance |
//! | [`identity`] | from a key that an agent has registered to its instance |
//! | [`keys`] | the keys that sign fire tokens, and their rotation |
//! | [`db`] | the only place with SQL |
//! | [`domain`] | the contract's words as types |
//! | [`config`], [`diagnosis`], [`clock`], [`shutdown`], [`telemetry`], [`metrics`], [`private_postgres`], `private_file`, [`jwt`] | what all of it stands on |
//!
//! Imports go down the table only. `http` never reaches `db` but through the rooms between, only `db` knows `sqlx`,
//! and no room below [`app`] knows it.
//!
//! # Two journeys
//!
//! **A request** (`provision`): [`http::router`] → [`http::auth::Caller`] → [`instance::Authenticator`] (an access token
//! by its issuer, an assertion by [`identity`]; then its instance, by our table or the portal's lookup: who calls, or a
//! clear refusal) → [`http::agent_cron`] → [`oneshot::provision`] (the rule) → [`db::oneshots::arm`] (one statement, durable) →
//! [`backends::Backends::armed`] (if it is soon, our own loop wakes; another backend is told).
//!
//! **A fire**: [`scheduler::claims`] (lease what comes due), or [`http::relay`] or a listening backend with a
//! wake-up → [`scheduler::wake`] (lease that) → [`scheduler::timer`] (wait for the instant) →
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
pub mod diagnosis;
pub mod directory;
pub mod domain;
pub mod fire;
pub mod http;
pub mod identity;
pub mod instance;
pub mod keys;
pub mod metrics;
pub mod oneshot;
pub mod own_portal;
pub mod scheduler;
pub mod shutdown;
