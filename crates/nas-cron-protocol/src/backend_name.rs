//! The names of scheduler backends.

use crate::words;

words!(
    /// A scheduler backend: what sends the first wake-up of a one-shot.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum BackendName {
        /// Our own loop over Postgres.
        Postgres = "postgres",
        /// `QStash`, Upstash's hosted scheduler: it calls the relay.
        Qstash = "qstash",
        /// `QStash` calling the agents itself.
        QstashDirect = "qstash_direct",
        /// Scheduled messages of a NATS `JetStream`.
        Nats = "nats",
    }
);
