//! `/api/admin/webhooks` and `/api/admin/events`: webhooks, their deliveries, and events.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::{Fields, FieldsError, OrgId};
use serde_json::{Map, Value};
use tracing::info;
use uuid::Uuid;

use super::AdminState;
use crate::domain::actor::Actor;
use crate::domain::event::{EventFilter, EventType};
use crate::domain::webhook::Webhook;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{JsonBody, PathNames, QueryParams, refuse};
use crate::http::noted::Notes;
use crate::webhooks::input::{WebhookPurpose, WebhookUrl};
use crate::webhooks::manage::Tested;
use crate::webhooks::views::{CreatedWebhook, DeliveryPage, EventPage, RotatedSecret, WebhookList};
use crate::webhooks::{WebhookError, input};

/// Default number of items per page.
const DEFAULT_LIMIT: u32 = 50;
/// Maximum number of items per page.
const MAX_LIMIT: u32 = 200;

type Body = Result<JsonBody<Map<String, Value>>, ApiError>;

/// A webhook to create.
#[derive(utoipa::ToSchema)]
#[schema(as = NewWebhook)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents what `input::wanted` reads")]
pub(super) struct NewWebhookBody {
    /// URL that receives the events: https and a public address, unless `callback_allow` permits it. It may have a query.
    url: WebhookUrl,
    /// Purpose, for people.
    description: Option<WebhookPurpose>,
    /// Only events of this org. Default: the org of the admin token, if it has one; else the whole service.
    org_id: Option<OrgId>,
    /// Only events of these types. Default: all types, those of later releases included.
    #[schema(min_items = 1)]
    types: Option<Vec<EventType>>,
}

/// A change of a webhook. Omitted fields keep their value.
#[derive(utoipa::ToSchema)]
#[schema(as = WebhookChange)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "documents what `input::change` reads")]
pub(super) struct WebhookChangeBody {
    /// Its new URL. Its next attempt is due at once.
    url: Option<WebhookUrl>,
    /// Its new purpose. `null` removes it.
    description: Option<WebhookPurpose>,
    /// Its new types. `null`: all types.
    #[schema(min_items = 1)]
    types: Option<Vec<EventType>>,
    /// `true` enables it, also after it has failed: the events that wait are sent at once. `false` disables it.
    enabled: Option<bool>,
}

impl From<WebhookError> for ApiError {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::Unknown(_) | WebhookError::UnknownEvent { .. } => {
                Self::NotFound(error.to_string().into())
            }
            WebhookError::TooMany
            | WebhookError::NotEnabled(_)
            | WebhookError::NoKeyEncryptionKey
            | WebhookError::WrongKey(_) => Self::Conflict(error.to_string().into()),
            WebhookError::Invalid(error) => error.into(),
            WebhookError::Encryption(error) => Self::Internal(error.into()),
            WebhookError::Db(error) => Self::Store(error.into()),
        }
    }
}

/// Returns the webhook in the path. An ID that the service cannot have created is unknown.
fn named(path: PathNames<String>) -> Result<Uuid, ApiError> {
    path.known(|text| Uuid::try_parse(&text).ok()).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::NotFound("no such webhook exists".into())
}

fn invalid(error: FieldsError) -> ApiError {
    match error {
        FieldsError::Invalid(invalid) => invalid.into(),
        other => ApiError::Body(other.to_string()),
    }
}

/// Reads the cursor and the limit of a page.
fn paging(query: &QueryParams) -> Result<(Option<i64>, u32), ApiError> {
    let wrong = |_| refuse("before", "must be the `next` of the previous page");
    let before = query.text("before").map(|text| text.parse().map_err(wrong)).transpose()?;
    Ok((before, query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT)))
}

/// List webhooks
#[utoipa::path(get, path = "/api/admin/webhooks", operation_id = "list_webhooks", tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = Option<OrgId>, Query, description = "Only webhooks of this org.")),
    responses((status = OK, description = "The webhooks.", body = WebhookList)))]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<WebhookList>, Problem> {
    let org_id = query.text("org_id").map(OrgId::new).transpose()?;
    if org_id.as_ref().is_some_and(|org_id| !actor.sees(org_id)) {
        return Ok(Json(WebhookList { webhooks: Vec::new(), more: false }));
    }
    let (webhooks, more) = state.webhooks.list(org_id.as_ref().or(actor.org_filter())).await?;
    Ok(Json(WebhookList { webhooks, more }))
}

