//! Requests of agents, and what others are asked about them.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::labels::status_class;

const PROVISION: &str = "nas_cron_provision_seconds";
const HOP1_REQUESTS: &str = "nas_cron_hop1_requests_total";
const TOKEN_REQUESTS: &str = "nas_cron_token_requests_total";
const LOOKUPS: &str = "nas_cron_directory_lookups_total";
const INTROSPECTIONS: &str = "nas_cron_introspections_total";
/// From one commit to the 15 s after which real agents have hung up, in seconds.
const PROVISION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 12.0, 15.0];

/// The buckets of the histograms.
pub(super) const BUCKETS: &[(&str, &[f64])] = &[(PROVISION, PROVISION_BUCKETS)];

pub(super) fn describe() {
    describe_histogram!(PROVISION, Unit::Seconds, "Length of a provision, from request to durable answer");
    describe_counter!(HOP1_REQUESTS, "Requests of agents, by endpoint and class of our status");
    describe_counter!(
        TOKEN_REQUESTS,
        "Requests to our own portal's token endpoint, by result (granted, refused, invalid_grant, reused, held, unavailable)"
    );
    describe_counter!(
        LOOKUPS,
        "What the portal was asked about instances, by what it said (found, disabled, unknown; away and useless: nothing)"
    );
    describe_counter!(
        INTROSPECTIONS,
        "What issuers were asked about opaque tokens, by what they said (active, inactive; away and useless: nothing)"
    );
}

/// A provision was answered with success after that long.
pub fn provisioned(took: Duration) {
    histogram!(PROVISION).record(took);
}

/// The endpoints of hop 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop1 {
    /// `POST /api/agent-cron/provision`
    Provision,
    /// `POST /api/agent-cron/cancel`
    Cancel,
    /// `GET /api/agent-cron/list`
    List,
    /// `PATCH /api/agent-cron/jobs/{job_id}`
    Update,
    /// `/api/agent-cron/auth-profiles`
    AuthProfiles,
}

impl Hop1 {
    /// The endpoint of a route, if it is one of hop 1.
    pub fn of_route(route: &str) -> Option<Self> {
        match route {
            "/api/agent-cron/provision" => Some(Self::Provision),
            "/api/agent-cron/cancel" => Some(Self::Cancel),
            "/api/agent-cron/list" => Some(Self::List),
            "/api/agent-cron/jobs/{job_id}" => Some(Self::Update),
            "/api/agent-cron/auth-profiles" => Some(Self::AuthProfiles),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Cancel => "cancel",
            Self::List => "list",
            Self::Update => "update",
            Self::AuthProfiles => "auth_profiles",
        }
    }
}

/// A request of an agent was answered with that status.
pub fn hop1_answered(endpoint: Hop1, status: u16) {
    counter!(HOP1_REQUESTS, "endpoint" => endpoint.as_str(), "status_class" => status_class(Some(status)))
        .increment(1);
}

/// A request to our own portal's token endpoint had this result.
pub fn token_requested(result: &'static str) {
    counter!(TOKEN_REQUESTS, "result" => result).increment(1);
}

/// The portal was asked about an instance, and said this (`found`, `disabled`, `unknown`) or nothing (`away`, `useless`).
pub fn looked_up(outcome: &'static str) {
    counter!(LOOKUPS, "outcome" => outcome).increment(1);
}

/// An issuer was asked about a token, and said this (`active`, `inactive`) or nothing (`away`, `useless`).
pub fn introspected(outcome: &'static str) {
    counter!(INTROSPECTIONS, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_hop_1() {
        assert_eq!(Hop1::of_route("/api/agent-cron/provision"), Some(Hop1::Provision));
        assert_eq!(Hop1::of_route("/api/agent-cron/relay"), None);
    }
}
