//! Fires over real sockets and with the real binary: docs/contract.md#fire, docs/contract.md#keys,
//! docs/contract.md#retries and docs/contract.md#same-key-again, and what docs/clients.md#hermes-agent says follows for a server. Each test is named after the rule that it checks.

mod addresses;
mod answers;
mod keys;
mod loops;
mod retries;
mod same_key;
mod timing;
mod tokens;
