//! Fires over real sockets and with the real binary: CONTRACT "Hop 3", "Keys", the retries and "same key again",
//! and what CLIENTS says follows for a server. Each test is named after the rule that it checks.

mod addresses;
mod answers;
mod keys;
mod loops;
mod retries;
mod same_key;
mod timing;
mod tokens;
