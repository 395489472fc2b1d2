//! The commands `nas-cron dev` and `nas-cron bench`, and the private Postgres that tests share with them.
//!
//! | module | purpose |
//! |---|---|
//! | [`mod@bench`] | measures a running service |
//! | [`dev`] | runs a complete deployment on this machine: portal, service, demo agents |
//! | [`private_postgres`] | starts a private Postgres server, without configuration |
//!
//! The service itself is not a dependency: the `nas-cron` binary passes it to `dev` as a [`dev::Service`].

// `println!` and `eprintln!` panic if the reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod dev;
pub mod private_postgres;
mod times;
