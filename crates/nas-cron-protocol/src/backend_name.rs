//! The names of scheduler backends.

use crate::words;

words!(
    /// A scheduler backend: the sender of the first wake-up of a one-shot.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum BackendName {
        /// The built-in Postgres loop.
        Postgres = "postgres",
        /// `QStash`, Upstash's scheduler, which calls the relay.
        Qstash = "qstash",
        /// `QStash`, which calls the agents directly.
        QstashDirect = "qstash_direct",
        /// Scheduled messages of NATS `JetStream`.
        Nats = "nats",
    }
);
