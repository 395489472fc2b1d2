//! What Prometheus sees. Every name exists once, behind a function that says what counts.
//!
//! Base units, prefix `nas_cron_`, and no id or URL as a label: the number of series does not grow with use.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use nas_cron_protocol::{BackendName, OneShotState};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::FireOutcome;

const FIRES: &str = "nas_cron_fires_total";
const FIRE_LATENESS: &str = "nas_cron_fire_lateness_seconds";
const FIRE_ATTEMPT: &str = "nas_cron_fire_attempt_seconds";
const PROVISION: &str = "nas_cron_provision_seconds";
const HOP1_REQUESTS: &str = "nas_cron_hop1_requests_total";
const ONE_SHOTS: &str = "nas_cron_one_shots";
const OLDEST_OVERDUE: &str = "nas_cron_oldest_overdue_seconds";
const DEAD_LETTERS: &str = "nas_cron_dead_letters";
const LEASE_LOST: &str = "nas_cron_lease_lost_total";
const RECOVERED: &str = "nas_cron_recovered_total";
const IN_FLIGHT: &str = "nas_cron_in_flight";
const DB_CLOCK_OFFSET: &str = "nas_cron_db_clock_offset_seconds";
const ENGINE_CALLS: &str = "nas_cron_engine_calls_total";
const ENGINE_MISSES: &str = "nas_cron_engine_misses_total";
const WAKE_UPS: &str = "nas_cron_wake_ups_total";
const WAKE_UPS_HELD: &str = "nas_cron_wake_ups";
const RELAY_REFUSED: &str = "nas_cron_relay_refused_total";
const TOKEN_REQUESTS: &str = "nas_cron_token_requests_total";
const LOOKUPS: &str = "nas_cron_directory_lookups_total";
const INTROSPECTIONS: &str = "nas_cron_introspections_total";
const PANICS: &str = "nas_cron_panics_total";

/// From well below a good lateness to an outage, in seconds.
const LATENESS_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0, 3600.0,
];
/// From a warm agent next door to one that boots until the deadline, in seconds.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];
/// From one commit to the 15 s after which real agents have hung up, in seconds.
const PROVISION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 12.0, 15.0];

/// How often histograms are folded, so that they take no memory while nobody scrapes.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// Takes in what is counted from now on and describes it. Any number of calls: all get the same handle.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, describe);
        // Another recorder can only be there if a host program brought its own; ours then stays empty.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed: /metrics stays empty");
        }
        handle
    };
    HANDLE.get_or_init(install).clone()
}

fn recorder() -> PrometheusRecorder {
    let buckets =
        [(FIRE_LATENESS, LATENESS_BUCKETS), (FIRE_ATTEMPT, ATTEMPT_BUCKETS), (PROVISION, PROVISION_BUCKETS)];
    buckets
        .into_iter()
        .fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
            builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
                .expect("no list of buckets is empty")
        })
        .build_recorder()
}

