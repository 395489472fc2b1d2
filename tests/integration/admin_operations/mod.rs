//! The operations of operators: over the admin API of the real binary, and with commands on the database and on a server.

pub(crate) mod fixture;
mod holds;
mod jobs;
mod orgs;
mod redrive;
mod server;
