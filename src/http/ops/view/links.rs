//! Paths of pages. IDs are in the query, because a path cannot contain every ID (`..`).

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use url::form_urlencoded::Serializer;

/// Returns a path with parameters.
pub(in crate::http::ops) fn with_query<'a>(
    path: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The page of a job.
pub(in crate::http::ops) fn job(instance_id: &str, job_id: &str) -> String {
    with_query("/ops/job", [("instance_id", instance_id), ("job_id", job_id)])
}

/// The list of an agent's jobs that are scheduled: those with a next attempt.
pub(in crate::http::ops) fn scheduled(instance_id: &str) -> String {
    with_query("/ops/jobs", [("instance_id", instance_id), ("state", "armed,leased,firing,waiting")])
}

/// The page of an agent.
pub(in crate::http::ops) fn agent(instance_id: &str) -> String {
    with_query("/ops/agent", [("instance_id", instance_id)])
}

/// The list of the one-shots that come due in the minute that begins at `minute`. Those that are parked are not due then.
pub(in crate::http::ops) fn due_link(minute: DateTime<Utc>) -> String {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (from, before) = (time(minute), time(minute + TimeDelta::minutes(1)));
    let span = [("parked", "none"), ("next_attempt_from", from.as_str()), ("next_attempt_before", &before)];
    with_query("/ops/jobs", span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_is_one_parameter() {
        assert_eq!(job("a&b", "../c?"), "/ops/job?instance_id=a%26b&job_id=..%2Fc%3F");
        assert_eq!(with_query("/ops/jobs", []), "/ops/jobs");
    }
}
