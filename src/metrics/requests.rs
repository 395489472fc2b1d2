//! Requests of agents, and requests to the portal about them.

use std::time::Duration;

use axum::http::Method;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::labels::status_class;

const PROVISION: &str = "nas_cron_provision_duration_seconds";
const AGENT_API_REQUESTS: &str = "nas_cron_agent_api_requests_total";
const TOKEN_REQUESTS: &str = "nas_cron_token_requests_total";
const LOOKUPS: &str = "nas_cron_directory_lookups_total";
const INTROSPECTIONS: &str = "nas_cron_introspections_total";
/// Seconds, from a single commit to the 15 s after which real agents give up.
const PROVISION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 12.0, 15.0];

/// Buckets of the histograms.
pub(super) const BUCKETS: &[(&str, &[f64])] = &[(PROVISION, PROVISION_BUCKETS)];

pub(super) fn describe() {
    describe_histogram!(
        PROVISION,
        Unit::Seconds,
        "Duration of a successful provision, from the request to the durable answer"
    );
    describe_counter!(
        AGENT_API_REQUESTS,
        "Requests to the agent API, by endpoint and class of the response status"
    );
    describe_counter!(
        TOKEN_REQUESTS,
        "Requests to the built-in portal's token endpoint, by result: granted, refused, invalid_grant, reused, held, unavailable"
    );
    describe_counter!(
        LOOKUPS,
        "Requests to the portal's lookup API, by outcome: found, disabled, unknown; unavailable (no response), invalid (response)"
    );
    describe_counter!(
        INTROSPECTIONS,
        "Introspections of opaque tokens, by outcome: active, inactive; unavailable (no response), invalid (response)"
    );
    for endpoint in AgentApi::ALL {
        for status_class in ["2xx", "4xx", "5xx"] {
            counter!(AGENT_API_REQUESTS, "endpoint" => endpoint.as_str(), "status_class" => status_class)
                .increment(0);
        }
    }
    for result in ["granted", "refused", "invalid_grant", "reused", "held", "unavailable"] {
        counter!(TOKEN_REQUESTS, "result" => result).increment(0);
    }
    for outcome in ["found", "disabled", "unknown", "unavailable", "invalid"] {
        counter!(LOOKUPS, "outcome" => outcome).increment(0);
    }
    for outcome in ["active", "inactive", "unavailable", "invalid"] {
        counter!(INTROSPECTIONS, "outcome" => outcome).increment(0);
    }
}

/// Records the duration of a successful provision.
pub fn provisioned(took: Duration) {
    histogram!(PROVISION).record(took);
}

/// An endpoint of the agent API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentApi {
    /// `POST /api/agent-cron/provision`
    Provision,
    /// `POST /api/agent-cron/cancel`
    Cancel,
    /// `GET /api/agent-cron/list`
    List,
    /// `GET /api/agent-cron/jobs/{job_id}`
    Show,
    /// `PATCH /api/agent-cron/jobs/{job_id}`
    Update,
    /// `/api/agent-cron/auth-profiles`
    AuthProfiles,
}

impl AgentApi {
    const ALL: [Self; 6] =
        [Self::Provision, Self::Cancel, Self::List, Self::Show, Self::Update, Self::AuthProfiles];

    /// Returns the endpoint of a route and method, or `None` if the route is not part of the agent API.
    pub fn of(method: &Method, route: &str) -> Option<Self> {
        match route {
            "/api/agent-cron/provision" => Some(Self::Provision),
            "/api/agent-cron/cancel" => Some(Self::Cancel),
            "/api/agent-cron/list" => Some(Self::List),
            "/api/agent-cron/jobs/{job_id}" if *method == Method::PATCH => Some(Self::Update),
            "/api/agent-cron/jobs/{job_id}" => Some(Self::Show),
            "/api/agent-cron/auth-profiles" => Some(Self::AuthProfiles),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Cancel => "cancel",
            Self::List => "list",
            Self::Show => "show",
            Self::Update => "update",
            Self::AuthProfiles => "auth_profiles",
        }
    }
}

/// Records a response to an agent, with its status.
pub fn agent_api_answered(endpoint: AgentApi, status: u16) {
    counter!(AGENT_API_REQUESTS, "endpoint" => endpoint.as_str(), "status_class" => status_class(Some(status)))
        .increment(1);
}

/// Records a request to the built-in portal's token endpoint.
pub fn token_requested(result: &'static str) {
    counter!(TOKEN_REQUESTS, "result" => result).increment(1);
}

/// Records a lookup at the portal: `found`, `disabled`, `unknown`, `unavailable` or `invalid`.
pub fn looked_up(outcome: &'static str) {
    counter!(LOOKUPS, "outcome" => outcome).increment(1);
}

/// Records an introspection: `active`, `inactive`, `unavailable` or `invalid`.
pub fn introspected(outcome: &'static str) {
    counter!(INTROSPECTIONS, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routes_of_the_agent_api_have_an_endpoint() {
        let of = AgentApi::of;
        assert_eq!(of(&Method::POST, "/api/agent-cron/provision"), Some(AgentApi::Provision));
        assert_eq!(of(&Method::POST, "/api/agent-cron/relay"), None);
        let job = "/api/agent-cron/jobs/{job_id}";
        assert_eq!(of(&Method::GET, job), Some(AgentApi::Show));
        assert_eq!(of(&Method::PATCH, job), Some(AgentApi::Update));
    }
}
