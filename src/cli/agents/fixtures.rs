//! An agent for the tests of the output.

use chrono::{DateTime, TimeDelta};

use crate::domain::registration::Agent;

pub(super) fn agent() -> Agent {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    Agent {
        instance_id: "agent-1".to_owned(),
        org_id: "acme".to_owned(),
        bootstrap_session_id: Some("sid-1".to_owned()),
        enabled: true,
        on_hold: false,
        denied_by_portal: None,
        looked_up_at: None,
        callback_url: Some("https://agent-1.example".to_owned()),
        alternating_callback_url: None,
        unreachable_since: None,
        busy_until: None,
        last_contact_at: Some(now - TimeDelta::minutes(2)),
        skew_guard_ms: None,
        armed: 2,
        own_quota: None,
        parked: 0,
        dead: 1,
        next_attempt_at: Some(now + TimeDelta::minutes(3)),
        created_at: now - TimeDelta::days(4),
        updated_at: now - TimeDelta::hours(5),
    }
}
