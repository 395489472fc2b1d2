//! Classification of `reqwest` errors. The caller decides whether the agent may have received the fire; this module
//! returns the variant and the text.

use std::error::Error;
use std::io;

use crate::fire::answer::{Ambiguous, Refused};
use crate::fire::outcome::one_line;
use crate::fire::resolver::ResolveError;
use crate::fire::shortage::{self, Shortage};

/// Returns the shortage that caused an error, if any. For requests that the agent cannot have received.
pub(super) fn shortage(error: &reqwest::Error) -> Option<Shortage> {
    if let Some(ResolveError::Shortage(shortage)) = find(error) {
        return Some(shortage.clone());
    }
    let mut errors = chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    let reason = errors.find_map(shortage::of)?;
    Some(Shortage { reason, cause: innermost(error) })
}

/// Classifies an error of a request that the agent cannot have received.
pub(super) fn refused(error: &reqwest::Error) -> Refused {
    if let Some(resolve) = find::<ResolveError>(error) {
        return match resolve {
            ResolveError::NotPermitted(why) => Refused::Address(why.clone()),
            ResolveError::Lookup(why) => Refused::Dns(one_line(why)),
            ResolveError::Shortage(why) => Refused::Dns(one_line(&why.cause)),
        };
    }
    let cause = innermost(error);
    if error.is_builder() {
        Refused::Request(cause)
    } else if find::<rustls::Error>(error).is_some() || is_cut_off_handshake(error) {
        Refused::Tls(cause)
    } else if error.is_timeout() {
        Refused::Timeout
    } else if error.is_connect() {
        Refused::Connect(cause)
    } else {
        Refused::Unprocessed(cause)
    }
}

/// Classifies an error of a request that the agent may have received.
pub(super) fn ambiguous(error: &reqwest::Error) -> Ambiguous {
    let cause = innermost(error);
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        Ambiguous::Malformed(cause)
    } else {
        Ambiguous::Broken(cause)
    }
}

/// Returns true if the server was reached and has certainly not processed the request: sending it again at once is safe
/// and useful.
pub(super) fn is_unprocessed(error: &reqwest::Error, body_taken: bool) -> bool {
    if !body_taken {
        return !error.is_connect() && !error.is_timeout() && !error.is_builder();
    }
    find::<h2::Error>(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // h2 ends only those streams with GOAWAY that the peer did not and will not process.
        let left_out = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (refused || left_out)
    })
}

/// Returns the text of the innermost cause. The outer ones repeat the URL and add little.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map(|cause| one_line(&cause.to_string())).unwrap_or_default()
}

/// Returns true if the server closed the connection during the TLS handshake.
fn is_cut_off_handshake(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    error.is_connect()
        && error.url().is_some_and(|url| url.scheme() == "https")
        // I/O errors are nested; the outer ones have the kind `Other`.
        && chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| {
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        })
}

fn find<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// Returns all causes, outermost first.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        // `source` of an `io::Error` skips the error that it wraps; `get_ref` returns it.
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}
