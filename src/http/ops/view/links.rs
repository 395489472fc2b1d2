//! Paths of pages. IDs are in the query, because a path cannot contain every ID (`..`).

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

/// The page of an agent.
pub(in crate::http::ops) fn agent(instance_id: &str) -> String {
    with_query("/ops/agent", [("instance_id", instance_id)])
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
