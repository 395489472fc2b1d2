//! The states of a one-shot and of an attempt, as in docs/ARCHITECTURE.md ("States").

use serde::{Deserialize, Serialize};

macro_rules! pg_enum {
    ($(#[$doc:meta])* $name:ident, $type:literal, { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[sqlx(type_name = $type, rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// All of them, in the order of a life.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The same word in SQL, JSON, metrics and docs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    format!("unknown value `{text}`: one of {}", known.join(", "))
                })
            }
        }
    };
}

pg_enum!(
    /// Why a login at our own portal is over.
    LoginEnd, "login_end", {
        /// A spent refresh token was presented.
        Reused = "reused",
        /// The operator made another one.
        Replaced = "replaced",
    }
);

pg_enum!(
    /// Where a job's current one-shot stands.
    OneShotState, "one_shot_state", {
        /// Due at its instant.
        Armed = "armed",
        /// Claimed by a replica that waits for the instant.
        Leased = "leased",
        /// An attempt is under way.
        Firing = "firing",
        /// For a retry, or for a second fire of the same key.
        Waiting = "waiting",
        /// The agent accepted it.
        Delivered = "delivered",
        /// The same key was provisioned after three second fires.
        Stuck = "stuck",
        /// Given up: visible, and can be redriven.
        Dead = "dead",
    }
);

pg_enum!(
    /// Why a due one-shot is not tried.
    ParkReason, "park_reason", {
        /// Its instance, org or the whole service is on hold, or the instance is disabled.
        Hold = "hold",
        /// Its instance cannot be reached, and another one-shot probes it.
        Unreachable = "unreachable",
    }
);

pg_enum!(
    /// What the portal said about an instance, unless it was a yes: its fires are then held.
    PortalDenial, "portal_denial", {
        /// The portal does not know it: its tokens open nothing.
        Unknown = "unknown",
        /// The portal has it switched off.
        Disabled = "disabled",
    }
);

pg_enum!(
    /// Who wakes us first at a one-shot's instant.
    BackendName, "scheduler_backend", {
        /// Our own loop over Postgres.
        Postgres = "postgres",
        /// `QStash`, Upstash's hosted scheduler: it calls our relay.
        Qstash = "qstash",
        /// `QStash` calling the agents itself: the contract's escape hatch.
        QstashDirect = "qstash_direct",
        /// Scheduled messages of a NATS `JetStream`.
        Nats = "nats",
    }
);

pg_enum!(
    /// What a hold covers.
    HoldScope, "hold_scope", {
        /// The whole service.
        All = "all",
        /// Every instance of one org.
        Org = "org",
        /// One instance.
        Instance = "instance",
    }
);

pg_enum!(
    /// Where auth profiles are registered and defaults are set, the furthest first.
    AuthScope, "auth_scope", {
        /// The whole service.
        Service = "service",
        /// Every instance of one org.
        Org = "org",
        /// One instance.
        Instance = "instance",
    }
);

pg_enum!(
    /// How an attempt ended.
    FireOutcome, "fire_outcome", {
        /// Not yet.
        Started = "started",
        /// Accepted with any 2xx.
        Delivered = "delivered",
        /// Accepted, and the agent no longer has the job.
        Gone = "gone",
        /// Not accepted.
        Failed = "failed",
        /// Its lease ended before an outcome was recorded.
        Lost = "lost",
    }
);
