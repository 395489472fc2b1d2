//! The admin API: the portal's backend registers an agent when it creates it.
//!
//! Everything here is behind a bearer token of its own ([`tokens`]) and answers errors as problem details
//! (RFC 9457). What it does is in [`crate::directory`]; the operator's commands do the same.

mod agents;
mod auth_profiles;
mod identities;
pub mod tokens;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::tokens::AdminTokens;
use crate::auth_profiles::Profiles;
use crate::directory::{Directory, DirectoryError};
use crate::http::ApiError;
use crate::identity::registry::IdentityRegistry;

/// What the admin API works with.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// Which agents there are.
    pub directory: Directory,
    /// Which auth profiles are known.
    pub profiles: Profiles,
    /// The keys that agents call with.
    pub identities: IdentityRegistry,
    /// Who may use it; with none, it is off.
    pub tokens: Arc<AdminTokens>,
}

/// The routes of `/api/admin`, with their documentation, behind their token.
pub fn router<S: Clone + Send + Sync + 'static>(state: AdminState) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(agents::put, agents::get, agents::delete))
        .routes(routes!(agents::list))
        .routes(routes!(
            auth_profiles::get_service,
            auth_profiles::put_service,
            auth_profiles::delete_service
        ))
        .routes(routes!(auth_profiles::get_org, auth_profiles::put_org, auth_profiles::delete_org))
        .routes(routes!(
            auth_profiles::get_instance,
            auth_profiles::put_instance,
            auth_profiles::delete_instance
        ))
        .routes(routes!(identities::list))
        .routes(routes!(identities::revoke))
        .routes(routes!(identities::revoke_task))
        // Outermost: a stranger learns nothing, and no body of a stranger is read.
        .layer(from_fn_with_state(Arc::clone(&state.tokens), tokens::require))
        .with_state(state)
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Unknown(_) => Self::NotFound(error.to_string().into()),
            DirectoryError::OtherOrg(_) => {
                Self::Conflict(format!("{error}; if it has really moved, say so with ?move_org=true").into())
            }
            DirectoryError::SessionTaken(_) => Self::Conflict(
                format!("{error}; remove that agent, or give it another session, first").into(),
            ),
            DirectoryError::Db(error) => Self::Store(error.into()),
        }
    }
}
