//! The login of an agent at the built-in portal, as `agents show` prints it.

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::relative;

use crate::domain::LoginEnd;
use crate::domain::login::Login;

/// Describes the state of a login, and the fix if it has ended.
pub(super) fn in_words(login: &Login, now: DateTime<Utc>) -> String {
    let ago = |at: Option<DateTime<Utc>>| at.map_or_else(|| "-".to_owned(), |at| relative(now, at));
    match login.ended_by {
        Some(LoginEnd::Reused) => format!(
            "ended {}: a spent refresh token was presented, because two homes share the login or an old copy was restored; \
             `nas-cron agents enroll` creates a new login",
            ago(login.ended_at)
        ),
        Some(LoginEnd::Replaced) => format!("ended {}: replaced", ago(login.ended_at)),
        None if login.refreshed_at.is_none() => {
            format!("created {}, not used yet", relative(now, login.created_at))
        }
        None => format!("last refreshed {}", ago(login.refreshed_at)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn ended_login_shows_the_fix() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut login = Login {
            login_id: Uuid::nil(),
            key_id: Vec::new(),
            number: 3,
            created_at: now - TimeDelta::hours(2),
            refreshed_at: None,
            ended_at: None,
            ended_by: None,
        };
        assert_eq!(in_words(&login, now), "created 2 h ago, not used yet");
        login.refreshed_at = Some(now - TimeDelta::minutes(5));
        assert_eq!(in_words(&login, now), "last refreshed 5 min ago");
        login.ended_at = Some(now - TimeDelta::minutes(4));
        login.ended_by = Some(LoginEnd::Reused);
        let told = in_words(&login, now);
        assert!(told.starts_with("ended 4 min ago: a spent") && told.contains("agents enroll"), "{told}");
    }
}
