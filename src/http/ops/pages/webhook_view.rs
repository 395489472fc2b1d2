//! A webhook, as pages show it.

use nas_cron_base::terminal::counted;

use crate::domain::webhook::{Webhook, WebhookState};
use crate::http::ops::frame::Tone;
use crate::http::ops::view::{Html, agents_words, id, text, whole_id};

/// Its URL without its query, which may be a secret.
pub(super) fn shown_url(of: &Webhook) -> Html {
    whole_id(of.url.split('?').next().unwrap_or_default())
}

/// Its state with the number of failed attempts, as a badge.
pub(super) fn state(of: &Webhook) -> (Tone, String) {
    let tone = match of.state {
        WebhookState::Enabled if of.failures > 0 => Tone::Warning,
        WebhookState::Enabled | WebhookState::Disabled => Tone::Calm,
        WebhookState::Gone | WebhookState::Failed => Tone::Alarm,
    };
    let failures = if of.failures > 0 {
        format!(", {} failed", counted(i64::from(of.failures), "attempt"))
    } else {
        String::new()
    };
    (tone, format!("{}{failures}", of.state))
}

/// The result of its latest attempt.
pub(super) fn last_result(of: &Webhook) -> Html {
    match (&of.last_error, of.last_status) {
        (Some(error), _) => agents_words(error),
        (None, Some(status)) => text(&format!("status {status}")),
        (None, None) => Html::dash(),
    }
}

/// The types of events that it gets.
pub(super) fn types(of: &Webhook) -> String {
    of.types.as_ref().map_or_else(|| "all events".to_owned(), |types| types.join(", "))
}

/// The scope of events that it gets.
pub(super) fn scope(of: &Webhook) -> Html {
    of.org_id.as_deref().map_or_else(|| text("the whole service"), id)
}
