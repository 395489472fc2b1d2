//! Hop 1 (CONTRACT.md) and what real clients need of it (CLIENTS.md), over real sockets and the real binary.
//!
//! A test is named after the rule it guards: `contract_…` a sentence of "Hop 1", `client_n_…` the numbered
//! consequence of CLIENTS.md, `invariant_n_…` what must always hold.

#[path = "hop_1/bad_input.rs"]
mod bad_input;
#[path = "hop_1/callers.rs"]
mod callers;
#[path = "hop_1/concurrency.rs"]
mod concurrency;
#[path = "hop_1/http.rs"]
mod http;
#[path = "hop_1/isolation.rs"]
mod isolation;
#[path = "hop_1/listing.rs"]
mod listing;
#[path = "hop_1/logs.rs"]
mod logs;
#[path = "hop_1/outages.rs"]
mod outages;
#[path = "hop_1/portal_keys.rs"]
mod portal_keys;
#[path = "hop_1/provision.rs"]
mod provision;
#[path = "hop_1/repeats.rs"]
mod repeats;
mod support;
#[path = "hop_1/tokens.rs"]
mod tokens;
#[path = "hop_1/world.rs"]
mod world;
