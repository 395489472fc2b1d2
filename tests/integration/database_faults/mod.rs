//! Faults on the way to the database: half-open or slow connections, failover, rejected connections, poolers.

mod causes;
mod chaos;
mod failover;
pub(crate) mod fixture;
mod half_open;
mod late;
mod latency;
mod poolers;
mod probes;
mod soak;
