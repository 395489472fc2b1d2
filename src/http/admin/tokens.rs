//! `/api/admin/tokens`: creates, lists and revokes admin tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use nas_cron_protocol::{Fields, InvalidField, OrgId};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tracing::info;

use super::AdminState;
use crate::admin_tokens::{AdminToken, TokenError, TokenName, Wanted};
use crate::domain::actor::{Actor, Role};
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams};
use crate::http::noted::Notes;

/// Default number of tokens per page.
const DEFAULT_LIMIT: u32 = 100;
/// Maximum number of tokens per page.
const MAX_LIMIT: u32 = 1_000;

/// An admin token to create. It has no more rights than the one that creates it.
#[derive(utoipa::ToSchema)]
#[schema(as = NewAdminToken)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents what `wanted` reads")]
pub(super) struct NewTokenBody {
    /// Name of the token, and of its caller in the audit log. No other token ever had it.
    name: TokenName,
    /// Role of the token.
    role: Role,
    /// The only org that the token may see and change. Default: that of the creating token, if it has one.
    org_id: Option<OrgId>,
    /// Time from which the token is rejected. Default: that of the creating token, if it has one.
    expires_at: Option<DateTime<Utc>>,
}

/// A created token.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(super) struct CreatedAdminToken {
    /// The bearer token. It is shown only here.
    #[schema(example = "nca_q1BMsKmDjPuPKPgGmYEVYdVYgh2IBlEwUtmYsQoYPZE")]
    token: String,
    /// The stored token, without its secret.
    #[serde(flatten)]
    stored: AdminToken,
}

/// A page of tokens.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(super) struct AdminTokenPage {
    /// The tokens, ordered by name; also expired and revoked ones.
    tokens: Vec<AdminToken>,
    /// Value of `after` for the next page; `null` on the last page.
    next: Option<String>,
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Field(error) => error.into(),
            TokenError::NameTaken(_) => Self::Conflict(error.to_string().into()),
            TokenError::Unknown(_) => Self::NotFound(error.to_string().into()),
            TokenError::Db(error) => Self::Store(error.into()),
        }
    }
}

/// Create an admin token
///
/// The response has the token itself, which is stored nowhere. Its role, org and end are at most those of the token that
/// creates it.
#[utoipa::path(
    post,
    path = "/api/admin/tokens",
    operation_id = "create_admin_token",
    tag = "admin",
    security(("admin_token" = [])),
    request_body(content = NewTokenBody, content_type = "application/json"),
    responses(
        (status = CREATED, description = "The token was created.", body = CreatedAdminToken),
        (status = CONFLICT, description = "A token with this name exists or existed."),
    )
)]
pub(super) async fn create(
    State(state): State<AdminState>,
    actor: Actor,
    notes: Notes,
    body: Result<JsonBody<Map<String, Value>>, ApiError>,
) -> Result<(StatusCode, Json<CreatedAdminToken>), Problem> {
    let wanted = wanted(Fields::from_map(body?.0)).map_err(super::agents::invalid)?;
    notes.about("token", &wanted.name);
    notes.about("role", wanted.role);
    // Without one, a caller with an org creates a token of that org.
    if let Some(org_id) = wanted.org_id.as_ref().or(actor.org_filter()) {
        notes.about("org_id", org_id);
    }
    let (token, stored) = state.tokens.create(&actor, wanted).await?;
    info!(token = stored.name, role = %stored.role, org.id = stored.org_id, "admin token created");
    let created = CreatedAdminToken { token: token.expose_secret().to_owned(), stored };
    Ok((StatusCode::CREATED, Json(created)))
}

fn wanted(mut fields: Fields) -> Result<Wanted, nas_cron_protocol::FieldsError> {
    let wanted = Wanted {
        name: TokenName::new(fields.required_text("name")?)?,
        role: role(&fields.required_text("role")?)?,
        org_id: fields.text("org_id")?.map(OrgId::new).transpose()?,
        expires_at: fields.text("expires_at")?.map(|text| end(&text)).transpose()?,
    };
    fields.finish(&["name", "role", "org_id", "expires_at"])?;
    Ok(wanted)
}

fn role(text: &str) -> Result<Role, InvalidField> {
    // Without the text: a secret may be in the wrong field.
    text.parse().map_err(|_| InvalidField::new("role", format!("must be one of {}", Role::WORDS.join(", "))))
}

fn end(text: &str) -> Result<DateTime<Utc>, InvalidField> {
    let wrong = || {
        InvalidField::new(
            "expires_at",
            "must be an RFC 3339 date-time with an offset, such as 2027-01-31T00:00:00Z",
        )
    };
    DateTime::parse_from_rfc3339(text).map(Into::into).map_err(|_| wrong())
}

/// List admin tokens
///
/// Returns one page, ordered by name. A token that is limited to an org gets those with the same limit.
#[utoipa::path(
    get,
    path = "/api/admin/tokens",
    operation_id = "list_admin_tokens",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "Maximum number of tokens, from 1 to 1000. Default: 100.", minimum = 1, maximum = 1000),
        ("after" = Option<TokenName>, Query, description = "Resume after this cursor: the `next` of the previous page."),
    ),
    responses(
        (status = OK, description = "A page of tokens.", body = AdminTokenPage),
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<AdminTokenPage>, Problem> {
    let limit = query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let after = query.text("after").map(TokenName::new).transpose();
    let after = after.map_err(|error| crate::http::extract::refuse("after", error.problem))?;
    let page = state.tokens.list(&actor, after.as_ref().map(TokenName::as_str), limit).await?;
    Ok(Json(AdminTokenPage { tokens: page.items, next: page.next }))
}

/// Revoke an admin token
///
/// Once the response is sent, every replica rejects the token. Tokens that it created stay valid: `created_by` shows them.
#[utoipa::path(
    delete,
    path = "/api/admin/tokens/{token}",
    operation_id = "revoke_admin_token",
    tag = "admin",
    security(("admin_token" = [])),
    params(("token" = TokenName, Path, description = "The token's name.")),
    responses(
        (status = NO_CONTENT, description = "Revoked, now or earlier."),
        (status = NOT_FOUND, description = "No such token exists."),
    )
)]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<StatusCode, Problem> {
    let name = path.known(|name| TokenName::new(name).ok());
    let name = name.ok_or_else(|| ApiError::NotFound("no such admin token exists".into()))?;
    state.tokens.revoke(&actor, name.as_str()).await?;
    info!(token = %name, "admin token revoked");
    Ok(StatusCode::NO_CONTENT)
}
