//! Middleware of all routes: request IDs, request log, metrics, limits and panic handling. Each route sets its own
//! timeouts.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::HeaderValue;
use axum::http::{HeaderName, Response};
use axum::middleware::{self, Next};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tracing::Instrument;
use uuid::Uuid;

use super::error::{ExpectedUnavailable, Form};
use super::extract::unread_body;
use super::{ApiError, log_fields};
use crate::domain::trace_context::TraceContext;
use crate::metrics::{self, AgentApi, PanicPlace};
use crate::traces::Traces;
use crate::traces::request::RequestTrace;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `Retry-After` when too many requests are in flight.
const RETRY_CROWDED: Duration = Duration::from_secs(2);

/// Maximum length of a caller's request ID, in bytes.
const LONGEST_ID: usize = 128;

/// Routes that machines poll, or that many agents fetch in the same second. They are logged at `debug` and not limited.
const QUIET_ROUTES: &[&str] = &["/healthz", "/readyz", "/.well-known/jwks.json", "/api/agent-cron/jwks.json"];

/// Wraps all routes (and the fallback) of a router. From outside in:
///
/// 1. A request ID: the caller's `X-Request-Id` if it is valid, else a new UUID of version 7. The response repeats it.
/// 2. A span with `request.id`, method and matched route, and one log line per request when it ends. The actual path,
///    the query, headers and bodies are never logged, because callers put secrets there. Requests of the agent API are
///    recorded by `traces`, if that is on, as part of the trace in the caller's `traceparent`.
/// 3. Metrics of the agent API.
/// 4. A limit of `at_once` requests in flight. Further requests get a 503, so that probes and the JWKS are always
///    served.
/// 5. The unread rest of the body is read before the response is sent.
/// 6. Panics are caught and counted, and the response is a 500.
///
/// Call it after all routes are added: it does not apply to later ones.
pub fn observed<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    at_once: usize,
    traces: Traces,
) -> Router<S> {
    let places = Arc::new(Semaphore::new(at_once));
    router
        .layer(CatchPanicLayer::custom(panicked as fn(Box<dyn Any + Send>) -> Response<Body>))
        .layer(middleware::from_fn(unread_body::read_to_the_end))
        .layer(middleware::from_fn_with_state(places, bounded))
        .layer(middleware::from_fn_with_state(traces, trace))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, FreshId))
        .layer(middleware::map_request(drop_invalid_id))
}

/// Rejects a request beyond the limit, unless its route is a quiet one. This error and that after a panic have the form of
/// the path's callers.
async fn bounded(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response<Body> {
    let form = Form::of(request.uri().path());
    let route = request.extensions().get::<MatchedPath>();
    let is_quiet = route.is_some_and(|route| QUIET_ROUTES.contains(&route.as_str()));
    let place = if is_quiet { None } else { places.try_acquire().ok() };
    if place.is_none() && !is_quiet {
        let reason = "too many requests in flight".into();
        return form.response(ApiError::Unavailable { reason, retry_after: RETRY_CROWDED });
    }
    let response = next.run(request).await;
    if response.extensions().get::<Panicked>().is_some() {
        return form.response(ApiError::Internal("the handler panicked".into()));
    }
    response
}

#[derive(Clone, Copy, Debug)]
struct FreshId;

impl MakeRequestId for FreshId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        let id = Uuid::now_v7().to_string();
        HeaderValue::try_from(id).ok().map(RequestId::new)
    }
}

/// True if `id` is safe in log lines and headers.
fn is_valid(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=LONGEST_ID).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=~".contains(b))
}

