//! Connection failures that this process or its machine causes: no free descriptors, ports, memory or threads. They say
//! nothing about the agent.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::domain::Deferral;

/// Free descriptors without which a failed lookup counts as a shortage: a resolver opens several at once, and many lookups
/// run when descriptors run out.
const HEADROOM: usize = 32;
/// Time after a shortage during which a failed lookup counts as part of it: the resource may be free again when this
/// module checks.
const AFTERMATH: Duration = Duration::from_secs(2);

/// A request was not made because this process or its machine lacked a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Shortage {
    /// The resource.
    pub reason: Deferral,
    /// The system's error text.
    pub cause: String,
}

/// The last shortage of the process. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<Option<(Instant, Deferral)>>>);

impl Recent {
    /// Records a shortage at this time.
    pub(super) fn note(&self, reason: Deferral) {
        *self.0.lock() = Some((Instant::now(), reason));
    }

    /// Returns the shortage that caused the failure of a name lookup started at `began`, if any.
    ///
    /// The error alone is not enough: without a free descriptor, `getaddrinfo` reports "Name or service not known" or a
    /// similar error.
    pub(super) fn behind_lookup(&self, error: &io::Error, began: Instant) -> Option<Deferral> {
        let lately = || {
            let last = *self.0.lock();
            last.filter(|(at, _)| *at + AFTERMATH > began).map(|(_, reason)| reason)
        };
        let found = of(error).or_else(out_of_memory(error)).or_else(missing_headroom);
        if let Some(reason) = found {
            self.note(reason);
        }
        found.or_else(lately)
    }
}

/// Returns the missing resource, if the system's error names one.
pub(super) fn of(error: &io::Error) -> Option<Deferral> {
    match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => Some(Deferral::Descriptors),
        Errno::ADDRNOTAVAIL => Some(Deferral::Ports),
        Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN => Some(Deferral::Memory),
        _ => None,
    }
}

/// Returns true if this machine has a route to `ip` and a source address for it. Without them, "cannot assign requested
/// address" does not mean that ports are short. Nothing is sent.
pub(super) fn has_source_address(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    // Any port works; 9 is the discard port.
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((ip, 9))).is_ok()
}

/// Recognizes `EAI_MEMORY` by its text, because it has no error number.
fn out_of_memory(error: &io::Error) -> impl FnOnce() -> Option<Deferral> {
    let text = error.to_string();
    move || {
        ["Memory allocation failure", "Out of memory"]
            .iter()
            .any(|words| text.contains(words))
            .then_some(Deferral::Memory)
    }
}

/// Returns the missing resource, if [`HEADROOM`] descriptors cannot be opened now.
fn missing_headroom() -> Option<Deferral> {
    let opened: io::Result<Vec<_>> = (0..HEADROOM).map(|_| UnixDatagram::unbound()).collect();
    opened.err().as_ref().and_then(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn shortages_of_the_system_differ_from_failures_of_the_agent() {
        for (errno, reason) in [
            (Errno::MFILE, Some(Deferral::Descriptors)),
            (Errno::NFILE, Some(Deferral::Descriptors)),
            (Errno::ADDRNOTAVAIL, Some(Deferral::Ports)),
            (Errno::NOBUFS, Some(Deferral::Memory)),
            (Errno::NOMEM, Some(Deferral::Memory)),
            (Errno::AGAIN, Some(Deferral::Memory)),
            (Errno::CONNREFUSED, None),
            (Errno::CONNRESET, None),
            (Errno::HOSTUNREACH, None),
            (Errno::TIMEDOUT, None),
        ] {
            assert_eq!(of(&error(errno)), reason, "{errno:?}");
        }
    }

    #[test]
    fn failed_lookup_after_a_shortage_counts_as_part_of_it() {
        let recent = Recent::default();
        let failure = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(recent.behind_lookup(&failure, Instant::now()), None);
        let memory = io::Error::other("failed to lookup address information: Memory allocation failure");
        assert_eq!(recent.behind_lookup(&memory, Instant::now()), Some(Deferral::Memory));
        recent.note(Deferral::Descriptors);
        assert_eq!(recent.behind_lookup(&failure, Instant::now()), Some(Deferral::Descriptors));
        let later = Instant::now() + AFTERMATH + Duration::from_millis(1);
        assert_eq!(recent.behind_lookup(&failure, later), None);
    }

    #[test]
    fn loopback_has_a_source_address() {
        assert!(has_source_address(IpAddr::from([127, 0, 0, 1])));
    }
}
