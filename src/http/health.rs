//! `/healthz`: the process is alive. `/readyz`: it may be sent requests.
//!
//! Both are public, so an answer says which check failed in words of ours and nothing of the inside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures::future::BoxFuture;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A scheduler whose loop last beat longer ago than this hangs.
pub const BEAT_WITHIN: Duration = Duration::from_secs(5);

/// What the database does not answer within this counts as failed: probes do not wait for ever.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What one check found; a failure in words that may be public.
pub type Finding = Result<(), &'static str>;

/// What readiness is judged by. The service as the probes see it.
pub trait Probe: Send + Sync + 'static {
    /// Whether the database answers.
    fn database(&self) -> BoxFuture<'_, Finding>;
    /// Whether its schema is the one this binary knows.
    fn schema(&self) -> BoxFuture<'_, Finding>;
    /// Whether there is a key that signs fire tokens.
    fn signing_key(&self) -> Finding;
    /// Whether this machine's clock agrees with the database's. It makes nothing unready.
    fn clock(&self) -> Finding;
    /// How long ago the scheduler's loop last beat; `None`: it has not yet.
    fn since_last_beat(&self) -> Option<Duration>;
    /// Whether the service is about to end.
    fn is_draining(&self) -> bool;
}

/// Everything that was found, before it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Findings {
    /// Whether the database answers.
    pub database: Finding,
    /// Whether its schema is the one this binary knows.
    pub schema: Finding,
    /// Whether there is a key that signs fire tokens.
    pub signing_key: Finding,
    /// Whether this machine's clock agrees with the database's.
    pub clock: Finding,
    /// How long ago the scheduler's loop last beat.
    pub since_last_beat: Option<Duration>,
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

/// Ready is who passes every check but `clock`: nothing goes by this machine's clock. Draining outranks a failure: it is
/// on purpose.
pub fn judge(findings: &Findings) -> Health {
    let scheduler = match findings.since_last_beat {
        Some(age) if age <= BEAT_WITHIN => Ok(()),
        Some(_) => Err("its loop hangs"),
        None => Err("not started yet"),
    };
    let checks = [
        ("database", findings.database),
        ("schema", findings.schema),
        ("signing_key", findings.signing_key),
        ("scheduler", scheduler),
        ("not_draining", if findings.draining { Err("draining") } else { Ok(()) }),
    ];
    let status = match () {
        () if findings.draining => "draining",
        () if checks.iter().any(|(_, finding)| finding.is_err()) => "failing",
        () => "ok",
    };
    let shown = checks.into_iter().chain([("clock", findings.clock)]);
    Health { status, checks: shown.map(|(name, finding)| (name, finding.err().unwrap_or("ok"))).collect() }
}

async fn findings(probe: &dyn Probe) -> Findings {
    let bounded = |check| async {
        tokio::time::timeout(ANSWER_WITHIN, check).await.unwrap_or(Err("no answer in time"))
    };
    let (database, schema) = tokio::join!(bounded(probe.database()), bounded(probe.schema()));
    Findings {
        database,
        schema,
        signing_key: probe.signing_key(),
        clock: probe.clock(),
        since_last_beat: probe.since_last_beat(),
        draining: probe.is_draining(),
    }
}

/// Alive: the process runs and answers. For liveness probes: it asks nothing of the database, whose outage a
/// restart would not mend.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "Alive", body = Health)))]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", checks: BTreeMap::new() })
}

