//! The operators' page, `/ops`: what fires, what does not, and the forms that fix it. docs/operators-page.md describes it.
//!
//! Pages are rendered on the server, over the same [`crate::operations`] as the admin API, and work without scripts. A request
//! passes these files:
//!
//! | file | does |
//! |---|---|
//! | `headers` | the content security policy, for every response |
//! | `gate` | finds the session, and checks that a form comes from one of its pages |
//! | `pages` | one file for each page: reads parameters, calls operations, fills a template |
//! | `live` | the data of pages that refresh themselves, read once for all who look at them |
//! | `actions` | carries out a form once: role, audit log, operation, and the way back to the page |
//! | `view`, `frame` | pieces of HTML, and the layout around every page |
//!
//! CONTRIBUTING.md describes how to add a page.

mod actions;
mod assets;
mod cookie;
mod failure;
mod form;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod gate;
mod headers;
mod live;
mod pages;
mod session;
mod sign_in;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use nas_cron_protocol::admin_api::Overview;
use nas_cron_protocol::{InstanceId, JobId, OrgId};

use self::live::Live;
use self::session::Session;
use super::admin::{AdminState, Credentials};
use super::error::ErrorPage;
use crate::domain::agent_contact::AgentContact;
use crate::domain::registration::ShownAgent;
use crate::http::ApiError;
use crate::operations::OperationResult;
use crate::operations::jobs::JobStory;
use crate::operations::keys::KeyList;
use crate::operator_sessions::OperatorSessions;

/// State of the operators' page.
#[derive(Clone, Debug)]
pub(super) struct OpsState {
    /// Everything that the admin API uses.
    pub(super) admin: AdminState,
    /// The admin tokens that sign in.
    pub(super) credentials: Credentials,
    /// The sessions.
    pub(super) sessions: OperatorSessions,
    /// The stories of the jobs that operators look at.
    stories: Live<(Option<OrgId>, InstanceId, JobId), JobStory>,
    /// The agents of pages that refresh themselves.
    agents: Live<(Option<OrgId>, InstanceId), (ShownAgent, AgentContact)>,
    /// The signing keys.
    keys: Live<(), KeyList>,
}

impl OpsState {
    /// The operators' page beside an admin API.
    pub(super) fn new(admin: AdminState, credentials: Credentials, sessions: OperatorSessions) -> Self {
        Self {
            admin,
            credentials,
            sessions,
            stories: Live::default(),
            agents: Live::default(),
            keys: Live::default(),
        }
    }

    /// Returns the overview for a page. The page that follows a form shows what the form has changed.
    async fn overview(&self, session: &Session) -> OperationResult<Arc<Overview>> {
        let (overviews, org) = (&self.admin.overviews, session.actor.org_filter());
        if session.sent.is_some() { overviews.now(org).await } else { overviews.of(org).await }
    }
}

/// Returns the routes below `/ops`, for the listener of the admin API.
pub(super) fn router(state: OpsState) -> Router {
    let gate = from_fn_with_state(state.clone(), gate::require);
    Router::new()
        .route("/ops", get(pages::now::show))
        .route("/ops/load", get(pages::load::show))
        .route("/ops/backends", get(pages::backends::show))
        .route("/ops/backends/switch", get(pages::switch::show))
        .route("/ops/jobs", get(pages::jobs::show))
        .route("/ops/job", get(pages::job::show))
        .route("/ops/batch", get(pages::batch::show).post(pages::batch::chosen))
        .route("/ops/dead-letters", get(pages::dead_letters::show))
        .route("/ops/agents", get(pages::agents::show))
        .route("/ops/agent", get(pages::agent::show))
        .route("/ops/holds", get(pages::holds::show))
        .route("/ops/events", get(pages::events::show))
        .route("/ops/webhook", get(pages::webhook::show))
        .route("/ops/audit", get(pages::audit::show))
        .route("/ops/actions/{operation}", post(actions::carry_out))
        .route("/ops/sign-out", post(sign_in::sign_out))
        .route("/ops/{*unknown}", get(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(gate)
        // The sign-in needs no session.
        .route("/ops/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/ops/assets/{file}", get(assets::get))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(headers::add))
        .with_state(state)
}

async fn wrong_method() -> ErrorPage {
    ErrorPage(ApiError::MethodNotAllowed)
}

async fn unknown() -> ErrorPage {
    ErrorPage(ApiError::NotFound("there is no such page; the navigation has all of them".into()))
}
