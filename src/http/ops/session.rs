//! The session of a request: the operator, and the rights that decide which forms a page has.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::frame::{Frame, Notice, Who};
use super::view::with_times;
use crate::domain::actor::Actor;
use crate::http::ApiError;
use crate::http::admin::access::{self, permitted};
use crate::http::extract::QueryParams;
use crate::operator_sessions::{Bearing, Submission};

/// Parameter that names the form whose result a page shows.
pub(super) const SENT: &str = "sent";

/// The session of a request, and what all of its pages need.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// ID of the session.
    pub(super) id: Bearing,
    /// The operator.
    pub(super) actor: Actor,
    /// The database's time.
    pub(super) now: DateTime<Utc>,
    /// Path of the page.
    pub(super) path: String,
    /// Query of the page, without [`SENT`].
    pub(super) query: String,
    /// True if the page refreshes itself.
    pub(super) by_itself: bool,
    /// The form that was sent last, if the page is to show its result.
    pub(super) sent: Option<Submission>,
}

impl Session {
    /// Returns the layout of a page.
    pub(super) fn frame(&self, title: impl Into<String>) -> Frame {
        Frame {
            title: title.into(),
            section: None,
            crumbs: Vec::new(),
            who: Some(Who {
                name: self.actor.name.clone(),
                role: self.actor.role,
                org: self.actor.org.as_ref().map(ToString::to_string),
                form_token: self.id.form_token(),
            }),
            notice: self.sent.as_ref().map(|sent| notice(sent, self.now)),
        }
    }

    /// Returns the path and query of the page.
    pub(super) fn here(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// Reads the parameters of the page.
    pub(super) fn params(&self, known: &[&str]) -> Result<QueryParams, ApiError> {
        QueryParams::parse(Some(&self.query), known)
    }

    /// True if the operator may carry out an operation, whatever it is about.
    pub(super) fn may(&self, operation: &str) -> bool {
        self.require(operation).is_ok()
    }

    /// Fails unless the operator may carry out an operation, whatever it is about.
    pub(super) fn require(&self, operation: &str) -> Result<(), ApiError> {
        let row = access::operation(operation);
        let row =
            row.ok_or_else(|| ApiError::Internal(format!("no operation is named {operation}").into()))?;
        permitted(&self.actor, row, &[])
    }

    /// Returns what every form of the session carries: its token, a fresh ID, and the page to return to.
    pub(super) fn proof(&self) -> Proof {
        Proof { form_token: self.id.form_token(), submission_id: Uuid::new_v4(), back: self.here() }
    }
}

/// The proof that a form comes from a page of the session, and where it leads back to.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// Proves that the form comes from a page of the session.
    pub(super) form_token: String,
    /// Makes the form effective once.
    pub(super) submission_id: Uuid,
    /// The page to return to.
    pub(super) back: String,
}

fn notice(sent: &Submission, now: DateTime<Utc>) -> Notice {
    let text = sent.answer.clone();
    let text = text.unwrap_or_else(|| {
        "The form was sent already, and is being carried out. Reload to see the result; the audit log has what was changed."
            .to_owned()
    });
    Notice { outcome: sent.outcome, html: with_times(&text, now) }
}

/// The session, as the gate has found it.
impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every page but the sign-in is behind the gate.
        Ok(parts.extensions.get::<Self>().cloned().expect("the gate has found the session"))
    }
}
