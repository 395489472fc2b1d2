//! The agent API (docs/contract.md#agent-api) and the needs of real clients
//! (docs/clients.md#consequences-for-a-server), over real sockets and with the real binary.
//!
//! A test is named after the rule that it guards: `contract_…` for a sentence of the contract, `client_n_…` for a
//! numbered consequence on that page, `invariant_n_…` for an invariant.

mod bad_input;
mod callers;
mod concurrency;
mod fixture;
mod http;
mod isolation;
mod jobs;
mod listing;
mod logs;
mod outages;
mod portal_keys;
mod provision;
mod remembered_callers;
mod repeats;
mod tokens;
