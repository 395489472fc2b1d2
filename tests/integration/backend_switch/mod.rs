//! Switches between backends on the real binary, with real backends: no fire is lost or repeated, whichever process is
//! killed. Also the handling of the active backend when `serve` starts.

mod api;
mod commands;
mod ledger;
mod moves;
mod statements;