/// Create a webhook
///
/// It gets the events that happen from now on, signed by the Standard Webhooks specification. The response contains the
/// secret, which is not shown again.
#[utoipa::path(post, path = "/api/admin/webhooks", operation_id = "create_webhook", tag = "admin",
    security(("admin_token" = [])),
    request_body(content = NewWebhookBody, content_type = "application/json"),
    responses(
        (status = CREATED, description = "The webhook was created.", body = CreatedWebhook,
            headers(("Location" = String, description = "Path of the webhook."))),
        (status = CONFLICT, description = "The org, or the service for one without an org, has 200 webhooks already; or no key-encryption key is configured."),
    ))]
pub(super) async fn create(
    State(state): State<AdminState>,
    actor: Actor,
    notes: Notes,
    body: Body,
) -> Result<Response, Problem> {
    let mut wanted = input::wanted(Fields::from_map(body?.0)).map_err(invalid)?;
    if let Some(own) = actor.org_filter() {
        let org_id = wanted.org_id.get_or_insert_with(|| own.clone());
        if org_id != own {
            Err(refuse("org_id", "must be the org of the admin token"))?;
        }
    }
    if let Some(org_id) = &wanted.org_id {
        notes.about("org_id", org_id);
    }
    let created = state.webhooks.create(wanted).await?;
    let webhook = &created.webhook;
    notes.about("webhook_id", webhook.webhook_id);
    info!(webhook.id = %webhook.webhook_id, org.id = webhook.org_id, actor = actor.name, "webhook created");
    let location = format!("/api/admin/webhooks/{}", webhook.webhook_id);
    let body = Json(CreatedWebhook::from(created));
    Ok((StatusCode::CREATED, [(LOCATION, location)], body).into_response())
}

/// Read a webhook
#[utoipa::path(get, path = "/api/admin/webhooks/{webhook_id}", operation_id = "get_webhook", tag = "admin",
    security(("admin_token" = [])),
    params(("webhook_id" = Uuid, Path, description = "The webhook's ID.")),
    responses((status = OK, description = "The webhook.", body = Webhook), UnknownWebhook))]
pub(super) async fn get(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<Webhook>, Problem> {
    Ok(Json(state.webhooks.find(named(path)?, actor.org_filter()).await?))
}

/// Error of every operation on one webhook.
#[derive(utoipa::IntoResponses)]
#[response(status = 404, description = "There is no webhook with this ID.")]
pub(super) struct UnknownWebhook;

/// Change a webhook
///
/// Enabling it starts anew: the events that wait are sent at once.
#[utoipa::path(patch, path = "/api/admin/webhooks/{webhook_id}", operation_id = "update_webhook", tag = "admin",
    security(("admin_token" = [])),
    params(("webhook_id" = Uuid, Path, description = "The webhook's ID.")),
    request_body(content = WebhookChangeBody, content_type = "application/json"),
    responses(
        (status = OK, description = "The changed webhook.", body = Webhook),
        UnknownWebhook,
    ))]
pub(super) async fn patch(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    body: Body,
) -> Result<Json<Webhook>, Problem> {
    let webhook_id = named(path)?;
    let change = input::change(Fields::from_map(body?.0)).map_err(invalid)?;
    let webhook = state.webhooks.update(webhook_id, actor.org_filter(), change).await?;
    info!(webhook.id = %webhook_id, webhook.state = %webhook.state, actor = actor.name, "webhook changed");
    Ok(Json(webhook))
}

/// Delete a webhook
///
/// Its deliveries are deleted, too. An attempt in flight may still arrive.
#[utoipa::path(delete, path = "/api/admin/webhooks/{webhook_id}", operation_id = "delete_webhook", tag = "admin",
    security(("admin_token" = [])),
    params(("webhook_id" = Uuid, Path, description = "The webhook's ID.")),
    responses((status = NO_CONTENT, description = "The webhook was deleted."), UnknownWebhook))]
pub(super) async fn delete(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<StatusCode, Problem> {
    let webhook_id = named(path)?;
    state.webhooks.delete(webhook_id, actor.org_filter()).await?;
    info!(webhook.id = %webhook_id, actor = actor.name, "webhook deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Rotate a webhook's secret
///
/// For 24 hours, deliveries carry a signature of the previous secret as well. The secret before it is no longer used.
#[utoipa::path(post, path = "/api/admin/webhooks/{webhook_id}/rotate-secret", operation_id = "rotate_webhook_secret",
    tag = "admin", security(("admin_token" = [])),
    params(("webhook_id" = Uuid, Path, description = "The webhook's ID.")),
    responses(
        (status = OK, description = "The new secret.", body = RotatedSecret),
        UnknownWebhook,
        (status = CONFLICT, description = "No key-encryption key is configured."),
    ))]
pub(super) async fn rotate_secret(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<RotatedSecret>, Problem> {
    let webhook_id = named(path)?;
    let rotated = state.webhooks.rotate_secret(webhook_id, actor.org_filter()).await?;
    info!(webhook.id = %webhook_id, actor = actor.name, "secret of a webhook rotated");
    Ok(Json(rotated.into()))
}

/// Test a webhook
///
/// Sends `webhook.tested` at once, whatever the state of the webhook, and waits up to 15 s for the response.
#[utoipa::path(post, path = "/api/admin/webhooks/{webhook_id}/test", operation_id = "test_webhook", tag = "admin",
    security(("admin_token" = [])),
    params(("webhook_id" = Uuid, Path, description = "The webhook's ID.")),
    responses(
        (status = OK, description = "The result of the attempt, accepted or not.", body = Tested),
        UnknownWebhook,
        (status = CONFLICT, description = "The secret could not be decrypted."),
    ))]
