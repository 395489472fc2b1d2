//! `/docs`: the `OpenAPI` document as a page, for operators.
//!
//! The page and its viewer (`RapiDoc`, in `rapidoc/`) are part of the binary. The content security policy lets the page
//! load nothing from another host, and run no script but the viewer. A token that an operator enters stays in the page.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

const PAGE: &str = include_str!("page.html");
const VIEWER: &[u8] = include_bytes!("rapidoc/rapidoc-min.js");
/// Path of the viewer. It contains the version, so that browsers may keep the file.
const VIEWER_PATH: &str = "/docs/rapidoc-9.3.8.js";

/// The viewer sets styles inline. Nothing else is needed but its script and the document.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of both responses.
const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
];

/// Returns the routes of the page, for the listener of the admin API.
pub(super) fn routes() -> Router {
    Router::new().route("/docs", get(page)).route(VIEWER_PATH, get(viewer))
}

async fn page() -> impl IntoResponse {
    let own = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (HEADERS, own, PAGE)
}

async fn viewer() -> impl IntoResponse {
    let own = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (HEADERS, own, VIEWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_names_the_viewer_by_its_path_and_has_no_script_of_its_own() {
        assert!(PAGE.contains(&format!("src=\"{}\"", &VIEWER_PATH[1..])));
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert!(!PAGE.contains("://"), "it loads nothing from another host");
    }
}
