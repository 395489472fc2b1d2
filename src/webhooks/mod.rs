//! Events for operators and portals, and the webhooks that receive them. docs/events.md has the rules.
//!
//! 1. Statements write facts in the same commit as what they report (`migrations/0011_events.sql`).
//! 2. [`sender_loop`] groups ripe facts to events, one for each type, and queues these for the webhooks that want them.
//! 3. It leases webhooks with pending events, one attempt each, and [`sender`] POSTs the event, signed by [`secret`].
//! 4. [`verdict`] decides what follows: delivered, repeated later, refused, or the end of the webhook.
//!
//! [`manage`] has the operations of the admin API and the operator's commands.

pub mod input;
pub mod manage;
pub mod secret;
pub mod sender;
pub mod sender_loop;
pub mod verdict;
pub mod views;

pub use self::manage::{WebhookError, Webhooks};
