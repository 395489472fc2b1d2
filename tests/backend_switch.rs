//! Moving house on the real binary and real engines: nothing is lost, nothing comes twice, whoever dies in the middle.
//! And what `serve` says of the active backend when it starts.

mod support;

#[path = "qstash_emulator/mod.rs"]
mod qstash_emulator;

#[path = "backend_switch/book.rs"]
mod book;
#[path = "backend_switch/commands.rs"]
mod commands;
#[path = "backend_switch/moves.rs"]
mod moves;
#[path = "backend_switch/statements.rs"]
mod statements;
