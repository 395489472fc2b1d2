//! Findings about webhooks: those that fail, and secrets that cannot be read.

use nas_cron_base::terminal::{printable, shortened};
use nas_cron_protocol::admin_api::Count;

use super::Finding;
use crate::domain::webhook::{Webhook, WebhookState};

/// Maximum number of webhooks that are named.
const NAMED: usize = 5;

/// Webhooks that [`webhooks`] reads.
pub const READ_WEBHOOKS: i64 = 100;

/// Reports webhooks that fail or are about to, of `all`. `has_key`: their secrets can be decrypted.
pub fn webhooks(all: Count, failing: &[Webhook], has_key: bool) -> Finding {
    if all.is_zero() {
        return Finding::skipped("not applicable: there are no webhooks");
    }
    if !has_key {
        return Finding::wrong(
            "NAS_CRON_KEY_ENCRYPTION_KEY is not set, so no event can be signed",
            "set it to the key that encrypted the webhooks' secrets",
        );
    }
    let bad: Vec<_> = failing
        .iter()
        .filter(|webhook| match webhook.state {
            WebhookState::Enabled => webhook.failures > 0,
            WebhookState::Failed | WebhookState::Gone => true,
            WebhookState::Disabled => false,
        })
        .collect();
    if bad.is_empty() {
        return Finding::ok(format!("{}, none fails", all.of("webhook")));
    }
    let line = |webhook: &&Webhook| {
        let state = match webhook.state {
            WebhookState::Enabled => "is retrying",
            WebhookState::Gone => "was disabled by 410 Gone",
            WebhookState::Failed | WebhookState::Disabled => "failed",
        };
        let error = webhook.last_error.as_deref().unwrap_or("-");
        let error = shortened(&printable(error), 100);
        format!("{} {state}, {} pending; last error: {error}", webhook.webhook_id, webhook.pending)
    };
    let mut lines: Vec<_> = bad.iter().take(NAMED).map(line).collect();
    if bad.len() > NAMED {
        lines.push(format!("and {} more", bad.len() - NAMED));
    }
    Finding::warning(
        lines.join("\n"),
        "fix the receiver, check it with `nas-cron webhooks test ID`, then `nas-cron webhooks enable ID`; or remove it",
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::diagnosis::Status;

    fn webhook(state: WebhookState, failures: i32) -> Webhook {
        Webhook {
            webhook_id: Uuid::from_u128(7),
            url: "https://ops.example".to_owned(),
            description: None,
            org_id: None,
            types: None,
            state,
            ended_at: None,
            failing_since: None,
            failures,
            next_attempt_at: None,
            last_status: None,
            last_error: Some("no response within 15 s".to_owned()),
            pending: 4,
            old_secret_until: None,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn failing_webhooks_are_a_warning_that_names_them() {
        use WebhookState::{Disabled, Enabled, Failed};
        let all = Count::exactly(9);
        assert_eq!(webhooks(Count::exactly(0), &[], false).status, Status::Skipped);
        assert_eq!(webhooks(all, &[], false).status, Status::Wrong);
        assert_eq!(webhooks(all, &[webhook(Disabled, 3)], true).found, "9 webhooks, none fails");
        let finding = webhooks(all, &[webhook(Failed, 9), webhook(Enabled, 1)], true);
        assert_eq!(finding.status, Status::Warning);
        insta::assert_snapshot!(finding.found, @r"
        00000000-0000-0000-0000-000000000007 failed, 4 pending; last error: no response within 15 s
        00000000-0000-0000-0000-000000000007 is retrying, 4 pending; last error: no response within 15 s
        ");
        assert!(webhooks(all, &vec![webhook(Failed, 9); 7], true).found.ends_with("and 2 more"));
    }
}
