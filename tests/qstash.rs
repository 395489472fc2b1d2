//! QStash: our client against the emulator, and both against the official SDKs.

#[path = "qstash/client.rs"]
mod client;
#[path = "qstash/emulator.rs"]
mod emulator;
#[path = "qstash/faults.rs"]
mod faults;
mod qstash_emulator;
#[path = "qstash/sdks.rs"]
mod sdks;
#[path = "qstash/signatures.rs"]
mod signatures;
#[path = "qstash/world.rs"]
mod world;
