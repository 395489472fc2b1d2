//! Export of the metrics: the recorder and `GET /metrics`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio_util::task::AbortOnDropHandle;

use super::{
    backends, build, connections, database, fires, health, keys, one_shots, panics, process, quotas,
    requests, traces, webhooks,
};

/// Interval at which histogram samples are aggregated, so that memory stays bounded without scrapes.
const AGGREGATION_PERIOD: Duration = Duration::from_secs(5);

/// Installs the global recorder and describes the metrics. Repeated calls return the same handle.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = recorder();
        let handle = recorder.handle();
        process::started();
        metrics::with_local_recorder(&recorder, || {
            describe();
            build::set();
        });
        // Only a host program can have installed another recorder; this one then stays empty.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed, so /metrics stays empty");
        }
        handle
    };
    HANDLE.get_or_init(install).clone()
}

pub(super) fn recorder() -> PrometheusRecorder {
    [fires::BUCKETS, requests::BUCKETS]
        .into_iter()
        .flatten()
        .fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
            builder
                .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                .expect("no list of buckets is empty")
        })
        .build_recorder()
}

/// Describes every metric, and initializes those whose zero is meaningful before the first event.
pub(super) fn describe() {
    fires::describe();
    one_shots::describe();
    backends::describe();
    requests::describe();
    quotas::describe();
    panics::describe();
    connections::describe();
    webhooks::describe();
    traces::describe();
    build::describe();
    database::describe();
    keys::describe();
    health::describe();
}

/// The state of `GET /metrics`.
#[derive(Clone)]
struct Export {
    handle: PrometheusHandle,
    /// Sets the gauges that are read at a scrape.
    refresh: Arc<dyn Fn() + Send + Sync>,
    /// Ends with the router.
    _aggregation: Arc<AbortOnDropHandle<()>>,
}

/// Returns the router of `GET /metrics`, for its own listener. `refresh` sets the gauges that are read at a
/// scrape. Requires a Tokio runtime: aggregation runs until the router is dropped.
pub fn router(handle: PrometheusHandle, refresh: impl Fn() + Send + Sync + 'static) -> Router {
    let aggregation = tokio::spawn({
        let handle = handle.clone();
        async move {
            let mut ticks = tokio::time::interval(AGGREGATION_PERIOD);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        }
    });
    let aggregation = Arc::new(AbortOnDropHandle::new(aggregation));
    let state = Export { handle, refresh: Arc::new(refresh), _aggregation: aggregation };
    Router::new().route("/metrics", get(render)).with_state(state)
}

async fn render(State(export): State<Export>) -> impl IntoResponse {
    (export.refresh)();
    health::set_runtime();
    let page = export.handle.render() + &process::page();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;
    use crate::metrics::{PanicPlace, panicked};

    #[tokio::test]
    async fn repeated_installs_share_one_recorder() {
        let (one, other) = (install(), install());
        panicked(PanicPlace::Background);
        assert!(one.render().contains("nas_cron_panics_total{place=\"background\"}"));
        let response = router(other, || {})
            .oneshot(Request::get("/metrics").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        for part in ["# HELP nas_cron_panics_total", "\nnas_cron_build_info{version=\"", "\nprocess_max_fds "]
        {
            assert!(body.contains(part), "{part} in {body}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn aggregation_ends_with_its_router() {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let router = router(recorder().handle(), || {});
        tokio::time::advance(AGGREGATION_PERIOD * 3).await;
        assert_eq!(alive(), 1);
        drop(router);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(alive(), 0);
    }
}
