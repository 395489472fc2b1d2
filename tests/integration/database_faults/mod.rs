//! The way to the database fails as networks, servers and poolers do: half-open, slow, switched, refused.

mod causes;
mod chaos;
mod failover;
mod fixture;
mod half_open;
mod late;
mod latency;
mod poolers;
mod probes;
