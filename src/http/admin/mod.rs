//! The admin API, with which the portal's backend and operators register and run agents.
//!
//! All routes are behind the [`gate`], which finds the caller by its admin token, checks its role and org, and writes the
//! audit log. Errors are problem details (RFC 9457). The operations are in [`crate::directory`] and the modules beside it,
//! which the operator's commands use as well.
//!
//! A new route needs a row in [`access::OPERATIONS`] and one in the tenant matrix of the tests
//! (`tests/integration/admin/matrix.rs`); without them, neither the service nor the tests start. Its handler takes the
//! [`Actor`](crate::domain::actor::Actor) as an extractor, and passes
//! [`org_filter`](crate::domain::actor::Actor::org_filter) to its statement.

pub mod access;
mod agents;
mod audit;
mod auth_profiles;
mod backends;
mod call_rate;
mod config_tokens;
mod credentials;
mod failed_calls;
pub(in crate::http) mod gate;
mod holds;
mod identities;
mod jobs;
mod keys;
mod logins;
mod orgs;
mod overview;
mod quotas;
mod tokens;
mod webhooks;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::access::Access;
pub use self::call_rate::CALLS_PER_SECOND;
pub use self::config_tokens::ConfigTokens;
pub(in crate::http) use self::credentials::{Credentials, Holder};
use self::gate::Gate;
use crate::admin_tokens::StoredTokens;
use crate::audit::AuditLog;
use crate::auth_profiles::Profiles;
use crate::directory::{Directory, DirectoryError};
use crate::http::ApiError;
use crate::identity::registry::IdentityRegistry;
use crate::operations::backends::BackendOperations;
use crate::operations::keys::KeyOperations;
use crate::operations::overview::Overviews;
use crate::operations::{OperationError, Operations};
use crate::webhooks::Webhooks;

/// State of the admin API.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The registered agents.
    pub directory: Directory,
    /// The known auth profiles.
    pub profiles: Profiles,
    /// The agents' keys and tasks.
    pub identities: IdentityRegistry,
    /// The tokens in the database.
    pub tokens: StoredTokens,
    /// The tokens in the configuration.
    pub config_tokens: Arc<ConfigTokens>,
    /// The audit log.
    pub audit: AuditLog,
    /// The operations on jobs and holds.
    pub operations: Operations,
    /// The overviews of the service and of orgs.
    pub overviews: Overviews,
    /// The operations on signing keys.
    pub keys: KeyOperations,
    /// The operations on scheduler backends.
    pub backends: BackendOperations,
    /// Webhooks and events.
    pub webhooks: Webhooks,
}

impl AdminState {
    /// Returns the tokens that the gates accept.
    pub(super) fn credentials(&self) -> Credentials {
        Credentials::new(Arc::clone(&self.config_tokens), self.tokens.clone())
    }
}

/// Returns the documented routes of `/api/admin`, which require an admin token.
pub fn router<S: Clone + Send + Sync + 'static>(state: AdminState) -> OpenApiRouter<S> {
    let credentials = state.credentials();
    guarded(state, credentials)
}

/// Returns the routes behind a gate that shares its limit of failed calls with whoever has the same credentials.
pub(super) fn guarded<S: Clone + Send + Sync + 'static>(
    state: AdminState,
    credentials: Credentials,
) -> OpenApiRouter<S> {
    let mut router = OpenApiRouter::new()
        .routes(routes!(agents::put, agents::get, agents::delete))
        .routes(routes!(agents::list))
        .routes(routes!(agents::enable))
        .routes(routes!(agents::disable))
        .routes(routes!(agents::set_callback))
        .routes(routes!(auth_profiles::list))
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
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::get, webhooks::patch, webhooks::delete))
        .routes(routes!(webhooks::rotate_secret))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(webhooks::events))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(audit::list))
        .merge(backends::routes())
        .merge(keys::routes())
        .merge(logins::routes())
        .merge(jobs::routes())
        .merge(holds::routes())
        .merge(orgs::routes())
        .merge(overview::routes())
        .merge(quotas::routes());
    let gate = Gate {
        access: Arc::new(Access::of(router.get_openapi_mut())),
        credentials,
        audit: state.audit.clone(),
    };
    // Outermost: without a token, a caller learns nothing and no body is read.
    router.layer(from_fn_with_state(gate, gate::require)).with_state(state)
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

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Unknown(problem) => Self::NotFound(problem.into()),
            OperationError::Conflict(problem) => Self::Conflict(problem.into()),
            OperationError::Denied(denied) => denied.into(),
            OperationError::Field(invalid) => invalid.into(),
            OperationError::Directory(error) => error.into(),
            OperationError::Db(error) => Self::Store(error.into()),
        }
    }
}
