//! The file descriptor limit of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Returns the hard limit, to which [`raise`] sets the soft limit.
pub fn hard_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Returns the soft limit: descriptors that the process may have open.
pub fn soft_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit to the hard limit, and returns the resulting soft limit. Systems keep the soft limit low for
/// programs that use `select`; this one does not use it.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Fails on systems with a lower maximum of their own; the old limit stays then.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    soft_limit()
}
