//! Static files. Their paths contain a hash of their contents, so that browsers may keep them and still get new ones.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};

use crate::http::ApiError;
use crate::http::error::ErrorPage;

/// A static file.
struct Asset {
    /// Name in its path: `style-0123456789ab.css`.
    name: String,
    kind: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, bytes: &'static [u8]) -> Self {
        let hash = hex::encode(&digest(&SHA256, bytes).as_ref()[..6]);
        Self { name: format!("{stem}-{hash}.{extension}"), kind, bytes }
    }

    fn path(&self) -> String {
        format!("/ops/assets/{}", self.name)
    }
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new("style", "css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
        Asset::new("page", "js", "text/javascript; charset=utf-8", include_bytes!("assets/page.js")),
        Asset::new("htmx", "js", "text/javascript; charset=utf-8", include_bytes!("assets/htmx.min.js")),
    ]
});

/// Returns the path of the style sheet.
pub(in crate::http) fn style() -> String {
    ASSETS[0].path()
}

/// Returns the paths of the scripts.
pub(in crate::http) fn scripts() -> [String; 2] {
    [ASSETS[2].path(), ASSETS[1].path()]
}

/// Serves a file.
pub(super) async fn get(name: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Response {
    let found = name.ok().and_then(|Path(name)| ASSETS.iter().find(|asset| asset.name == name));
    match found {
        Some(asset) => {
            let headers =
                [(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, asset.bytes).into_response()
        }
        None => ErrorPage(ApiError::NotFound("no such file; reload the page".into())).into_response(),
    }
}
