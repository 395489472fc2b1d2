//! `/healthz`: liveness of the process. `/readyz`: readiness to receive requests.
//!
//! Both are public. A response therefore names the failed check without internal details, and costs no database
//! statement: it reports what the service has observed anyway. The contract defines when each fails
//! (docs/contract.md#invariant-10-it-recovers-by-itself).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Time without a database response after which the database is reported as unavailable. A replica runs a statement
/// every few seconds.
pub const DATABASE_SILENT_AFTER: Duration = Duration::from_secs(8);

/// Maximum time without the database during which a replica stays ready: requests wait for a short restart of the
/// database, and no provision fails.
pub const READY_WITHOUT_DATABASE: Duration = Duration::from_secs(15);

/// Maximum time during which a replica stays ready although all statements of the scheduler fail.
pub const READY_WITHOUT_CLAIMS: Duration = READY_WITHOUT_DATABASE;

/// The result of one check. The text of a failure is public.
pub type Finding = Result<(), &'static str>;

/// The service state that the probes report.
pub trait Probe: Send + Sync + 'static {
    /// Time since the database last responded to anything.
    fn database_silent_for(&self) -> Duration;
    /// Fails if this release is known not to support the database schema.
    fn schema(&self) -> Finding;
    /// Fails if no key can sign fire tokens.
    fn signing_key(&self) -> Finding;
    /// Fails if this machine's clock differs from the database's. This does not affect readiness.
    fn clock(&self) -> Finding;
    /// Time for which the scheduler has been unable to look for work.
    fn overdue_look(&self) -> Duration;
    /// The supervised loops that have stopped.
    fn stopped_loops(&self) -> Vec<&'static str>;
    /// True while the service shuts down.
    fn is_draining(&self) -> bool;
}

/// The results of all checks.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    /// Time since the database last responded to anything.
    pub database_silent_for: Duration,
    /// Fails if this release does not support the database schema.
    pub schema: Finding,
    /// Fails if no key can sign fire tokens.
    pub signing_key: Finding,
    /// Fails if this machine's clock differs from the database's.
    pub clock: Finding,
    /// Time for which the scheduler has been unable to look for work.
    pub overdue_look: Duration,
    /// Fails if a supervised loop has stopped.
    pub loops: Finding,
    /// True while the service shuts down.
    pub draining: bool,
}

/// The response of both probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `failing`, or `draining` while the service shuts down.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// `ok` or the failure, by check. `clock` is a warning and does not change `status`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, example = json!({"database": "ok"}))]
    pub checks: BTreeMap<&'static str, &'static str>,
}

impl Health {
    /// Returns true if every check passes.
    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }

    fn status_code(&self) -> StatusCode {
        if self.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

/// Returns the readiness for these findings. A wrong clock does not affect readiness, because attempts are scheduled by
/// the database's clock. Draining takes precedence over failures, because it is intended.
pub fn judge(findings: &Findings) -> Health {
    let scheduler =
        if findings.overdue_look > READY_WITHOUT_CLAIMS { Err("statements are failing") } else { Ok(()) };
    let silent = findings.database_silent_for;
    let database = if silent > DATABASE_SILENT_AFTER { Err("unavailable") } else { Ok(()) };
    let checks = [
        ("database", database, silent <= READY_WITHOUT_DATABASE),
        ("clock", findings.clock, true),
        ("schema", findings.schema, false),
        ("signing_key", findings.signing_key, false),
        ("scheduler", scheduler, false),
        ("loops", findings.loops, false),
        ("not_draining", if findings.draining { Err("draining") } else { Ok(()) }, false),
    ];
    let status = match () {
        () if findings.draining => "draining",
        () if checks.iter().any(|(_, finding, tolerated)| finding.is_err() && !tolerated) => "failing",
        () => "ok",
    };
    Health { status, checks: checks.map(|(name, finding, _)| (name, finding.err().unwrap_or("ok"))).into() }
}

/// Failure of the check `loops`. Only a restart of the process fixes it.
const STOPPED: &str = "a background loop has stopped";

/// Returns the readiness that `/readyz` reports.
pub fn readiness(probe: &dyn Probe) -> Health {
    judge(&findings(probe))
}

fn loops(probe: &dyn Probe) -> Finding {
    if probe.stopped_loops().is_empty() { Ok(()) } else { Err(STOPPED) }
}

fn findings(probe: &dyn Probe) -> Findings {
    Findings {
        database_silent_for: probe.database_silent_for(),
        schema: probe.schema(),
        signing_key: probe.signing_key(),
        clock: probe.clock(),
        overdue_look: probe.overdue_look(),
        loops: loops(probe),
        draining: probe.is_draining(),
    }
}

/// Check liveness
///
/// Succeeds while all background loops run. Independent of the database, because a restart would not end its outage.
#[utoipa::path(get, path = "/healthz", tag = "health", responses(
    (status = 200, description = "Alive.", body = Health),
    (status = 503, description = "A background loop has stopped. Restart the process.", body = Health)))]
pub async fn healthz(State(probe): State<Arc<dyn Probe>>) -> (StatusCode, Json<Health>) {
    let health = match loops(probe.as_ref()) {
        Ok(()) => Health { status: "ok", checks: BTreeMap::new() },
        Err(stopped) => Health { status: "failing", checks: [("loops", stopped)].into() },
    };
    (health.status_code(), Json(health))
}

