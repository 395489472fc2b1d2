//! Fires over real sockets and with the real binary: docs/contract.md#fire, docs/contract.md#keys,
//! docs/contract.md#retries, docs/contract.md#same-key-again, and the consequences in docs/clients.md#hermes-agent. Each
//! test is named after the rule that it checks.

mod addresses;
mod answers;
mod authorities;
mod homes;
#[cfg(target_os = "linux")]
mod hostile_callbacks;
mod keys;
mod loops;
mod newer_agent;
mod retries;
mod same_key;
mod timing;
mod tokens;
