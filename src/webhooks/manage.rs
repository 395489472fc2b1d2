//! Operations on webhooks and events, for the admin API and the operator's commands.
//!
//! `org_id` limits an operation to what belongs to this org: everything else does not exist for it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InvalidField, OrgId};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::input::{Change, Wanted};
use super::secret::Secret;
use super::sender::Sender;
use crate::db::webhooks::{self, Listed};
use crate::db::{Db, DbError, DbResult, events};
use crate::domain::event::{Event, EventFilter, EventType};
use crate::domain::sealed::Sealed;
use crate::domain::webhook::{Delivery, NewWebhook, Sent, Webhook, WebhookChange, WebhookState};
use crate::keys::KeyEncryptionKeys;
use crate::keys::encryption::{EncryptionError, KEY_ENCRYPTION_KEY_SETTING};

/// Time for which the previous secret of a webhook signs as well.
pub const SECRET_OVERLAP: Duration = Duration::from_hours(24);

/// Webhooks and events, and the parts that send them.
#[derive(Clone, Debug)]
pub struct Webhooks {
    db: Db,
    sender: Sender,
    kek: Option<Arc<KeyEncryptionKeys>>,
}

/// An operation failed. The texts name the fix.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no such webhook.
    #[error("no webhook `{0}` exists")]
    Unknown(Uuid),
    /// There is no such event for this webhook.
    #[error("webhook `{webhook_id}` has no event `{event_id}` in its scope")]
    UnknownEvent {
        /// The webhook.
        webhook_id: Uuid,
        /// The event.
        event_id: Uuid,
    },
    /// The org has too many webhooks.
    #[error("there are {} webhooks of this scope already: remove one first", webhooks::MOST)]
    TooMany,
    /// The webhook gets nothing.
    #[error("the webhook is {0}: enable it first")]
    NotEnabled(WebhookState),
    /// A value is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// No key-encryption key is configured.
    #[error(
        "{KEY_ENCRYPTION_KEY_SETTING} is not set, and secrets of webhooks are stored encrypted: set it to 32 random bytes in \
         base64 (`openssl rand -base64 32`), the same on every replica, and keep a copy"
    )]
    NoKeyEncryptionKey,
    /// A secret could not be decrypted.
    #[error(
        "decrypting the secret of webhook `{0}` with {KEY_ENCRYPTION_KEY_SETTING} and its fallbacks failed: set the key that \
         encrypted it, or rotate the secret"
    )]
    WrongKey(Uuid),
    /// The operating system returned no random bytes.
    #[error(transparent)]
    Encryption(EncryptionError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A webhook, and its secret, which is shown only once.
#[derive(Debug)]
pub struct Created {
    /// The webhook.
    pub webhook: Webhook,
    /// The secret, as receivers configure it.
    pub secret: SecretString,
}

/// A new secret of a webhook.
#[derive(Debug)]
pub struct Rotated {
    /// The secret, as receivers configure it.
    pub secret: SecretString,
    /// End of the time for which the previous one signs as well.
    pub old_secret_until: DateTime<Utc>,
}

/// The result of a test.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Tested {
    /// The event that was sent.
    pub event_id: Uuid,
    /// True if the receiver accepted it.
    pub accepted: bool,
    /// HTTP status of the response; `null` without a response.
    pub status: Option<u16>,
    /// Length of the attempt in milliseconds.
    pub duration_ms: u64,
    /// Error; `null` if the receiver accepted the event.
    pub error: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items, the latest first.
    pub items: Vec<T>,
    /// Cursor of the next page; `None` on the last one.
    pub next: Option<i64>,
}

impl Webhooks {
    /// Returns the operations. Without `kek`, those that need a secret fail.
    pub fn new(db: Db, sender: Sender, kek: Option<Arc<KeyEncryptionKeys>>) -> Self {
        Self { db, sender, kek }
    }

    /// Returns the time by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.sender.now()
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    fn kek(&self) -> Result<&KeyEncryptionKeys, WebhookError> {
        self.kek.as_deref().ok_or(WebhookError::NoKeyEncryptionKey)
    }