/// Removes an invalid or repeated request ID of the caller, so that a new one replaces it.
async fn drop_invalid_id(mut request: Request) -> Request {
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    let keep = matches!((ids.next(), ids.next()), (Some(id), None) if is_valid(id));
    if !keep {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Runs a request in its span, and logs its end.
async fn trace(State(traces): State<Traces>, mut request: Request, next: Next) -> Response<Body> {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let id = request.extensions().get::<RequestId>();
    let id = id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    let span = log_fields::span(id, request.method(), route);
    let agent_api = AgentApi::of(request.method(), route);
    let caller = agent_api.and_then(|_| caller_trace(&request));
    let recorded = agent_api.and_then(|_| traces.request(caller));
    if let Some(recorded) = &recorded {
        recorded.requested(request.method().as_str(), route, id);
    }
    if let Some(context) = recorded.as_ref().map(RequestTrace::context).or(caller) {
        log_fields::trace(&span, context);
    }
    let mut line = Line {
        quiet: QUIET_ROUTES.contains(&route),
        agent_api,
        began: Instant::now(),
        answered: false,
        span: span.clone(),
        recorded: recorded.clone(),
    };
    if let Some(recorded) = recorded {
        request.extensions_mut().insert(recorded);
    }
    let response = next.run(request).instrument(span).await;
    line.answered(&response);
    response
}

/// Returns the place in the caller's trace, if its `traceparent` is valid.
fn caller_trace(request: &Request) -> Option<TraceContext> {
    TraceContext::parse(request.headers().get(TRACEPARENT)?.to_str().ok()?)
}

/// Logs how a request ended, also if the caller disconnected before the response.
struct Line {
    quiet: bool,
    agent_api: Option<AgentApi>,
    began: Instant,
    answered: bool,
    span: tracing::Span,
    recorded: Option<RequestTrace>,
}

impl Line {
    fn answered(&mut self, response: &Response<Body>) {
        let (status, is_expected) =
            (response.status(), response.extensions().get::<ExpectedUnavailable>().is_some());
        self.answered = true;
        let took = self.began.elapsed();
        if let Some(endpoint) = self.agent_api {
            metrics::agent_api_answered(endpoint, status.as_u16());
            if endpoint == AgentApi::Provision && status.is_success() {
                metrics::provisioned(took);
            }
        }
        let (status, duration_ms) = (status.as_u16(), took.as_secs_f64() * 1e3);
        if let Some(recorded) = &self.recorded {
            recorded.answered(status);
        }
        let _entered = self.span.enter();
        match status {
            _ if self.quiet => tracing::debug!(http.status = status, duration_ms, "request completed"),
            500.. if !is_expected => {
                tracing::warn!(http.status = status, duration_ms, "request completed with a server error");
            }
            _ => tracing::info!(http.status = status, duration_ms, "request completed"),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.answered {
            let duration_ms = self.began.elapsed().as_secs_f64() * 1e3;
            self.span.in_scope(|| tracing::info!(duration_ms, "caller disconnected before the response"));
        }
    }
}

/// Marks the response after a panic, until [`bounded`] gives it the form of its callers.
#[derive(Clone, Copy, Debug)]
struct Panicked;

/// The response after a panic in a handler. The panic message is only logged (`nas_cron_base::logging::init`).
fn panicked(_: Box<dyn Any + Send>) -> Response<Body> {
    metrics::panicked(PanicPlace::Http);
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Panicked);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use axum::http::header::CONTENT_TYPE;
    use axum::routing::{get, post};
    use nas_cron_base::testing::LogLines as Lines;
    use tower::ServiceExt;

    use super::*;
    use crate::metrics::tests::counted;

    async fn broken() {
        panic!("a secret")
    }

    fn app() -> Router {
        let router = Router::new()
            .route("/api/agent-cron/provision", post(|| async { tracing::info!("inside") }))
            .route("/api/admin/agents/{instance_id}", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
            .route("/healthz", get(|| async {}))
            .route("/slow", get(std::future::pending::<()>))
            .route("/api/agent-cron/list", get(broken))
            .route("/api/admin/orgs", get(broken));
        observed(router, 2, Traces::off())
    }

    fn request(method: &str, uri: &str) -> axum::http::request::Builder {
        axum::http::Request::builder().method(method).uri(uri)
    }

    async fn send(request: axum::http::request::Builder) -> Response<Body> {
        app().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// The log lines as JSON, without the fields that differ from run to run.
    fn logged(lines: &Lines) -> String {
        let lines = lines.json().into_iter().map(|mut line| {
            line.as_object_mut().unwrap().remove("target");
            if let Some(took) = line.as_object_mut().unwrap().remove("duration_ms") {
                assert!(took.as_f64().unwrap() >= 0.0);
            }
            line.to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn valid_request_id_is_kept_echoed_and_in_every_log_line() {
        let (lines, _guard) = Lines::collect("info");
        let response =
            send(request("POST", "/api/agent-cron/provision?token=s3cret").header("X-Request-Id", "trace-1"))
                .await;
        assert_eq!(response.headers()["x-request-id"], "trace-1");
        insta::assert_snapshot!(logged(&lines), @r#"
        {"level":"INFO","message":"inside","spans":[{"http.method":"POST","http.route":"/api/agent-cron/provision","name":"request","request.id":"trace-1"}]}
        {"http.status":200,"level":"INFO","message":"request completed","spans":[{"http.method":"POST","http.route":"/api/agent-cron/provision","name":"request","request.id":"trace-1"}]}
        "#);
    }

    #[tokio::test]
    async fn invalid_request_id_is_replaced_by_a_new_one() {
        let long = "x".repeat(LONGEST_ID + 1);
        for invalid in ["", "a b", "<script>", "\"quoted\"", long.as_str()] {
            let response = send(request("GET", "/healthz").header("x-request-id", invalid)).await;
            let id = response.headers()["x-request-id"].to_str().unwrap();
            assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7, "{invalid:?} became {id}");
        }
        let response =
            send(request("GET", "/healthz").header("x-request-id", "a").header("x-request-id", "b")).await;
        assert_ne!(response.headers()["x-request-id"], "a");
        assert_eq!(response.headers().get_all("x-request-id").iter().count(), 1);
    }

    #[tokio::test]
    async fn log_lines_contain_the_route_and_never_the_path() {
        let (lines, _guard) = Lines::collect("info");
        send(request("GET", "/api/admin/agents/inst-secret").header("x-request-id", "1")).await;
        send(request("GET", "/nowhere/s3cret").header("x-request-id", "2")).await;
        send(request("GET", "/healthz").header("x-request-id", "3")).await;
        insta::assert_snapshot!(logged(&lines), @r#"
        {"http.status":503,"level":"WARN","message":"request completed with a server error","spans":[{"http.method":"GET","http.route":"/api/admin/agents/{instance_id}","name":"request","request.id":"1"}]}
        {"http.status":404,"level":"INFO","message":"request completed","spans":[{"http.method":"GET","http.route":"(none)","name":"request","request.id":"2"}]}
        "#);
    }

    #[tokio::test]
    async fn requests_beyond_the_limit_are_rejected_and_probes_are_not() {
        let app = app();
        let mut waiting: Vec<_> = (0..2)
            .map(|_| Box::pin(app.clone().oneshot(request("GET", "/slow").body(Body::empty()).unwrap())))
            .collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        let get = async |path| {
            app.clone().oneshot(request("GET", path).body(Body::empty()).unwrap()).await.unwrap()
        };
        let refused = get("/nowhere").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "2");
        assert_eq!(get("/healthz").await.status(), StatusCode::OK);
        drop(waiting);
        assert_eq!(get("/nowhere").await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn probes_are_logged_at_debug() {
        let (lines, _guard) = Lines::collect("nas_cron=debug");
        send(request("GET", "/healthz").header("x-request-id", "3")).await;
        let logged = logged(&lines);
        assert!(logged.contains(r#""level":"DEBUG""#) && logged.contains("/healthz"), "{logged}");
    }

    #[tokio::test]
    async fn disconnected_caller_is_logged() {
        let (lines, _guard) = Lines::collect("info");
        let mut call = Box::pin(send(request("GET", "/slow").header("x-request-id", "4")));
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        assert!(logged(&lines).contains("caller disconnected before the response"), "{}", logged(&lines));
    }

    #[test]
    fn a_panic_is_counted_and_answered_as_500_without_its_text() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let counted = counted(|| {
            let response = runtime.block_on(send(request("GET", "/api/agent-cron/list")));
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert!(response.headers().contains_key("x-request-id"));
            let body = runtime.block_on(to_bytes(response.into_body(), 1024)).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["error"], "server_error");
            assert!(!body.to_string().contains("a secret"));
        });
        assert!(counted.contains("nas_cron_panics_total{place=\"http\"} 1"), "{counted}");
        assert!(
            counted.contains("nas_cron_agent_api_requests_total{endpoint=\"list\",status_class=\"5xx\"} 1"),
            "{counted}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_problem_details_on_paths_that_agents_do_not_call() {
        let response = send(request("GET", "/api/admin/orgs")).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn provisions_are_timed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let counted = counted(|| {
            runtime.block_on(send(request("POST", "/api/agent-cron/provision")));
            runtime.block_on(send(request("GET", "/api/agent-cron/provision")));
        });
        assert!(counted.contains("nas_cron_provision_duration_seconds_count 1"), "{counted}");
        assert!(
            counted
                .contains("nas_cron_agent_api_requests_total{endpoint=\"provision\",status_class=\"4xx\"} 1"),
            "{counted}"
        );
    }
}
