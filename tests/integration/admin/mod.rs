//! Admin tokens and their roles, the audit log, the listener of the admin API, and the erasure of error texts.

mod audit;
mod erasure;
mod fixture;
mod listener;
mod matrix;
mod tokens;
