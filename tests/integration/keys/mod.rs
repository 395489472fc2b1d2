//! Signing keys on a real Postgres, over real HTTP, and with keys as OpenSSL writes them.

mod cli;
mod fixture;
mod pem;
mod ring;
