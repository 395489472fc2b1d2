//! Logins at the built-in portal.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};
use uuid::Uuid;

use super::LoginEnd;

/// A login and its instance, after one of its refresh tokens was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedLogin {
    /// The instance that the login belongs to.
    pub instance_id: InstanceId,
    /// The org that owns the instance.
    pub org_id: OrgId,
    /// The instance's bootstrap session, which its access tokens carry.
    pub sid: Option<SessionId>,
    /// True if the instance may call.
    pub enabled: bool,
    /// The reason for which the login has ended, if it has.
    pub ended_by: Option<LoginEnd>,
    /// True if the token that was presented now has ended the login.
    pub ended_now: bool,
}

/// An agent's last login at the built-in portal, in a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct ListedLogin {
    /// The agent.
    #[schema(value_type = InstanceId)]
    pub instance_id: String,
    /// The org that owns it.
    #[schema(value_type = OrgId)]
    pub org_id: String,
    /// The login.
    #[serde(flatten)]
    pub login: Login,
}

/// A page of logins.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct LoginPage {
    /// The last login of each agent that had one, ordered by agent.
    pub logins: Vec<ListedLogin>,
    /// Value of `after` for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// A login that was revoked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct RevokedLogin {
    /// The agent.
    #[schema(value_type = InstanceId)]
    pub instance_id: String,
    /// False if the login had ended already.
    pub revoked: bool,
}

/// An instance's login, for operators. Its id is not shown, because it is part of its refresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Login {
    /// Its id.
    #[serde(skip)]
    pub login_id: Uuid,
    /// Id of the key that its refresh tokens are derived with.
    #[serde(skip)]
    pub key_id: Vec<u8>,
    /// Number of the last refresh token that was presented, from 0.
    #[serde(skip)]
    pub number: i64,
    /// Time at which it was created.
    pub created_at: DateTime<Utc>,
    /// Time at which its agent last got an access token.
    pub refreshed_at: Option<DateTime<Utc>>,
    /// Time at which it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The reason for its end.
    pub ended_by: Option<LoginEnd>,
}