pub(super) async fn test(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
) -> Result<Json<Tested>, Problem> {
    Ok(Json(state.webhooks.test(named(path)?, actor.org_filter()).await?))
}

/// List a webhook's deliveries
///
/// Returns one page, the latest event first, with the attempts of each.
#[utoipa::path(get, path = "/api/admin/webhooks/{webhook_id}/deliveries", operation_id = "list_webhook_deliveries",
    tag = "admin", security(("admin_token" = [])),
    params(
        ("webhook_id" = Uuid, Path, description = "The webhook's ID."),
        ("limit" = Option<u32>, Query, description = "Maximum number of deliveries, from 1 to 200. Default: 50.", minimum = 1, maximum = 200),
        ("before" = Option<i64>, Query, description = "Resume before this cursor: the `next` of the previous page."),
    ),
    responses(
        (status = OK, description = "A page of deliveries.", body = DeliveryPage),
        UnknownWebhook,
    ))]
pub(super) async fn deliveries(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<String>,
    query: QueryParams,
) -> Result<Json<DeliveryPage>, Problem> {
    let (before, limit) = paging(&query)?;
    let page = state.webhooks.deliveries(named(path)?, actor.org_filter(), before, limit).await?;
    Ok(Json(page.into()))
}

/// Deliver an event again
///
/// Queues an event for a webhook, also one that it has accepted or refused. The event keeps its ID.
#[utoipa::path(post, path = "/api/admin/webhooks/{webhook_id}/deliveries/{event_id}/redeliver",
    operation_id = "redeliver_event", tag = "admin", security(("admin_token" = [])),
    params(
        ("webhook_id" = Uuid, Path, description = "The webhook's ID."),
        ("event_id" = Uuid, Path, description = "The event's ID."),
    ),
    responses(
        (status = ACCEPTED, description = "The event waits for its delivery."),
        (status = NOT_FOUND, description = "There is no such webhook, or no such event in its scope."),
        (status = CONFLICT, description = "The webhook is not enabled."),
    ))]
pub(super) async fn redeliver(
    State(state): State<AdminState>,
    actor: Actor,
    path: PathNames<(String, String)>,
) -> Result<StatusCode, Problem> {
    let ids =
        path.known(|(webhook, event)| Some((Uuid::try_parse(&webhook).ok()?, Uuid::try_parse(&event).ok()?)));
    let (webhook_id, event_id) = ids.ok_or_else(unknown)?;
    state.webhooks.redeliver(webhook_id, event_id, actor.org_filter()).await?;
    info!(webhook.id = %webhook_id, event.id = %event_id, actor = actor.name, "event queued again");
    Ok(StatusCode::ACCEPTED)
}

/// List events
///
/// Returns one page, the latest event first. Events are recorded while there is a webhook.
#[utoipa::path(get, path = "/api/admin/events", operation_id = "list_events", tag = "admin",
    security(("admin_token" = [])),
    params(
        ("org_id" = Option<OrgId>, Query, description = "Only events for webhooks of this org."),
        ("type" = Option<EventType>, Query, description = "Only events of this type."),
        ("limit" = Option<u32>, Query, description = "Maximum number of events, from 1 to 200. Default: 50.", minimum = 1, maximum = 200),
        ("before" = Option<i64>, Query, description = "Resume before this cursor: the `next` of the previous page."),
    ),
    responses(
        (status = OK, description = "A page of events.", body = EventPage),
    ))]
pub(super) async fn events(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<EventPage>, Problem> {
    let (before, limit) = paging(&query)?;
    let org_id = query.text("org_id").map(OrgId::new).transpose()?;
    let kind = query.text("type").map(str::parse::<EventType>).transpose();
    let filter = EventFilter {
        org_id: org_id.map(|org_id| org_id.as_str().to_owned()),
        kind: kind.map_err(|problem| refuse("type", problem))?,
        within: actor.org_filter().map(|org_id| org_id.as_str().to_owned()),
    };
    let page = state.webhooks.events(&filter, before, limit).await?;
    Ok(Json(page.into()))
}
