//! Logins at our own portal.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};
use uuid::Uuid;

use super::LoginEnd;

/// A login as it stands after one of its refresh tokens was presented, and its instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedLogin {
    /// Whose it is.
    pub instance_id: InstanceId,
    /// Who owns that.
    pub org_id: OrgId,
    /// The session planted in it, which its access tokens carry.
    pub sid: Option<SessionId>,
    /// Whether it may call.
    pub enabled: bool,
    /// Why the login is over, if it is.
    pub ended_by: Option<LoginEnd>,
    /// Whether that is because of what was presented now.
    pub ended_now: bool,
}

/// An instance's login, for operators. Not its name, which is a part of its refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Login {
    /// Its name.
    #[serde(skip)]
    pub login_id: Uuid,
    /// Names the key that its refresh tokens are made with.
    #[serde(skip)]
    pub key_id: Vec<u8>,
    /// The last refresh token that was presented, counted from 0.
    #[serde(skip)]
    pub number: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its agent last got an access token for it.
    pub refreshed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why.
    pub ended_by: Option<LoginEnd>,
}
