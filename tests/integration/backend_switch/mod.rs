//! Moving house on the real binary and real engines: nothing is lost, nothing comes twice, whoever dies in the middle.
//! And what `serve` says of the active backend when it starts.

mod commands;
mod ledger;
mod moves;
mod statements;