/// Check readiness
///
/// For readiness probes and load balancers.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Ready: every check passes. A failed `clock`, and a `database` that is unavailable for less than 15 s, are tolerated.", body = Health),
    (status = 503, description = "A check fails, or the service is shutting down.", body = Health)))]
pub async fn readyz(State(probe): State<Arc<dyn Probe>>) -> (StatusCode, Json<Health>) {
    let health = readiness(probe.as_ref());
    (health.status_code(), Json(health))
}

/// Returns the documented routes of both probes.
pub fn routes<S: Clone + Send + Sync + 'static>(probe: Arc<dyn Probe>) -> OpenApiRouter<S> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).with_state(probe)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use proptest::prelude::*;
    use tower::ServiceExt;

    use super::*;

    const HEALTHY: Findings = Findings {
        database_silent_for: Duration::ZERO,
        schema: Ok(()),
        signing_key: Ok(()),
        clock: Ok(()),
        overdue_look: Duration::ZERO,
        loops: Ok(()),
        draining: false,
    };

    struct Fixed(Findings);

    impl Probe for Fixed {
        fn schema(&self) -> Finding {
            self.0.schema
        }

        fn signing_key(&self) -> Finding {
            self.0.signing_key
        }

        fn clock(&self) -> Finding {
            self.0.clock
        }

        fn database_silent_for(&self) -> Duration {
            self.0.database_silent_for
        }

        fn overdue_look(&self) -> Duration {
            self.0.overdue_look
        }

        fn stopped_loops(&self) -> Vec<&'static str> {
            if self.0.loops.is_ok() { Vec::new() } else { vec!["claims"] }
        }

        fn is_draining(&self) -> bool {
            self.0.draining
        }
    }

    async fn get(path: &str, findings: Findings) -> (StatusCode, String) {
        let (router, _) = routes(Arc::new(Fixed(findings))).split_for_parts();
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn liveness_does_not_depend_on_the_database() {
        let (status, body) =
            get("/healthz", Findings { database_silent_for: READY_WITHOUT_DATABASE * 9, ..HEALTHY }).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok"}"#);
    }

    #[tokio::test]
    async fn ready_when_every_check_passes() {
        let (status, body) = get("/readyz", HEALTHY).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok","checks":{"clock":"ok","database":"ok","loops":"ok","not_draining":"ok","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn unready_response_names_the_failed_checks() {
        let overdue_look = READY_WITHOUT_CLAIMS + Duration::from_millis(1);
        let findings = Findings { schema: Err("behind"), loops: Err(STOPPED), overdue_look, ..HEALTHY };
        let (status, body) = get("/readyz", findings).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"failing","checks":{"clock":"ok","database":"ok","loops":"a background loop has stopped","not_draining":"ok","scheduler":"statements are failing","schema":"behind","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn a_stopped_loop_fails_liveness() {
        let (status, body) = get("/healthz", Findings { loops: Err(STOPPED), ..HEALTHY }).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"failing","checks":{"loops":"a background loop has stopped"}}"#);
    }

    #[tokio::test]
    async fn readiness_outlasts_a_short_outage_of_the_database() {
        let silent = |silent_for| Findings { database_silent_for: silent_for, ..HEALTHY };
        let (status, body) = get("/readyz", silent(READY_WITHOUT_DATABASE)).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok","checks":{"clock":"ok","database":"unavailable","loops":"ok","not_draining":"ok","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
        let longer = READY_WITHOUT_DATABASE + Duration::from_millis(1);
        let (status, _) = get("/readyz", silent(longer)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn draining_is_unready_with_its_own_status() {
        let (status, body) = get("/readyz", Findings { draining: true, ..HEALTHY }).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"draining","checks":{"clock":"ok","database":"ok","loops":"ok","not_draining":"draining","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn wrong_clock_is_reported_and_does_not_affect_readiness() {
        let (status, body) = get("/readyz", Findings { clock: Err("off"), ..HEALTHY }).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.starts_with(r#"{"status":"ok","checks":{"clock":"off","#), "{body}");
    }

    #[test]
    fn both_probes_are_in_the_openapi_document() {
        let (_, openapi) = routes::<()>(Arc::new(Fixed(HEALTHY))).split_for_parts();
        let paths: Vec<_> = openapi.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/healthz", "/readyz"]);
    }

    proptest! {
        #[test]
        fn readiness_needs_every_check(silent in 0_u64..30, schema: bool, key: bool, look in 0_u64..30, loops: bool, draining: bool) {
            let finding = |ok: bool| if ok { Ok(()) } else { Err("wrong") };
            let health = judge(&Findings {
                database_silent_for: Duration::from_secs(silent),
                schema: finding(schema),
                signing_key: finding(key),
                clock: Ok(()),
                overdue_look: Duration::from_secs(look),
                loops: finding(loops),
                draining,
            });
            let ready = silent <= 15 && schema && key && look <= 15 && loops && !draining;
            prop_assert_eq!(health.status_code() == StatusCode::OK, ready);
        }
    }
}