/// Describes every metric, and makes those appear whose zero is worth seeing before anything happened.
fn describe() {
    describe_counter!(FIRES, "Attempts that ended, by how (delivered, gone, failed, lost)");
    describe_histogram!(
        FIRE_LATENESS,
        Unit::Seconds,
        "From the instant a fire was due to the start of its first attempt"
    );
    describe_histogram!(
        FIRE_ATTEMPT,
        Unit::Seconds,
        "Length of an attempt, by the class of the agent's status"
    );
    describe_histogram!(PROVISION, Unit::Seconds, "Length of a provision, from request to durable answer");
    describe_counter!(HOP1_REQUESTS, "Requests of agents, by endpoint and class of our status");
    describe_gauge!(ONE_SHOTS, "One-shots by state");
    describe_gauge!(
        OLDEST_OVERDUE,
        Unit::Seconds,
        "How long the one-shot that waits longest has been due; 0: none"
    );
    describe_gauge!(DEAD_LETTERS, "Fires that were given up and not yet redriven or replaced");
    describe_counter!(LEASE_LOST, "Attempts whose lease another claim had taken when they ended");
    describe_counter!(RECOVERED, "One-shots taken over from leases that expired");
    describe_gauge!(IN_FLIGHT, "Attempts under way in this replica");
    describe_gauge!(DB_CLOCK_OFFSET, Unit::Seconds, "The database's clock minus this replica's");
    describe_counter!(
        ENGINE_CALLS,
        "What hosted engines were asked for, by backend, call (arm, cancel; listen and log where that fails) and result"
    );
    describe_counter!(
        ENGINE_MISSES,
        "One-shots that their engine did not wake in time, so that our own loop did"
    );
    describe_counter!(WAKE_UPS, "Wake-ups that engines brought, by backend and by what they found");
    describe_gauge!(
        WAKE_UPS_HELD,
        "What hosted engines are to bring (armed), have still to be told of (wanted) or to take back (unwanted)"
    );
    describe_counter!(RELAY_REFUSED, "Requests to the relay without a valid signature, by reason");
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
    describe_counter!(PANICS, "Panics that were caught, by place");
    counter!(LEASE_LOST).increment(0);
    counter!(RECOVERED).increment(0);
    gauge!(IN_FLIGHT).set(0.0);
    for backend in BackendName::ALL.iter().filter(|backend| **backend != BackendName::Postgres) {
        counter!(ENGINE_MISSES, "backend" => backend.as_str()).increment(0);
    }
    for place in [PanicPlace::Http, PanicPlace::Fire, PanicPlace::Background] {
        counter!(PANICS, "place" => place.as_str()).increment(0);
    }
    for outcome in FireOutcome::ALL.iter().filter(|outcome| **outcome != FireOutcome::Started) {
        counter!(FIRES, "outcome" => outcome.as_str()).increment(0);
    }
}

/// The class of an HTTP status as a label: `2xx`, or `none` where there was no answer.
fn status_class(status: Option<u16>) -> &'static str {
    match status {
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other",
        None => "none",
    }
}

/// An attempt ended: how, with which status of the agent (`None`: no answer), after how long.
pub fn fire_ended(outcome: FireOutcome, status: Option<u16>, took: Duration) {
    counter!(FIRES, "outcome" => outcome.as_str()).increment(1);
    histogram!(FIRE_ATTEMPT, "status_class" => status_class(status)).record(took);
}

/// An engine was asked to `call` (`arm`, `cancel`, `listen`, `log`) so many wake-ups, with this result (`ok`, or what was wrong).
pub fn engine_called(backend: BackendName, call: &'static str, result: &'static str, count: u64) {
    counter!(ENGINE_CALLS, "backend" => backend.as_str(), "call" => call, "result" => result)
        .increment(count);
}

/// The portal was asked about an instance, and said this (`found`, `disabled`, `unknown`) or nothing (`away`, `useless`).
pub fn looked_up(outcome: &'static str) {
    counter!(LOOKUPS, "outcome" => outcome).increment(1);
}

/// An issuer was asked about a token, and said this (`active`, `inactive`) or nothing (`away`, `useless`).
pub fn introspected(outcome: &'static str) {
    counter!(INTROSPECTIONS, "outcome" => outcome).increment(1);
}

/// One-shots that their engine did not wake within the watchdog's grace.
pub fn engine_missed(backend: BackendName, count: u64) {
    counter!(ENGINE_MISSES, "backend" => backend.as_str()).increment(count);
}

/// An engine brought a wake-up, and this is what it found.
pub fn woken(backend: BackendName, found: &'static str) {
    counter!(WAKE_UPS, "backend" => backend.as_str(), "found" => found).increment(1);
}

