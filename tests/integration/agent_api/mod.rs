//! The agent API (docs/contract.md#agent-api) and what real clients need of it
//! (docs/clients.md#consequences-for-a-server), over real sockets and the real binary.
//!
//! A test is named after the rule it guards: `contract_…` a sentence of the contract, `client_n_…` the numbered
//! consequence of that page, `invariant_n_…` what must always hold.

mod bad_input;
mod callers;
mod concurrency;
mod fixture;
mod http;
mod isolation;
mod listing;
mod logs;
mod outages;
mod portal_keys;
mod provision;
mod repeats;
mod tokens;
