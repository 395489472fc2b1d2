//! The layer of the environment.

use std::ffi::OsString;

use super::super::problem::{Origin, Problem, Wrong};
use super::super::setting::{ENV_PREFIX, OTHER_VARIABLES};
use super::raw::Raw;

/// A value that a layer gives: its key, in lower case, as it was written, and where.
pub(super) type Entry = (String, Raw, Origin);

/// The variables with our prefix, by key. An empty variable counts as unset: compose files write `${X:-}`.
pub(super) fn read(variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
        if is_service_link(key, &value.to_string_lossy()) || value.is_empty() {
            continue;
        }
        let origin = Origin::Environment(name.clone().into_owned());
        match value.to_str() {
            Some(value) => {
                found.push((key.to_ascii_lowercase(), Raw::One(value.to_owned()), origin));
            }
            None => problems.push(Problem::other(name, Wrong::new("is not valid UTF-8", "set it to text"))),
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Kubernetes puts `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_8080_TCP_ADDR` and their like into the environment
/// of every pod beside a Service: one that is called `nas-cron` would look like settings of ours.
fn is_service_link(key: &str, value: &str) -> bool {
    let key = format!("_{key}");
    let numbered = |rest: &str| {
        let mut words = rest.split('_');
        words.next().is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
            && words.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    };
    let is_url = || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    key.ends_with("_SERVICE_HOST")
        || key.ends_with("_SERVICE_PORT")
        || key.contains("_SERVICE_PORT_")
        || (key.ends_with("_PORT") && is_url())
        || key.match_indices("_PORT_").any(|(at, found)| numbered(&key[at + found.len()..]))
}

/// Whether a variable of our prefix is no setting, but means something to us.
pub(super) fn is_other(key: &str) -> bool {
    let plain = |name: &str| name[ENV_PREFIX.len()..].to_ascii_lowercase();
    OTHER_VARIABLES.iter().any(|(name, _)| plain(name) == key)
}