/// Wake-ups of an engine, by state.
pub fn set_wake_ups(backend: BackendName, states: impl IntoIterator<Item = (&'static str, i64)>) {
    if backend == BackendName::Postgres {
        return;
    }
    for (state, count) in states {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!(WAKE_UPS_HELD, "backend" => backend.as_str(), "state" => state).set(count as f64);
    }
}

/// A request to the relay was refused, for this reason.
pub fn relay_refused(reason: &'static str) {
    counter!(RELAY_REFUSED, "reason" => reason).increment(1);
}

/// A request to our own portal's token endpoint had this result.
pub fn token_requested(result: &'static str) {
    counter!(TOKEN_REQUESTS, "result" => result).increment(1);
}

/// Attempts whose end nobody saw, as their replica is gone.
pub fn fires_lost(count: u64) {
    counter!(FIRES, "outcome" => FireOutcome::Lost.as_str()).increment(count);
}

/// The first attempt of a fire started that long after it was due.
pub fn fire_started(lateness: Duration) {
    histogram!(FIRE_LATENESS).record(lateness);
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

/// How many one-shots are in which state; a state that is not named has none.
pub fn set_one_shots(counts: impl IntoIterator<Item = (OneShotState, u64)>) {
    let counts: Vec<_> = counts.into_iter().collect();
    for state in OneShotState::ALL {
        let count = counts.iter().filter(|one| one.0 == *state).map(|one| one.1).sum::<u64>();
        gauge!(ONE_SHOTS, "state" => state.as_str()).set(as_f64(count));
    }
}

/// How long the one-shot that waits longest has been due; zero where none is.
pub fn set_oldest_overdue(age: Duration) {
    gauge!(OLDEST_OVERDUE).set(age);
}

/// How many dead letters there are.
pub fn set_dead_letters(count: u64) {
    gauge!(DEAD_LETTERS).set(as_f64(count));
}

/// Attempts ended whose lease another claim holds.
pub fn leases_lost(count: u64) {
    counter!(LEASE_LOST).increment(count);
}

/// One-shots were taken over from expired leases.
pub fn recovered(count: u64) {
    counter!(RECOVERED).increment(count);
}

/// The database's clock minus ours, in seconds.
pub fn set_db_clock_offset(seconds: f64) {
    gauge!(DB_CLOCK_OFFSET).set(seconds);
}

/// Counts one attempt under way for as long as it lives.
#[derive(Debug)]
#[must_use = "counts only while it lives"]
pub struct InFlight(());

impl InFlight {
    /// One more.
    pub fn begin() -> Self {
        gauge!(IN_FLIGHT).increment(1.0);
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT).decrement(1.0);
    }
}

/// Where a panic was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicPlace {
    /// In the handler of a request.
    Http,
    /// In an attempt.
    Fire,
    /// In a loop or a sweep.
    Background,
}

impl PanicPlace {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Fire => "fire",
            Self::Background => "background",
        }
    }
}

