//! `/api/admin/audit`: reads the audit log.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use nas_cron_protocol::InstanceId;

use super::AdminState;
use crate::audit::{AuditFilter, AuditLine};
use crate::domain::actor::Actor;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::{QueryParams, refuse};

/// Default number of lines per page.
const DEFAULT_LIMIT: u32 = 100;
/// Maximum number of lines per page.
const MAX_LIMIT: u32 = 1_000;

/// A page of the audit log.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(super) struct AuditPage {
    /// The lines, latest first.
    lines: Vec<AuditLine>,
    /// Value of `before` for the next page; `null` on the last page.
    next: Option<String>,
}

/// Read the audit log
///
/// Returns one page of lines, latest first. A token that is limited to an org gets the lines of this org.
#[utoipa::path(
    get,
    path = "/api/admin/audit",
    operation_id = "list_audit_log",
    tag = "admin",
    security(("admin_token" = [])),
    params(
        ("actor" = Option<String>, Query, description = "Only calls of this token or command user.", pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("action" = Option<String>, Query, description = "Only calls of this operation ID.", pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"),
        ("subject" = Option<String>, Query, description = "Only calls about this, as `name=value`: `instance_id=agent-1`.", pattern = "^[^=\\u0000-\\u001f\\u007f-\\u009f]+=[^\\u0000-\\u001f\\u007f-\\u009f]+$", example = "instance_id=agent-1"),
        ("instance_id" = Option<InstanceId>, Query, description = "Only calls about this agent, or with `subject=job_id=ID` about this job of it."),
        ("since" = Option<DateTime<Utc>>, Query, description = "Only calls at this time or later."),
        ("until" = Option<DateTime<Utc>>, Query, description = "Only calls before this time."),
        ("limit" = Option<u32>, Query, description = "Maximum number of lines, from 1 to 1000. Default: 100.", minimum = 1, maximum = 1000),
        ("before" = Option<i64>, Query, description = "Resume before this cursor: the `next` of the previous page."),
    ),
    responses(
        (status = OK, description = "A page of lines.", body = AuditPage),
    )
)]
pub(super) async fn list(
    State(state): State<AdminState>,
    actor: Actor,
    query: QueryParams,
) -> Result<Json<AuditPage>, Problem> {
    let filter = AuditFilter {
        actor: text(&query, "actor")?,
        action: text(&query, "action")?,
        subject: text(&query, "subject")?.as_deref().map(subject).transpose()?,
        instance_id: query.text("instance_id").map(InstanceId::new).transpose()?,
        since: time(&query, "since")?,
        until: time(&query, "until")?,
        within: actor.org,
    };
    let limit = query.number("limit", MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
    let before = query
        .text("before")
        .map(|text| text.parse().map_err(|_| refuse("before", "must be the `next` of the previous page")))
        .transpose()?;
    let page = state.audit.list(&filter, before, limit).await?;
    Ok(Json(AuditPage { lines: page.items, next: page.next }))
}

/// Returns a filter as text. Nothing is stored with control characters, and Postgres accepts no NUL.
fn text(query: &QueryParams, name: &str) -> Result<Option<String>, ApiError> {
    match query.text(name) {
        Some(text) if text.chars().any(char::is_control) => {
            Err(refuse(name, "must not contain control characters"))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

fn subject(text: &str) -> Result<String, ApiError> {
    crate::audit::subject(text).map_err(|problem| refuse("subject", problem))
}

fn time(query: &QueryParams, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
    let wrong = || refuse(name, "must be an RFC 3339 date-time with an offset, such as 2027-01-31T00:00:00Z");
    query
        .text(name)
        .map(|text| DateTime::parse_from_rfc3339(text).map(Into::into).map_err(|_| wrong()))
        .transpose()
}