/// Ready: may be sent requests. For readiness probes and load balancers.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "Every check passes, `clock` perhaps excepted", body = Health),
    (status = 503, description = "A check fails, or the service is about to end", body = Health),
))]
pub async fn readyz(State(probe): State<Arc<dyn Probe>>) -> (StatusCode, Json<Health>) {
    let health = judge(&findings(probe.as_ref()).await);
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
    use futures::FutureExt;
    use proptest::prelude::*;
    use tower::ServiceExt;

    use super::*;

    const WELL: Findings = Findings {
        database: Ok(()),
        schema: Ok(()),
        signing_key: Ok(()),
        clock: Ok(()),
        since_last_beat: Some(BEAT_WITHIN),
        draining: false,
    };

    struct Fixed {
        findings: Findings,
        database_hangs: bool,
    }

    impl Probe for Fixed {
        fn database(&self) -> BoxFuture<'_, Finding> {
            if self.database_hangs {
                futures::future::pending().boxed()
            } else {
                std::future::ready(self.findings.database).boxed()
            }
        }

        fn schema(&self) -> BoxFuture<'_, Finding> {
            std::future::ready(self.findings.schema).boxed()
        }

        fn signing_key(&self) -> Finding {
            self.findings.signing_key
        }

        fn clock(&self) -> Finding {
            self.findings.clock
        }

        fn since_last_beat(&self) -> Option<Duration> {
            self.findings.since_last_beat
        }

        fn is_draining(&self) -> bool {
            self.findings.draining
        }
    }

    async fn get(path: &str, findings: Findings, database_hangs: bool) -> (StatusCode, String) {
        let (router, _) = routes(Arc::new(Fixed { findings, database_hangs })).split_for_parts();
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn alive_whatever_the_database_does() {
        let (status, body) = get("/healthz", Findings { database: Err("away"), ..WELL }, true).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok"}"#);
    }

    #[tokio::test]
    async fn ready_when_every_check_passes() {
        let (status, body) = get("/readyz", WELL, false).await;
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(body, @r#"{"status":"ok","checks":{"clock":"ok","database":"ok","not_draining":"ok","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn unready_says_which_check_failed() {
        let late = Some(BEAT_WITHIN + Duration::from_millis(1));
        let findings = Findings { schema: Err("behind"), since_last_beat: late, ..WELL };
        let (status, body) = get("/readyz", findings, false).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"failing","checks":{"clock":"ok","database":"ok","not_draining":"ok","scheduler":"its loop hangs","schema":"behind","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn draining_is_unready_and_told_apart() {
        let (status, body) = get("/readyz", Findings { draining: true, ..WELL }, false).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        insta::assert_snapshot!(body, @r#"{"status":"draining","checks":{"clock":"ok","database":"ok","not_draining":"draining","scheduler":"ok","schema":"ok","signing_key":"ok"}}"#);
    }

    #[tokio::test]
    async fn clock_that_is_off_is_shown_and_makes_nothing_unready() {
        let (status, body) = get("/readyz", Findings { clock: Err("off"), ..WELL }, false).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.starts_with(r#"{"status":"ok","checks":{"clock":"off","#), "{body}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_hangs_is_not_waited_for() {
        let began = tokio::time::Instant::now();
        let (status, body) = get("/readyz", WELL, true).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("\"database\":\"no answer in time\""), "{body}");
        assert!(began.elapsed() < ANSWER_WITHIN * 2);
    }

    #[test]
    fn both_are_in_the_openapi_document() {
        let (_, openapi) =
            routes::<()>(Arc::new(Fixed { findings: WELL, database_hangs: false })).split_for_parts();
        let paths: Vec<_> = openapi.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/healthz", "/readyz"]);
    }

    proptest! {
        #[test]
        fn ready_is_only_who_passes_all(database: bool, schema: bool, key: bool, beat in proptest::option::of(0_u64..20), draining: bool) {
            let finding = |ok: bool| if ok { Ok(()) } else { Err("wrong") };
            let health = judge(&Findings {
                database: finding(database),
                schema: finding(schema),
                signing_key: finding(key),
                clock: Ok(()),
                since_last_beat: beat.map(Duration::from_secs),
                draining,
            });
            let ready = database && schema && key && beat.is_some_and(|age| age <= 5) && !draining;
            prop_assert_eq!(health.status_code() == StatusCode::OK, ready);
            prop_assert_eq!(health.checks.values().all(|found| *found == "ok"), ready);
        }
    }
}
