//! Admin tokens: bearer tokens of which the service knows only the SHA-256.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::error::ErrorWord;
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

use crate::http::auth::bearer_token;
use crate::http::error::{ApiError, Problem, ProblemBody};

/// The hashes of the accepted admin tokens. There may be several, so that tokens can be rotated.
#[derive(Clone, Default)]
pub struct AdminTokens(Vec<[u8; 32]>);

impl AdminTokens {
    /// Accepts the tokens with these SHA-256 hashes. Without any, the admin API is off.
    pub fn new(hashes: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self(hashes.into_iter().collect())
    }

    /// True if there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if `token` is an admin token. The time depends only on the token's length.
    pub fn accept(&self, token: &str) -> bool {
        let hash = digest(&SHA256, token.as_bytes());
        let one_of = |found: Choice, known: &[u8; 32]| found | known.as_slice().ct_eq(hash.as_ref());
        self.0.iter().fold(Choice::from(0), one_of).into()
    }
}

impl std::fmt::Debug for AdminTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AdminTokens({})", self.0.len())
    }
}

/// Lets requests with an admin token through.
pub(super) async fn require(
    State(tokens): State<Arc<AdminTokens>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = if tokens.is_empty() {
        off()
    } else {
        match bearer_token(request.headers()) {
            Ok(token) if tokens.accept(token) => next.run(request).await,
            Ok(_) => {
                Problem(ApiError::InvalidToken("unknown admin token: use one whose SHA-256 is configured"))
                    .into_response()
            }
            Err(error) => Problem(error).into_response(),
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The response while the admin API is off. Not 404, which a portal's backend would take for an unknown agent.
fn off() -> Response {
    let body = ProblemBody {
        kind: "about:blank".into(),
        title: "The admin API is off".into(),
        status: StatusCode::FORBIDDEN.as_u16(),
        detail:
            "no admin token is configured: set NAS_CRON_ADMIN_TOKEN_SHA256 to the SHA-256 of a token, in hex"
                .to_owned(),
        error: ErrorWord::AdminApiOff.as_str().into(),
    };
    let problem = [(CONTENT_TYPE, "application/problem+json")];
    (StatusCode::FORBIDDEN, problem, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> [u8; 32] {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap()
    }

    #[test]
    fn several_tokens_are_accepted_so_that_they_can_be_rotated() {
        let tokens = AdminTokens::new([hash("old"), hash("new")]);
        assert!(tokens.accept("old") && tokens.accept("new"));
        for wrong in ["", "ol", "old ", "OLD", &hex::encode(hash("old"))] {
            assert!(!tokens.accept(wrong), "{wrong}");
        }
        assert!(!AdminTokens::default().accept(""));
    }

    #[test]
    fn debug_output_reveals_no_token() {
        let tokens = AdminTokens::new([hash("old")]);
        assert_eq!(format!("{tokens:?}"), "AdminTokens(1)");
    }
}
