//! The admin API, with which the portal's backend registers the agents that it creates.
//!
//! All routes require an admin token ([`tokens`]), and return errors as problem details (RFC 9457). The operations are
//! in [`crate::directory`], which the operator's commands use as well.

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

/// State of the admin API.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The registered agents.
    pub directory: Directory,
    /// The known auth profiles.
    pub profiles: Profiles,
    /// The agents' keys and tasks.
    pub identities: IdentityRegistry,
    /// The accepted tokens. The admin API is off if there are none.
    pub tokens: Arc<AdminTokens>,
}

/// Returns the documented routes of `/api/admin`, which require an admin token.
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
        // Outermost: without a token, a caller learns nothing and no body is read.
        .layer(from_fn_with_state(Arc::clone(&state.tokens), tokens::require))
        .with_state(state)
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Unknown(_) => Self::NotFound(error.to_string().into()),
            DirectoryError::OtherOrg(_) => {
                Self::Conflict(format!("{error}; to move it to this org, add ?move_org=true").into())
            }
            DirectoryError::SessionTaken(_) => {
                Self::Conflict(format!("{error}; remove that agent or change its session first").into())
            }
            DirectoryError::Db(error) => Self::Store(error.into()),
        }
    }
}