    fn check(&self, url: &url::Url) -> Result<(), InvalidField> {
        self.sender.check(url).map_err(|problem| InvalidField::new("url", problem))
    }

    /// Decrypts the secrets of a webhook.
    pub(super) fn open(&self, webhook_id: Uuid, sealed: &[Sealed]) -> Result<Vec<Secret>, WebhookError> {
        let kek = self.kek()?;
        let open = |one| Secret::open(webhook_id, one, kek).map_err(|_| WebhookError::WrongKey(webhook_id));
        sealed.iter().map(open).collect()
    }

    /// Creates a webhook with a new secret.
    pub async fn create(&self, wanted: Wanted) -> Result<Created, WebhookError> {
        self.check(&wanted.url)?;
        let webhook_id = Uuid::new_v4();
        let secret = Secret::generate().map_err(WebhookError::Encryption)?;
        let new = NewWebhook {
            webhook_id,
            url: wanted.url.into(),
            description: wanted.description,
            org_id: wanted.org_id.map(|org_id| org_id.as_str().to_owned()),
            types: wanted.types.as_deref().map(words),
            secret: secret.seal(webhook_id, self.kek()?).map_err(WebhookError::Encryption)?,
        };
        if !webhooks::insert(&self.db, &new).await? {
            return Err(WebhookError::TooMany);
        }
        Ok(Created { webhook: self.find(webhook_id, None).await?, secret: secret.shown() })
    }

    /// Returns the webhooks, the oldest first, up to [`webhooks::LISTED`]. Returns true beside them if there are more.
    pub async fn list(&self, org_id: Option<&OrgId>) -> Result<(Vec<Webhook>, bool), WebhookError> {
        let limit = i64::from(webhooks::LISTED) + 1;
        let mut found = webhooks::list(&self.db, org_id.map(OrgId::as_str), Listed::All, limit).await?;
        let more = found.len() > webhooks::LISTED as usize;
        found.truncate(webhooks::LISTED as usize);
        Ok((found, more))
    }

    /// Returns a webhook.
    pub async fn find(&self, webhook_id: Uuid, org_id: Option<&OrgId>) -> Result<Webhook, WebhookError> {
        let found = webhooks::list(&self.db, org_id.map(OrgId::as_str), Listed::One(webhook_id), 1).await?;
        found.into_iter().next().ok_or(WebhookError::Unknown(webhook_id))
    }

    /// Changes a webhook, and returns it.
    pub async fn update(
        &self,
        webhook_id: Uuid,
        org_id: Option<&OrgId>,
        change: Change,
    ) -> Result<Webhook, WebhookError> {
        if let Some(url) = &change.url {
            self.check(url)?;
        }
        let change = WebhookChange {
            url: change.url.map(Into::into),
            description: change.description,
            types: change.types.try_map(|types| Ok::<_, WebhookError>(words(&types)))?,
            enabled: change.enabled,
        };
        if !webhooks::update(&self.db, webhook_id, org_id.map(OrgId::as_str), &change).await? {
            return Err(WebhookError::Unknown(webhook_id));
        }
        self.find(webhook_id, org_id).await
    }

    /// Deletes a webhook with its deliveries. An attempt in flight may still arrive.
    pub async fn delete(&self, webhook_id: Uuid, org_id: Option<&OrgId>) -> Result<(), WebhookError> {
        let deleted = webhooks::delete(&self.db, webhook_id, org_id.map(OrgId::as_str)).await?;
        deleted.then_some(()).ok_or(WebhookError::Unknown(webhook_id))
    }

