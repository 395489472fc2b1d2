//! nas-cron on one machine: what `nas-cron dev` and `nas-cron bench` are made of, and what tests share.
//!
//! | module | what it is for |
//! |---|---|
//! | [`mod@bench`] | measures a running service |
//! | [`dev`] | a whole deployment on this machine: portal, service, demo agents |
//! | [`private_postgres`] | a Postgres server of one's own, without configuration |
//!
//! The service itself is not a dependency: `dev` gets it as a [`dev::Service`], which the `nas-cron` binary implements.

pub mod bench;
pub mod dev;
mod lateness;
pub mod private_postgres;
