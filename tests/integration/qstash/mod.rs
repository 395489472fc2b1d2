//! QStash: the service's client against the emulator, and both against the official SDKs.

mod client;
mod emulator;
mod faults;
mod fixture;
mod regions;
mod sdks;
mod signatures;
