//! Prometheus metrics. Each name exists once, behind a function that records it.
//!
//! Base units, prefix `nas_cron_` (`process_` for what every process has), no ids or URLs as labels: the number of series
//! does not grow with use.
//!
//! Each file contains the names of one topic, their descriptions and the recording functions. [`install`] and [`router`]
//! export them.

mod backends;
mod build;
mod connections;
mod database;
mod export;
mod fires;
mod health;
mod keys;
mod labels;
mod one_shots;
mod panics;
mod process;
mod quotas;
mod requests;
mod traces;
mod webhooks;

pub use self::backends::{backend_called, backend_missed, relay_refused, set_wake_ups, wake_up_received};
pub use self::connections::{
    Closed, Listener, backlog_closed, connection_closed, connection_opened, set_connections_max,
};
pub use self::database::{DatabasePool, PoolConnections, set_database_silent, set_pool, set_schema};
pub use self::export::{install, router};
pub use self::fires::{
    InFlight, attempts_deferred, fire_ended, fire_started, fires_lost, leases_lost, recovered, replica_died,
    set_db_clock_offset, set_in_flight_max,
};
pub use self::health::set_health;
pub use self::keys::set_signing_keys;
pub use self::one_shots::{expired, set_dormant, set_one_shots, set_withheld};
pub use self::panics::{PanicPlace, panicked};
pub use self::quotas::{call_delayed, call_refused, quota_refused, set_nearly_used_quotas};
pub use self::requests::{
    AgentApi, agent_api_answered, introspected, looked_up, provisioned, token_requested,
};
pub use self::traces::{SpansDropped, spans_dropped, spans_exported};
pub use self::webhooks::{event_made, set_webhooks, webhook_attempted};

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use nas_cron_protocol::admin_api::QuotaScope;
    use nas_cron_protocol::{DeadReason, OneShotState, ParkReason};

    use super::export::{describe, recorder};
    use super::*;
    use crate::domain::dormancy::DormantReason;
    use crate::domain::hold::Withheld;
    use crate::domain::one_shot::{DueKind, OneShotCounts};
    use crate::domain::{Deferral, FireOutcome, HoldScope, KeyState};

    /// Returns the metrics recorded while `work` runs on this thread, in the text format of Prometheus.
    pub(crate) fn counted(work: impl FnOnce()) -> String {
        let recorder = recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, work);
        handle.render()
    }

    fn everything() {
        describe();
        fire_started(Duration::from_micros(700));
        fire_ended(FireOutcome::Delivered, Some(202), Duration::from_millis(9));
        fire_ended(FireOutcome::Failed, None, Duration::from_secs(30));
        fires_lost(2);
        replica_died();
        attempts_deferred(Deferral::Ports, 2);
        provisioned(Duration::from_millis(2));
        agent_api_answered(AgentApi::Provision, 200);
        agent_api_answered(AgentApi::List, 503);
        set_one_shots(&OneShotCounts {
            states: vec![(OneShotState::Armed, 5), (OneShotState::Dead, 1)],
            dead_letters: vec![(DeadReason::Expired, 1)],
            oldest_overdue: Duration::from_millis(1500),
            due: vec![(DueKind::ArmedLate, 2), (DueKind::ArmedLate, 1)],
            parked: vec![(ParkReason::Hold, 4)],
            unsettled: true,
        });
        set_withheld(&Withheld {
            holds: vec![(HoldScope::All, 1), (HoldScope::Org, 0), (HoldScope::Instance, 0)],
            unreachable: 1,
            disabled: 2,
            denied: 0,
        });
        set_dormant(&[(DormantReason::Silent, 2)]);
        quota_refused(QuotaScope::Instance);
        set_nearly_used_quotas(&[(QuotaScope::Instance, 2), (QuotaScope::Org, 0)]);
        call_delayed();
        call_refused();
        leases_lost(1);
        recovered(3);
        expired(1);
        set_db_clock_offset(-0.25);
        panicked(PanicPlace::Fire);
        event_made("dead_letter.created");
        webhook_attempted("delivered");
        set_webhooks(2, 1);
        connection_opened(Listener::Public);
        connection_opened(Listener::Public);
        connection_closed(Listener::Public, Closed::Idle);
        backlog_closed(Listener::Metrics, 2);
        set_in_flight_max(1_024);
        set_connections_max(Listener::Public, 1_868);
        set_pool(DatabasePool::Fires, PoolConnections { idle: 2, in_use: 3, waiting: 1, max: 6 });
        set_database_silent(Duration::from_millis(250));
        set_schema(11, 12);
        set_signing_keys(|state| usize::from(state == KeyState::Active), true, None);
        set_health(true, 0);
        spans_exported(7);
        spans_dropped(SpansDropped::QueueFull, 8);
        drop(InFlight::begin());
        std::mem::forget(InFlight::begin());
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "the snapshot has a line for each series")]
    fn every_metric_has_a_description_and_histograms_have_buckets() {
        let text = counted(everything);
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        for line in &values {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
        }
        for (name, _) in [fires::BUCKETS, requests::BUCKETS].into_iter().flatten() {
            assert!(text.contains(&format!("# TYPE {name} histogram")), "{name} has no buckets");
        }
        let mut plain: Vec<_> = values.into_iter().filter(|line| !line.contains("_bucket{")).collect();
        plain.sort_unstable();
        insta::assert_snapshot!(plain.join("\n"), @r#"
        nas_cron_agent_api_requests_total{endpoint="auth_profiles",status_class="2xx"} 0
        nas_cron_agent_api_requests_total{endpoint="auth_profiles",status_class="4xx"} 0
        nas_cron_agent_api_requests_total{endpoint="auth_profiles",status_class="5xx"} 0
        nas_cron_agent_api_requests_total{endpoint="cancel",status_class="2xx"} 0
        nas_cron_agent_api_requests_total{endpoint="cancel",status_class="4xx"} 0
        nas_cron_agent_api_requests_total{endpoint="cancel",status_class="5xx"} 0
        nas_cron_agent_api_requests_total{endpoint="list",status_class="2xx"} 0
        nas_cron_agent_api_requests_total{endpoint="list",status_class="4xx"} 0
        nas_cron_agent_api_requests_total{endpoint="list",status_class="5xx"} 1
        nas_cron_agent_api_requests_total{endpoint="provision",status_class="2xx"} 1
        nas_cron_agent_api_requests_total{endpoint="provision",status_class="4xx"} 0
        nas_cron_agent_api_requests_total{endpoint="provision",status_class="5xx"} 0
        nas_cron_agent_api_requests_total{endpoint="show",status_class="2xx"} 0
        nas_cron_agent_api_requests_total{endpoint="show",status_class="4xx"} 0
        nas_cron_agent_api_requests_total{endpoint="show",status_class="5xx"} 0
        nas_cron_agent_api_requests_total{endpoint="update",status_class="2xx"} 0
        nas_cron_agent_api_requests_total{endpoint="update",status_class="4xx"} 0
        nas_cron_agent_api_requests_total{endpoint="update",status_class="5xx"} 0
        nas_cron_attempts_deferred_total{reason="database"} 0
        nas_cron_attempts_deferred_total{reason="defect"} 0
        nas_cron_attempts_deferred_total{reason="descriptors"} 0
        nas_cron_attempts_deferred_total{reason="lease"} 0
        nas_cron_attempts_deferred_total{reason="memory"} 0
        nas_cron_attempts_deferred_total{reason="ports"} 2
        nas_cron_attempts_deferred_total{reason="signing_key"} 0
        nas_cron_attempts_deferred_total{reason="slots"} 0
        nas_cron_attempts_deferred_total{reason="stalled"} 0
        nas_cron_attempts_in_flight 1
        nas_cron_attempts_in_flight_max 1024
        nas_cron_backend_misses_total{backend="nats"} 0
        nas_cron_backend_misses_total{backend="qstash"} 0
        nas_cron_backend_misses_total{backend="qstash_direct"} 0
        nas_cron_connections_closed_total{listener="admin",reason="displaced"} 0
        nas_cron_connections_closed_total{listener="admin",reason="ended"} 0
        nas_cron_connections_closed_total{listener="admin",reason="idle"} 0
        nas_cron_connections_closed_total{listener="admin",reason="slow_reader"} 0
        nas_cron_connections_closed_total{listener="admin",reason="stale"} 0
        nas_cron_connections_closed_total{listener="admin",reason="unfinished"} 0
        nas_cron_connections_closed_total{listener="metrics",reason="displaced"} 0
        nas_cron_connections_closed_total{listener="metrics",reason="ended"} 0
        nas_cron_connections_closed_total{listener="metrics",reason="idle"} 0
        nas_cron_connections_closed_total{listener="metrics",reason="slow_reader"} 0
        nas_cron_connections_closed_total{listener="metrics",reason="stale"} 2
        nas_cron_connections_closed_total{listener="metrics",reason="unfinished"} 0
        nas_cron_connections_closed_total{listener="public",reason="displaced"} 0
        nas_cron_connections_closed_total{listener="public",reason="ended"} 0
        nas_cron_connections_closed_total{listener="public",reason="idle"} 1
        nas_cron_connections_closed_total{listener="public",reason="slow_reader"} 0
        nas_cron_connections_closed_total{listener="public",reason="stale"} 0
        nas_cron_connections_closed_total{listener="public",reason="unfinished"} 0
        nas_cron_database_clock_offset_seconds -0.25
        nas_cron_database_connections_max{pool="fires"} 6
        nas_cron_database_connections{pool="fires",state="idle"} 2
        nas_cron_database_connections{pool="fires",state="in_use"} 3
        nas_cron_database_schema_version 11
        nas_cron_database_silent_seconds 0.25
        nas_cron_database_waiting_statements{pool="fires"} 1
        nas_cron_dead_letters{reason="budget_spent"} 0
        nas_cron_dead_letters{reason="expired"} 1
        nas_cron_dead_replicas_total 1
        nas_cron_directory_lookups_total{outcome="disabled"} 0
        nas_cron_directory_lookups_total{outcome="found"} 0
        nas_cron_directory_lookups_total{outcome="invalid"} 0
        nas_cron_directory_lookups_total{outcome="unavailable"} 0
        nas_cron_directory_lookups_total{outcome="unknown"} 0
        nas_cron_dormant_jobs{reason="gateway_stopped"} 0
        nas_cron_dormant_jobs{reason="silent"} 2
        nas_cron_dormant_jobs{reason="withheld"} 0
        nas_cron_due_one_shots{kind="again"} 0
        nas_cron_due_one_shots{kind="armed_late"} 3
        nas_cron_due_one_shots{kind="punctual"} 0
        nas_cron_due_one_shots{kind="released"} 0
        nas_cron_events_total{type="clock.corrected"} 0
        nas_cron_events_total{type="clock.drifted"} 0
        nas_cron_events_total{type="dead_letter.created"} 1
        nas_cron_events_total{type="instance.became_reachable"} 0
        nas_cron_events_total{type="instance.became_unreachable"} 0
        nas_cron_events_total{type="job.became_active"} 0
        nas_cron_events_total{type="job.became_dormant"} 0
        nas_cron_events_total{type="one_shot.stuck"} 0
        nas_cron_events_total{type="signing_key.activated"} 0
        nas_cron_events_total{type="signing_key.published"} 0
        nas_cron_events_total{type="signing_key.removed"} 0
        nas_cron_events_total{type="signing_key.retired"} 0
        nas_cron_events_total{type="wake_up.missed"} 0
        nas_cron_events_total{type="webhook.tested"} 0
        nas_cron_failed_webhooks 1
        nas_cron_fire_attempt_duration_seconds_count{status_class="2xx"} 1
        nas_cron_fire_attempt_duration_seconds_count{status_class="none"} 1
        nas_cron_fire_attempt_duration_seconds_sum{status_class="2xx"} 0.009
        nas_cron_fire_attempt_duration_seconds_sum{status_class="none"} 30
        nas_cron_fire_lateness_seconds_count 1
        nas_cron_fire_lateness_seconds_sum 0.0007
        nas_cron_fires_total{outcome="delivered"} 1
        nas_cron_fires_total{outcome="dropped"} 0
        nas_cron_fires_total{outcome="duplicate"} 0
        nas_cron_fires_total{outcome="failed"} 1
        nas_cron_fires_total{outcome="gone"} 0
        nas_cron_fires_total{outcome="lost"} 2
        nas_cron_holds{scope="all"} 1
        nas_cron_holds{scope="instance"} 0
        nas_cron_holds{scope="org"} 0
        nas_cron_introspections_total{outcome="active"} 0
        nas_cron_introspections_total{outcome="inactive"} 0
        nas_cron_introspections_total{outcome="invalid"} 0
        nas_cron_introspections_total{outcome="unavailable"} 0
        nas_cron_known_schema_version 12
        nas_cron_leases_lost_total 1
        nas_cron_nearly_used_quotas{scope="instance"} 2
        nas_cron_nearly_used_quotas{scope="org"} 0
        nas_cron_oldest_overdue_seconds 1.5
        nas_cron_one_shots_expired_total 1
        nas_cron_one_shots_recovered_total 3
        nas_cron_one_shots{state="armed"} 5
        nas_cron_one_shots{state="dead"} 1
        nas_cron_one_shots{state="delivered"} 0
        nas_cron_one_shots{state="firing"} 0
        nas_cron_one_shots{state="leased"} 0
        nas_cron_one_shots{state="stuck"} 0
        nas_cron_one_shots{state="waiting"} 0
        nas_cron_open_connections_max{listener="public"} 1868
        nas_cron_open_connections{listener="admin"} 0
        nas_cron_open_connections{listener="metrics"} 0
        nas_cron_open_connections{listener="public"} 1
        nas_cron_paced_calls_total{result="delayed"} 1
        nas_cron_paced_calls_total{result="refused"} 1
        nas_cron_panics_total{place="background"} 0
        nas_cron_panics_total{place="fire"} 1
        nas_cron_panics_total{place="http"} 0
        nas_cron_parked_one_shots{reason="hold"} 4
        nas_cron_parked_one_shots{reason="unreachable"} 0
        nas_cron_provision_duration_seconds_count 1
        nas_cron_provision_duration_seconds_sum 0.002
        nas_cron_quota_refusals_total{scope="instance"} 1
        nas_cron_quota_refusals_total{scope="org"} 0
        nas_cron_ready 1
        nas_cron_signing_key_next_step_seconds inf
        nas_cron_signing_key_usable 1
        nas_cron_signing_keys{state="active"} 1
        nas_cron_signing_keys{state="next"} 0
        nas_cron_signing_keys{state="retired"} 0
        nas_cron_spans_dropped_total{reason="queue_full"} 8
        nas_cron_spans_dropped_total{reason="rejected"} 0
        nas_cron_spans_dropped_total{reason="unavailable"} 0
        nas_cron_spans_exported_total 7
        nas_cron_stopped_loops 0
        nas_cron_token_requests_total{result="granted"} 0
        nas_cron_token_requests_total{result="held"} 0
        nas_cron_token_requests_total{result="invalid_grant"} 0
        nas_cron_token_requests_total{result="refused"} 0
        nas_cron_token_requests_total{result="reused"} 0
        nas_cron_token_requests_total{result="unavailable"} 0
        nas_cron_webhook_attempts_total{outcome="delivered"} 1
        nas_cron_webhook_attempts_total{outcome="failed"} 0
        nas_cron_webhook_attempts_total{outcome="gone"} 0
        nas_cron_webhook_attempts_total{outcome="refused"} 0
        nas_cron_webhook_pending_deliveries 2
        nas_cron_withheld_instances{reason="denied"} 0
        nas_cron_withheld_instances{reason="disabled"} 2
        nas_cron_withheld_instances{reason="unreachable"} 1
        "#);
        assert!(text.contains("nas_cron_fire_lateness_seconds_bucket{le=\"0.0005\"} 0"), "{text}");
        assert!(text.contains("nas_cron_fire_lateness_seconds_bucket{le=\"0.001\"} 1"), "{text}");
    }

    #[test]
    fn a_state_without_one_shots_is_reset_to_zero() {
        let text = counted(|| {
            let firing = vec![(OneShotState::Firing, 5)];
            set_one_shots(&OneShotCounts { states: firing, ..OneShotCounts::default() });
            set_one_shots(&OneShotCounts::default());
        });
        assert!(text.contains("nas_cron_one_shots{state=\"firing\"} 0"), "{text}");
    }
}
