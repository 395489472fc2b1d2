//! Signing keys on a real Postgres, over real HTTP, and with keys as OpenSSL writes them.

#[path = "keys/cli.rs"]
mod cli;
#[path = "keys/fixture.rs"]
mod fixture;
#[path = "keys/pem.rs"]
mod pem;
#[path = "keys/ring.rs"]
mod ring;
mod support;
