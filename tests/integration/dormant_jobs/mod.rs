//! Jobs whose agents have not armed the next fire: how they are found, told apart, shown and fired once more.

mod chain;
mod events;
mod finding;
mod fixture;
mod nudges;
mod told_apart;
