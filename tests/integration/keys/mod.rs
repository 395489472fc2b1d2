//! Signing keys on a real Postgres, over real HTTP, and with PEM files of OpenSSL.

mod cli;
mod fixture;
mod pem;
mod rewrap;
mod ring;
