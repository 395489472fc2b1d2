//! Closed sets of words: the same in SQL, Rust, JSON, metrics and docs.

/// Declares an enum whose variants are words on the wire, with `ALL`, `as_str`, `Display`, `FromStr` and serde.
///
/// The variants are written in the order of a life or of a precedence, and `ALL` keeps it.
// `$text` is a `tt` because `utoipa` does not see the rename to a captured `literal`: a schema would list the variants.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        $vis enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every word, in its order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Every word as it is written, in the order of `ALL`.
            pub const WORDS: &'static [&'static str] = &[$($text),+];

            /// The word as it is written.
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

words!(
    /// Where auth profiles are registered and defaults are set, the furthest first.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum AuthScope {
        /// The whole service.
        Service = "service",
        /// Every instance of one org.
        Org = "org",
        /// One instance.
        Instance = "instance",
    }
);

words!(
    /// The state of a job's current one-shot (docs/contract.md, "States").
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum OneShotState {
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

words!(
    /// Why a due one-shot is not tried.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum ParkReason {
        /// Its instance, org or the whole service is on hold, or the instance is disabled.
        Hold = "hold",
        /// Its instance cannot be reached, and another one-shot probes it.
        Unreachable = "unreachable",
    }
);

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
