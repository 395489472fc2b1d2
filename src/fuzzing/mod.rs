//! Fuzz targets: one for everything that strangers send, with the properties of what the service makes of it.
//!
//! A target takes bytes, calls the function that reads them in the service, and panics if a property of the result does
//! not hold. `make fuzz` runs the targets under libFuzzer (`fuzz/`), and the tests of this module replay the corpora. In
//! all other builds, this module does not exist.

mod answers;
mod mcp;
mod requests;
mod settings;
#[cfg(test)]
mod tests;
mod tokens;

pub use crate::cli::fuzzing::imports;
pub use crate::http::fuzzing::{authorization, provision, sign_in, token_request, wake};
pub use crate::instance::fuzzing::{introspection, jwks, lookup};
pub use answers::{agent_answer, retry_after};
pub use mcp::mcp;
pub use requests::{address, callback_url, fire_at, json, traceparent};
pub use settings::config;
pub use tokens::{access_claims, access_token, assertion, public_key, relay};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets. `fuzz/fuzz_targets` has a program for each, and `fuzz/corpus` a folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("access_claims", access_claims),
    ("access_token", access_token),
    ("address", address),
    ("agent_answer", agent_answer),
    ("assertion", assertion),
    ("authorization", authorization),
    ("callback_url", callback_url),
    ("config", config),
    ("fire_at", fire_at),
    ("imports", imports),
    ("introspection", introspection),
    ("json", json),
    ("jwks", jwks),
    ("lookup", lookup),
    ("mcp", mcp),
    ("provision", provision),
    ("public_key", public_key),
    ("relay", relay),
    ("retry_after", retry_after),
    ("sign_in", sign_in),
    ("token_request", token_request),
    ("traceparent", traceparent),
    ("wake", wake),
];

/// Reads JSON as a lenient reader would: the second opinion on what was accepted.
pub(crate) fn lenient(json: &[u8]) -> serde_json::Value {
    serde_json::from_slice(json).unwrap_or_default()
}

/// Splits off the first line.
pub(crate) fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}