    /// Gives a webhook a new secret. For [`SECRET_OVERLAP`], deliveries carry a signature of the previous one as well.
    pub async fn rotate_secret(
        &self,
        webhook_id: Uuid,
        org_id: Option<&OrgId>,
    ) -> Result<Rotated, WebhookError> {
        let secret = Secret::generate().map_err(WebhookError::Encryption)?;
        let sealed = secret.seal(webhook_id, self.kek()?).map_err(WebhookError::Encryption)?;
        let org_id = org_id.map(OrgId::as_str);
        let until = webhooks::rotate_secret(&self.db, webhook_id, org_id, &sealed, SECRET_OVERLAP).await?;
        let old_secret_until = until.ok_or(WebhookError::Unknown(webhook_id))?;
        Ok(Rotated { secret: secret.shown(), old_secret_until })
    }

    /// Sends `webhook.tested` to a webhook at once, whatever its state, and waits for the response.
    pub async fn test(&self, webhook_id: Uuid, org_id: Option<&OrgId>) -> Result<Tested, WebhookError> {
        let webhook = self.find(webhook_id, org_id).await?;
        let secrets = self.open(webhook_id, &webhooks::secrets(&self.db, webhook_id).await?)?;
        let event = Event {
            event_id: Uuid::new_v4(),
            kind: EventType::WebhookTested.as_str().to_owned(),
            org_id: webhook.org_id,
            occurred_at: self.sender.now(),
            count: 1,
            data: json!({ "webhook_id": webhook_id }),
        };
        let sent = self.sender.send(&webhook.url, &event, &secrets).await;
        if !webhooks::record_test(&self.db, webhook_id, event.event_id, &event.data, &sent).await? {
            return Err(WebhookError::Unknown(webhook_id));
        }
        let Sent { took, status, error, .. } = sent;
        Ok(Tested {
            event_id: event.event_id,
            accepted: error.is_none(),
            status,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            error,
        })
    }

    /// Returns a page of the deliveries of a webhook, the latest event first.
    pub async fn deliveries(
        &self,
        webhook_id: Uuid,
        org_id: Option<&OrgId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Delivery>, WebhookError> {
        self.find(webhook_id, org_id).await?;
        let page = page(limit, async |more| {
            webhooks::list_deliveries(&self.db, Some(webhook_id), None, before, more).await
        });
        let Page { items, next } = page.await.map(|page| page.with(|(_, place, _)| *place))?;
        Ok(Page { items: items.into_iter().map(|(.., delivery)| delivery).collect(), next })
    }

    /// Queues an event again for a webhook that has it in its scope. Its ID stays the same.
    pub async fn redeliver(
        &self,
        webhook_id: Uuid,
        event_id: Uuid,
        org_id: Option<&OrgId>,
    ) -> Result<(), WebhookError> {
        let webhook = self.find(webhook_id, org_id).await?;
        if webhook.state != WebhookState::Enabled {
            return Err(WebhookError::NotEnabled(webhook.state));
        }
        let queued = webhooks::redeliver(&self.db, webhook_id, event_id).await?;
        queued.then_some(()).ok_or(WebhookError::UnknownEvent { webhook_id, event_id })
    }

    /// Returns a page of events, the latest first.
    pub async fn events(
        &self,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Event>, WebhookError> {
        let page = page(limit, async |more| events::list(&self.db, filter, before, more).await);
        let Page { items, next } = page.await.map(|page| page.with(|(place, _)| *place))?;
        Ok(Page { items: items.into_iter().map(|(_, event)| event).collect(), next })
    }
}

fn words(types: &[EventType]) -> Vec<String> {
    types.iter().map(|one| one.as_str().to_owned()).collect()
}

/// Items of a page, and true if there are more.
struct Read<T>(Vec<T>, bool);

impl<T> Read<T> {
    fn with(self, place: impl Fn(&T) -> i64) -> Page<T> {
        let next = self.1.then(|| self.0.last().map(place)).flatten();
        Page { items: self.0, next }
    }
}

/// Reads one item more than the page has, to learn whether there is a next page.
async fn page<T>(limit: u32, read: impl AsyncFnOnce(i64) -> DbResult<Vec<T>>) -> DbResult<Read<T>> {
    let mut items = read(i64::from(limit) + 1).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > size;
    items.truncate(size);
    Ok(Read(items, more))
}
