//! The service's own words as types: what it stores beyond the words of the contract, which are in
//! `nas_cron_protocol`. Nothing here does I/O.

mod signing_key;
mod words;

pub use signing_key::{KeyRecord, KeyState, SigningAlg};
pub use words::{FireOutcome, HoldScope, LoginEnd, PortalDenial};
