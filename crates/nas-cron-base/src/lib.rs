//! Helpers that all nas-cron programs share. This crate holds no rule of the contract.
//!
//! | module | purpose |
//! |---|---|
//! | [`clock`] | the source of the current time, replaceable in tests |
//! | [`descriptors`] | the limit of open file descriptors |
//! | [`duration`] | durations in texts, such as `90s` |
//! | [`http_client`] | an HTTP client without redirects and proxies; error texts without URLs; `Retry-After` |
//! | [`logging`] | log lines on stderr, pretty or JSON |
//! | [`memory`] | protection of this process's memory: no core dumps |
//! | [`output`] | stdout of commands, and the end of its reader |
//! | [`private_file`] | files that only their owner can read; locks between processes |
//! | [`shell`] | commands in texts, quoted for a shell |
//! | [`signals`] | SIGINT and SIGTERM |
//! | [`terminal`] | output of commands: tables, JSON, relative times, errors in one line |

// `println!` and `eprintln!` panic if the reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod clock;
pub mod descriptors;
pub mod duration;
pub mod http_client;
pub mod logging;
pub mod memory;
pub mod output;
pub mod private_file;
pub mod shell;
pub mod signals;
pub mod terminal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
