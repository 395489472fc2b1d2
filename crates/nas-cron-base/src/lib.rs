//! What the nas-cron programs share below their own concerns. No rule of the contract is in here.
//!
//! | module | what it is for |
//! |---|---|
//! | [`clock`] | the one seam of time |
//! | [`http_client`] | a plain HTTP client: no redirects, no proxies, errors without URLs; `Retry-After` |
//! | [`logging`] | log lines on stderr, pretty or JSON |
//! | [`private_file`] | files that only their owner can read, and locks between processes |
//! | [`signals`] | SIGINT and SIGTERM |
//! | [`terminal`] | output of commands: tables, JSON, relative times |

pub mod clock;
pub mod http_client;
pub mod logging;
pub mod private_file;
pub mod signals;
pub mod terminal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
