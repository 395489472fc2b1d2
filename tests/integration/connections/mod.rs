//! Inbound connections: deadlines, the bound on their number, and what a freeze leaves of them.

mod deadlines;
mod descriptors;
mod fixture;
mod flood;
mod freeze;
