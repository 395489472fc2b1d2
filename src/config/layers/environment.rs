//! Values from the environment.

use std::ffi::OsString;

use super::super::problem::{Origin, Problem, Wrong};
use super::super::setting::{ENV_PREFIX, OTHER_VARIABLES};
use super::raw::Raw;

/// A value of a layer: lower-case key, value as written, origin.
pub(super) type Entry = (String, Raw, Origin);

/// Returns the variables with the prefix, by key. An empty variable counts as unset, because compose files use `${X:-}`.
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
            None => {
                problems.push(Problem::other(name, Wrong::new("is not valid UTF-8", "set it to UTF-8 text")));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// True for a variable that Kubernetes sets for a Service named `nas-cron`, such as `NAS_CRON_SERVICE_HOST` or
/// `NAS_CRON_PORT_8080_TCP_ADDR`. They are not settings.
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

/// True if a variable with the prefix is not a setting but has another purpose.
pub(super) fn is_other(key: &str) -> bool {
    let plain = |name: &str| name[ENV_PREFIX.len()..].to_ascii_lowercase();
    OTHER_VARIABLES.iter().any(|(name, _)| plain(name) == key)
}