/// A panic was caught.
pub fn panicked(place: PanicPlace) {
    counter!(PANICS, "place" => place.as_str()).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// `GET /metrics`, for a listener of its own. Needs a runtime: the upkeep runs until the router is dropped.
pub fn router(handle: PrometheusHandle) -> Router {
    let upkeep = tokio::spawn({
        let handle = handle.clone();
        async move {
            let mut ticks = tokio::time::interval(UPKEEP_PERIOD);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        }
    });
    let state = Arc::new((handle, AbortOnDropHandle::new(upkeep)));
    Router::new().route("/metrics", get(render)).with_state(state)
}

async fn render(State(state): State<Arc<(PrometheusHandle, AbortOnDropHandle<()>)>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.0.render())
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;

    /// What is counted while `work` runs on this thread, as Prometheus would read it.
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
        provisioned(Duration::from_millis(2));
        hop1_answered(Hop1::Provision, 200);
        hop1_answered(Hop1::List, 503);
        set_one_shots([(OneShotState::Armed, 5), (OneShotState::Dead, 1)]);
        set_oldest_overdue(Duration::from_millis(1500));
        set_dead_letters(1);
        leases_lost(1);
        recovered(3);
        set_db_clock_offset(-0.25);
        panicked(PanicPlace::Fire);
        drop(InFlight::begin());
        std::mem::forget(InFlight::begin());
    }

    #[test]
    fn every_metric_is_described_and_has_its_buckets() {
        let text = counted(everything);
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        for line in &values {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
        }
        for name in [FIRE_LATENESS, FIRE_ATTEMPT, PROVISION] {
            assert!(text.contains(&format!("# TYPE {name} histogram")), "{name} has no buckets");
        }
        let mut plain: Vec<_> = values.into_iter().filter(|line| !line.contains("_bucket{")).collect();
        plain.sort_unstable();
        insta::assert_snapshot!(plain.join("\n"), @r#"
        nas_cron_db_clock_offset_seconds -0.25
        nas_cron_dead_letters 1
        nas_cron_engine_misses_total{backend="nats"} 0
        nas_cron_engine_misses_total{backend="qstash"} 0
        nas_cron_engine_misses_total{backend="qstash_direct"} 0
        nas_cron_fire_attempt_seconds_count{status_class="2xx"} 1
        nas_cron_fire_attempt_seconds_count{status_class="none"} 1
        nas_cron_fire_attempt_seconds_sum{status_class="2xx"} 0.009
        nas_cron_fire_attempt_seconds_sum{status_class="none"} 30
        nas_cron_fire_lateness_seconds_count 1
        nas_cron_fire_lateness_seconds_sum 0.0007
        nas_cron_fires_total{outcome="delivered"} 1
        nas_cron_fires_total{outcome="failed"} 1
        nas_cron_fires_total{outcome="gone"} 0
        nas_cron_fires_total{outcome="lost"} 2
        nas_cron_hop1_requests_total{endpoint="list",status_class="5xx"} 1
        nas_cron_hop1_requests_total{endpoint="provision",status_class="2xx"} 1
        nas_cron_in_flight 1
        nas_cron_lease_lost_total 1
        nas_cron_oldest_overdue_seconds 1.5
        nas_cron_one_shots{state="armed"} 5
        nas_cron_one_shots{state="dead"} 1
        nas_cron_one_shots{state="delivered"} 0
        nas_cron_one_shots{state="firing"} 0
        nas_cron_one_shots{state="leased"} 0
        nas_cron_one_shots{state="stuck"} 0
        nas_cron_one_shots{state="waiting"} 0
        nas_cron_panics_total{place="background"} 0
        nas_cron_panics_total{place="fire"} 1
        nas_cron_panics_total{place="http"} 0
        nas_cron_provision_seconds_count 1
        nas_cron_provision_seconds_sum 0.002
        nas_cron_recovered_total 3
        "#);
        assert!(text.contains("nas_cron_fire_lateness_seconds_bucket{le=\"0.0005\"} 0"), "{text}");
        assert!(text.contains("nas_cron_fire_lateness_seconds_bucket{le=\"0.001\"} 1"), "{text}");
    }

    #[test]
    fn a_state_that_is_empty_again_is_zero_again() {
        let text = counted(|| {
            set_one_shots([(OneShotState::Firing, 5)]);
            set_one_shots([]);
        });
        assert!(text.contains("nas_cron_one_shots{state=\"firing\"} 0"), "{text}");
    }

    #[test]
    fn routes_of_hop_1() {
        assert_eq!(Hop1::of_route("/api/agent-cron/provision"), Some(Hop1::Provision));
        assert_eq!(Hop1::of_route("/api/agent-cron/relay"), None);
    }

    #[tokio::test]
    async fn installed_twice_it_is_one_and_served() {
        let (one, other) = (install(), install());
        panicked(PanicPlace::Background);
        assert!(one.render().contains("nas_cron_panics_total{place=\"background\"}"));
        let response =
            router(other).oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(String::from_utf8(body.to_vec()).unwrap().contains("# HELP nas_cron_panics_total"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_upkeep_ends_with_its_router() {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let router = router(recorder().handle());
        tokio::time::advance(UPKEEP_PERIOD * 3).await;
        assert_eq!(alive(), 1);
        drop(router);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(alive(), 0);
    }
}
