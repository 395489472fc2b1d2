//! The agent API (CONTRACT.md, "Hop 1") and what real clients need of it (CLIENTS.md), over real sockets and the real binary.
//!
//! A test is named after the rule it guards: `contract_…` a sentence of "Hop 1", `client_n_…` the numbered
//! consequence of CLIENTS.md, `invariant_n_…` what must always hold.

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
