//! Webhooks and events as the admin API and the commands show them.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

use super::manage::{Created, Page, Rotated};
use crate::domain::event::Event;
use crate::domain::webhook::{Delivery, Webhook};

/// A created webhook.
#[derive(serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct CreatedWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// The secret that signs its deliveries. It is shown only here.
    #[schema(pattern = "^whsec_", example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwqVOGdlZ1nKI=")]
    pub secret: String,
}

/// A new secret.
#[derive(serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct RotatedSecret {
    /// The new secret. It is shown only here.
    #[schema(pattern = "^whsec_", example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwqVOGdlZ1nKI=")]
    pub secret: String,
    /// End of the time for which the previous secret signs as well.
    pub old_secret_until: DateTime<Utc>,
}

/// The webhooks of an org, or of all.
#[derive(Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct WebhookList {
    /// The webhooks, the oldest first, up to 1,000. An org has 200 at most.
    pub webhooks: Vec<Webhook>,
    /// True if there are more: list them by org.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A page of deliveries.
#[derive(Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct DeliveryPage {
    /// The deliveries, the latest event first.
    pub deliveries: Vec<Delivery>,
    /// Value of `before` for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// A page of events.
#[derive(Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct EventPage {
    /// The events, the latest first.
    pub events: Vec<Event>,
    /// Value of `before` for the next page; `null` on the last page.
    pub next: Option<String>,
}

impl From<Created> for CreatedWebhook {
    fn from(created: Created) -> Self {
        Self { secret: created.secret.expose_secret().to_owned(), webhook: created.webhook }
    }
}

impl From<Rotated> for RotatedSecret {
    fn from(rotated: Rotated) -> Self {
        let secret = rotated.secret.expose_secret().to_owned();
        Self { secret, old_secret_until: rotated.old_secret_until }
    }
}

impl std::fmt::Debug for CreatedWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedWebhook").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RotatedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = &self.old_secret_until;
        f.debug_struct("RotatedSecret").field("old_secret_until", until).finish_non_exhaustive()
    }
}

impl From<Page<Delivery>> for DeliveryPage {
    fn from(page: Page<Delivery>) -> Self {
        Self { deliveries: page.items, next: page.next.map(|place| place.to_string()) }
    }
}

impl From<Page<Event>> for EventPage {
    fn from(page: Page<Event>) -> Self {
        Self { events: page.items, next: page.next.map(|place| place.to_string()) }
    }
}
