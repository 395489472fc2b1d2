//! Fires over real sockets and with the real binary: CONTRACT "Hop 3", "Keys", the retries and "same key again",
//! and what CLIENTS says follows for a server. Each test is named after the rule that it checks.

#[path = "fires/addresses.rs"]
mod addresses;
#[path = "fires/answers.rs"]
mod answers;
#[path = "fires/keys.rs"]
mod keys;
#[path = "fires/loops.rs"]
mod loops;
#[path = "fires/retries.rs"]
mod retries;
#[path = "fires/same_key.rs"]
mod same_key;
mod support;
#[path = "fires/timing.rs"]
mod timing;
#[path = "fires/tokens.rs"]
mod tokens;
