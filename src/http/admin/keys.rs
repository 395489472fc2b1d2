//! `/api/admin/keys`: the keys that sign fire tokens. No response has key material.

use axum::Json;
use axum::extract::State;
use nas_cron_protocol::admin_api::KeyId;
use serde::Deserialize;
use tracing::info;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams};
use crate::http::noted::Notes;
use crate::operations::keys::{ChangedKey, KeyList, Rewrapped};

/// Returns the documented routes.
pub(super) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(rotate))
        .routes(routes!(activate))
        .routes(routes!(withdraw))
        .routes(routes!(rewrap))
}

/// List signing keys
///
/// With their states and next steps, the oldest first. Private keys are never shown.
#[utoipa::path(get, path = "/api/admin/keys", operation_id = "list_keys", tag = "admin",
    security(("admin_token" = [])),
    params(("all" = Option<bool>, Query, description = "Include removed keys. Default: false.")),
    responses((status = OK, description = "The keys.", body = KeyList)))]
async fn list(State(state): State<AdminState>, query: QueryParams) -> Result<Json<KeyList>, Problem> {
    let all = query.flag("all")?;
    Ok(Json(state.keys.list(all == Some(true)).await?))
}

/// A rotation.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyRotation)]
struct RotationRequest {
    /// `true` activates the next key at once, even if agents do not know it yet: for a leaked key only. For up to 10 minutes,
    /// agents may reject fires with 401; these are retried.
    #[serde(default)]
    now: bool,
}

/// Rotate the signing keys
///
/// Publishes a next key, which starts to sign when all caches of the JWKS contain it; or activates the next key if that is
/// so. Repeating the request begins no second rotation.
#[utoipa::path(post, path = "/api/admin/keys/rotate", operation_id = "rotate_keys", tag = "admin",
    security(("admin_token" = [])),
    request_body(content = RotationRequest, content_type = "application/json"),
    responses((status = OK, description = "The next or the activated key.", body = ChangedKey),
        (status = CONFLICT, description = "Keys rotate by hand, because an imported key is in use, or the key-encryption key is missing.")))]
async fn rotate(
    State(state): State<AdminState>,
    notes: Notes,
    body: Result<JsonBody<RotationRequest>, ApiError>,
) -> Result<Json<ChangedKey>, Problem> {
    let now = body?.0.now;
    notes.about("now", now);
    let changed = if now { state.keys.rotate_now(None).await? } else { state.keys.rotate(None).await? };
    info!(key.id = changed.kid, state = %changed.state, now, "signing keys rotated by an operator");
    notes.about("kid", &changed.kid);
    Ok(Json(changed))
}

/// Error of every operation on one key.
#[derive(utoipa::IntoResponses)]
#[response(status = 404, description = "There is no key with this ID.")]
struct UnknownKey;

fn named(path: PathNames<String>) -> Result<String, ApiError> {
    path.name("kid", KeyId::check)
}

/// Activate the next signing key
///
/// Needed only while an imported key is in use. The key must be in the JWKS that agents fetch: the first request records
/// that it is there (409), and one at least 910 s later activates it.
#[utoipa::path(post, path = "/api/admin/keys/{kid}/activate", operation_id = "activate_key", tag = "admin",
    security(("admin_token" = [])),
    params(("kid" = KeyId, Path, description = "The key's ID.")),
    responses((status = OK, description = "The key is active.", body = ChangedKey), UnknownKey,
        (status = CONFLICT, description = "It is not the next key, or agents may not know it yet.")))]
async fn activate(
    State(state): State<AdminState>,
    path: PathNames<String>,
) -> Result<Json<ChangedKey>, Problem> {
    let changed = state.keys.activate(&named(path)?).await?;
    info!(key.id = changed.kid, "signing key activated by an operator");
    Ok(Json(changed))
}

/// Withdraw the next signing key
///
/// Removes a key that never signed, and erases its private half.
#[utoipa::path(delete, path = "/api/admin/keys/{kid}", operation_id = "withdraw_key", tag = "admin",
    security(("admin_token" = [])),
    params(("kid" = KeyId, Path, description = "The key's ID.")),
    responses((status = OK, description = "The key is withdrawn.", body = ChangedKey), UnknownKey,
        (status = CONFLICT, description = "It is not the next key.")))]
async fn withdraw(
    State(state): State<AdminState>,
    path: PathNames<String>,
) -> Result<Json<ChangedKey>, Problem> {
    let changed = state.keys.withdraw(&named(path)?).await?;
    info!(key.id = changed.kid, "signing key withdrawn by an operator");
    Ok(Json(changed))
}

/// A change of the key-encryption key.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyRewrap)]
struct RewrapRequest {
    /// `true` only counts.
    #[serde(default)]
    dry_run: bool,
}

/// Encrypt the stored secrets again
///
/// With the key-encryption key of the replica that answers: signing keys and secrets of webhooks that one of its fallbacks
/// encrypts. Repeating the request changes nothing more.
#[utoipa::path(post, path = "/api/admin/keys/rewrap", operation_id = "rewrap_keys", tag = "admin",
    security(("admin_token" = [])),
    request_body(content = RewrapRequest, content_type = "application/json"),
    responses((status = OK, description = "The number of secrets by key, and what was changed.", body = Rewrapped),
        (status = CONFLICT, description = "The replica has no key-encryption key.")))]
async fn rewrap(
    State(state): State<AdminState>,
    notes: Notes,
    body: Result<JsonBody<RewrapRequest>, ApiError>,
) -> Result<Json<Rewrapped>, Problem> {
    let dry_run = body?.0.dry_run;
    notes.about("dry_run", dry_run);
    let done = state.keys.rewrap(dry_run, &mut |_, _| ()).await?;
    info!(rewrapped = done.rewrapped, dry_run, "stored secrets encrypted again by an operator");
    notes.about("rewrapped", done.rewrapped);
    Ok(Json(done))
}
