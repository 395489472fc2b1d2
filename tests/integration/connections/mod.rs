//! Inbound connections: timeouts, their maximum number, and the effect of a freeze.

mod deadlines;
mod descriptors;
mod fixture;
mod flood;
mod freeze;
