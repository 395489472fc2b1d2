//! Log lines about callers that were not admitted: the reason, and the identity that they claim.
//!
//! Anyone can cause such lines at any rate. Each is logged once per [`WINDOW`], and at most [`MAX_LINES`] different ones
//! are. Callers with a verified token have a limit of their own, which invented tokens cannot use up.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::info;

use super::AuthError;
use super::claims::AccessClaims;
use super::token::Jws;
use crate::identity::IdentityError;
use crate::identity::assertion::Assertion;

/// Time for which a line is not repeated.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of lines per window, for verified and for other callers each.
const MAX_LINES: usize = 30;
/// Maximum length of a claim in the log, in bytes. Longer IDs belong to no instance.
const MAX_CLAIM: usize = 255;

/// The identity that a credential claims. It contains no part of the credential that could be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claimed {
    /// True if the issuer vouches for the claims.
    verified: bool,
    client: Option<String>,
    audience: Option<String>,
    sid: Option<String>,
    org_id: Option<String>,
    agent_runtime_id: Option<String>,
}

impl Claimed {
    /// Returns the claims of a JWT, which are not verified. Returns nothing for any other token.
    pub(super) fn in_jwt(token: &str) -> Self {
        Jws::read(token).map_or_else(|_| Self::default(), |jws| Self::of(&jws.claimed()))
    }

    /// Returns the identity in an assertion, which is not verified.
    pub(super) fn in_assertion(presented: &str) -> Self {
        let assertion = Assertion::read(presented).ok();
        let agent_runtime_id = assertion.map(|assertion| assertion.agent_runtime_id.to_string());
        Self { agent_runtime_id, ..Self::default() }
    }

    /// Returns the claims of a verified token.
    pub(super) fn verified(claims: &AccessClaims) -> Self {
        Self { verified: true, ..Self::of(claims) }
    }

    fn of(claims: &AccessClaims) -> Self {
        let short = |claim: &Option<String>| {
            claim.as_deref().map(|claim| claim[..claim.floor_char_boundary(MAX_CLAIM)].to_owned())
        };
        Self {
            verified: false,
            client: short(&claims.client_id),
            audience: short(&claims.audience),
            sid: short(&claims.sid),
            org_id: short(&claims.org_id),
            agent_runtime_id: None,
        }
    }
}

/// Logs callers that were not admitted.
#[derive(Debug, Default)]
pub struct RefusalLog {
    verified: Mutex<Window>,
    others: Mutex<Window>,
}

/// The lines of the current window.
#[derive(Debug, Default)]
struct Window {
    ends: Option<Instant>,
    logged: HashSet<(String, Claimed)>,
    left_out: u64,
}

impl RefusalLog {
    /// Logs a caller, unless the line was logged or the limit was reached within the window.
    pub fn note(&self, reason: &str, claimed: &Claimed) {
        let window = if claimed.verified { &self.verified } else { &self.others };
        let Some(left_out) = window.lock().admit(reason, claimed, Instant::now()) else { return };
        info!(
            reason,
            claimed.verified = claimed.verified,
            claimed.client = claimed.client,
            claimed.audience = claimed.audience,
            claimed.sid = claimed.sid,
            claimed.org = claimed.org_id,
            claimed.agent_runtime_id = claimed.agent_runtime_id,
            left_out = (left_out > 0).then_some(left_out),
            "caller not admitted"
        );
    }

    /// Logs a caller that `error` kept out. A defect of the service is logged with its response.
    pub(super) fn note_error(&self, error: &AuthError, claimed: &Claimed) {
        match error {
            AuthError::Db(error) | AuthError::Identity(IdentityError::Db(error)) if !error.is_transient() => {
            }
            error => self.note(&error.to_string(), claimed),
        }
    }
}

impl Window {
    /// Returns `None` if a line must not be logged now. Otherwise returns the number of lines that were left out in the
    /// window before, for the first line of a window, and 0 for the others.
    fn admit(&mut self, reason: &str, claimed: &Claimed, now: Instant) -> Option<u64> {
        let mut before = 0;
        if self.ends.is_none_or(|ends| now >= ends) {
            before = self.left_out;
            *self = Self { ends: Some(now + WINDOW), ..Self::default() };
        }
        let is_new =
            self.logged.len() < MAX_LINES && self.logged.insert((reason.to_owned(), claimed.clone()));
        if !is_new {
            self.left_out += 1;
            return None;
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_base::testing::LogLines;

    use super::*;

    fn client(name: &str) -> Claimed {
        Claimed { client: Some(name.to_owned()), ..Claimed::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_is_logged_once_per_window_with_the_number_of_lines_left_out() {
        let (lines, _guard) = LogLines::collect("info");
        let log = RefusalLog::default();
        for _ in 0..5 {
            log.note("expired", &client("agent:a"));
        }
        log.note("unknown", &client("agent:a"));
        log.note("expired", &client("agent:b"));
        assert_eq!(lines.json().len(), 3);
        tokio::time::advance(WINDOW).await;
        log.note("expired", &client("agent:a"));
        log.note("expired", &client("agent:b"));
        let left_out: Vec<_> = lines.json()[3..].iter().map(|line| line["left_out"].clone()).collect();
        assert_eq!(left_out, [serde_json::json!(4), serde_json::Value::Null]);
    }

    #[tokio::test(start_paused = true)]
    async fn invented_tokens_do_not_use_up_the_lines_of_verified_ones() {
        let (lines, _guard) = LogLines::collect("info");
        let log = RefusalLog::default();
        for invented in 0..1_000 {
            log.note("expired", &client(&format!("agent:{invented}")));
        }
        assert_eq!(lines.json().len(), MAX_LINES);
        log.note("unknown", &Claimed { verified: true, ..client("agent:a") });
        let last = lines.json().pop().unwrap();
        assert_eq!(last["claimed.client"], "agent:a", "{last}");
    }

    #[test]
    fn a_line_has_the_claims_in_short() {
        let (lines, _guard) = LogLines::collect("info");
        let claims = AccessClaims {
            sid: Some("ä".repeat(1_000)),
            org_id: Some("o\n1".to_owned()),
            audience: Some("agent:a".to_owned()),
            ..AccessClaims::default()
        };
        RefusalLog::default().note("expired", &Claimed::of(&claims));
        let line = lines.json().pop().unwrap();
        assert_eq!(line["claimed.sid"], "ä".repeat(127));
        assert_eq!((&line["claimed.org"], &line["claimed.audience"]), (&"o\n1".into(), &"agent:a".into()));
        assert_eq!((&line["claimed.verified"], line.get("claimed.client")), (&false.into(), None), "{line}");
    }
}
