//! `/healthz`: the process works. `/readyz`: it may be sent requests.
//!
//! Both are public, so an answer says which check failed in words of ours and nothing of the inside, and costs no statement:
//! it is made of what the service has seen anyway. What each of them
//! fails on is a rule of the contract (docs/contract.md#invariant-10-it-recovers-by-itself).

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

/// The database is shown as silent after this: a replica asks it something every few seconds.
pub const DATABASE_SILENT_AFTER: Duration = Duration::from_secs(8);

/// A replica is ready this long without the database: requests wait for a short restart of it, and no provision fails.
pub const READY_WITHOUT_DATABASE: Duration = Duration::from_secs(15);

/// As long as that, the scheduler's statements may fail in a row.
pub const READY_WITHOUT_CLAIMS: Duration = READY_WITHOUT_DATABASE;

/// What one check found; a failure in words that may be public.
pub type Finding = Result<(), &'static str>;

/// What the probes are answered by. The service as they see it.
pub trait Probe: Send + Sync + 'static {
    /// How long ago the database last answered anything.
    fn database_silent_for(&self) -> Duration;
    /// Whether its schema is one that this release serves, as far as is known.
    fn schema(&self) -> Finding;
    /// Whether there is a key that signs fire tokens.
    fn signing_key(&self) -> Finding;
    /// Whether this machine's clock agrees with the database's. It makes nothing unready.
    fn clock(&self) -> Finding;
    /// For how long the scheduler has not been able to look for work.
    fn overdue_look(&self) -> Duration;
    /// The supervised loops that have stopped.
    fn stopped_loops(&self) -> Vec<&'static str>;
    /// Whether the service is about to end.
    fn is_draining(&self) -> bool;
}

/// Everything that was found, before it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    /// How long ago the database last answered anything.
    pub database_silent_for: Duration,
    /// Whether its schema is one that this release serves.
    pub schema: Finding,
    /// Whether there is a key that signs fire tokens.
    pub signing_key: Finding,
    /// Whether this machine's clock agrees with the database's.
    pub clock: Finding,
    /// For how long the scheduler has not been able to look for work.
    pub overdue_look: Duration,
    /// Whether every supervised loop beats.
    pub loops: Finding,
    /// Whether the service is about to end.
    pub draining: bool,
}

/// The answer of both endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `failing`, or `draining` while the service ends.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// `ok`, or what is wrong, by check. `clock` is a warning: it does not change `status`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, example = json!({"database": "ok"}))]
    pub checks: BTreeMap<&'static str, &'static str>,
}

impl Health {
    fn status_code(&self) -> StatusCode {
        if self.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

/// Judges readiness. A clock that is off makes nothing unready, as nothing goes by it. Draining outranks a failure: it is
/// on purpose.
pub fn judge(findings: &Findings) -> Health {
    let scheduler =
        if findings.overdue_look > READY_WITHOUT_CLAIMS { Err("its statements fail") } else { Ok(()) };
    let silent = findings.database_silent_for;
    let database = if silent > DATABASE_SILENT_AFTER { Err("does not answer") } else { Ok(()) };
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

/// A loop that has stopped needs a restart of the process.
const STOPPED: &str = "a background loop has stopped";

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

/// Alive: the process answers, and none of its loops has stopped. For liveness probes. It asks nothing of the database,
/// whose outage no restart would end.
#[utoipa::path(get, path = "/healthz", tag = "health", responses(
    (status = 200, description = "Alive", body = Health),
    (status = 503, description = "A background loop has stopped: restart the process", body = Health),
))]
pub async fn healthz(State(probe): State<Arc<dyn Probe>>) -> (StatusCode, Json<Health>) {
    let health = match loops(probe.as_ref()) {
        Ok(()) => Health { status: "ok", checks: BTreeMap::new() },
        Err(stopped) => Health { status: "failing", checks: [("loops", stopped)].into() },
    };
    (health.status_code(), Json(health))
}

/// Ready: may be sent requests. For readiness probes and load balancers.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Every check passes, `clock` perhaps excepted, or the database has been away for less than 15 s", body = Health),
    (status = 503, description = "A check fails, or the service is about to end", body = Health),
))]
pub async fn readyz(State(probe): State<Arc<dyn Probe>>) -> (StatusCode, Json<Health>) {
    let health = judge(&findings(probe.as_ref()));
    (health.status_code(), Json(health))
}

/// Both endpoints, to be merged.
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

    const WELL: Findings = Findings {
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
    async fn alive_whatever_the_database_does() {
        let (status, body) =
            get("/healthz", Findings { database_silent_for: READY_WITHOUT_DATABASE * 9, ..WELL }).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok"}"#);
    }

    #[tokio::test]
    async fn ready_when_every_check_passes() {
        let (status, body) = get("/readyz", WELL).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok","checks":{"clock":"ok","database":"ok","loops":"ok","not_draining":"ok","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn unready_says_which_check_failed() {
        let overdue_look = READY_WITHOUT_CLAIMS + Duration::from_millis(1);
        let findings = Findings { schema: Err("behind"), loops: Err(STOPPED), overdue_look, ..WELL };
        let (status, body) = get("/readyz", findings).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"failing","checks":{"clock":"ok","database":"ok","loops":"a background loop has stopped","not_draining":"ok","scheduler":"its statements fail","schema":"behind","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn a_stopped_loop_fails_liveness() {
        let (status, body) = get("/healthz", Findings { loops: Err(STOPPED), ..WELL }).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"failing","checks":{"loops":"a background loop has stopped"}}"#);
    }

    #[tokio::test]
    async fn readiness_outlasts_a_short_absence_of_the_database() {
        let away = |silent_for| Findings { database_silent_for: silent_for, ..WELL };
        let (status, body) = get("/readyz", away(READY_WITHOUT_DATABASE)).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok","checks":{"clock":"ok","database":"does not answer","loops":"ok","not_draining":"ok","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
        let longer = READY_WITHOUT_DATABASE + Duration::from_millis(1);
        let (status, _) = get("/readyz", away(longer)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn draining_is_unready_and_told_apart() {
        let (status, body) = get("/readyz", Findings { draining: true, ..WELL }).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"draining","checks":{"clock":"ok","database":"ok","loops":"ok","not_draining":"draining","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn clock_that_is_off_is_shown_and_makes_nothing_unready() {
        let (status, body) = get("/readyz", Findings { clock: Err("off"), ..WELL }).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.starts_with(r#"{"status":"ok","checks":{"clock":"off","#), "{body}");
    }

    #[test]
    fn both_are_in_the_openapi_document() {
        let (_, openapi) = routes::<()>(Arc::new(Fixed(WELL))).split_for_parts();
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
