//! The one table of settings. The flags, their help, the names in the environment and in the TOML file, the
//! README's table and the example file all come from it.

use std::time::Duration;

/// The prefix of every environment variable that is ours.
pub const ENV_PREFIX: &str = "NAS_CRON_";

/// Variables with our prefix that are no settings, with what they are for. Any other one is refused by name.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("NAS_CRON_CONFIG", "path of the configuration file"),
    ("NAS_CRON_SERVER", "base URL of the server that an agent's tools call"),
    ("NAS_CRON_ACCESS_TOKEN", "portal access token that an agent's tools call with"),
    ("NAS_CRON_AUTH_STORE", "path of the auth store of an agent's tools"),
    ("NAS_CRON_CALLBACK_URL", "where an agent's tools let the agent be called"),
    ("NAS_CRON_USE_AGENT_IDENTITY", "whether an agent's tools call as the agent's own identity"),
];

/// One setting of the service.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the TOML file; every other spelling is made of it.
    pub key: &'static str,
    /// Under which heading it is shown.
    pub section: Section,
    /// What it may be.
    pub kind: Kind,
    /// What holds when nobody sets it.
    pub default: Preset,
    /// Never printed, and also read from the file that `<key>_file` names.
    pub secret: bool,
    /// One or two sentences for whoever deploys.
    pub help: &'static str,
}

/// The headings of the help, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// How Postgres is reached.
    Database,
    /// Where we are reached.
    Listening,
    /// Who issues the agents' tokens.
    Portal,
    /// What signs fire tokens.
    Keys,
    /// Keys that agents call with.
    Identity,
    /// Who may administer.
    Administration,
    /// Calls to agents.
    Fires,
    /// What follows a failed call, or a repeated key.
    Retries,
    /// Our own loop.
    Scheduler,
    /// Who wakes us.
    Backends,
    /// What is kept.
    History,
    /// How it ends.
    Stopping,
    /// What is said.
    Logs,
}

impl Section {
    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Database => "Database",
            Self::Listening => "Listening",
            Self::Portal => "Portal",
            Self::Keys => "Keys",
            Self::Identity => "Agent identity",
            Self::Administration => "Administration",
            Self::Fires => "Fires",
            Self::Retries => "Retries and repeats",
            Self::Scheduler => "Scheduler and leases",
            Self::Backends => "Scheduler backends",
            Self::History => "History",
            Self::Stopping => "Stopping",
            Self::Logs => "Logs",
        }
    }
}

/// What a setting may be. Bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `postgres://…`
    DatabaseUrl,
    /// An absolute http(s) URL that paths are appended to: no query, no fragment, kept byte for byte.
    BaseUrl,
    /// An absolute http(s) URL.
    Url,
    /// A path of a file.
    Path,
    /// Any text.
    Text,
    /// IP and port.
    Address,
    /// A whole number.
    Count {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
    /// A length of time, as `humantime` reads it.
    Duration {
        /// At least.
        min: Duration,
        /// At most.
        max: Duration,
    },
    /// True or false.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of words.
    Words,
    /// A list of networks.
    Networks,
    /// A list of SHA-256 hashes in hex.
    Hashes,
    /// 32 bytes in base64.
    Key,
    /// Directives of `tracing_subscriber::EnvFilter`.
    LogFilter,
}

impl Kind {
    /// Whether it takes several values: commas in environment and flags, an array in TOML.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Words | Self::Networks | Self::Hashes)
    }

    /// What stands for the value in the help.
    pub const fn placeholder(self) -> &'static str {
        match self {
            Self::DatabaseUrl | Self::BaseUrl | Self::Url => "URL",
            Self::Path => "FILE",
            Self::Text => "TEXT",
            Self::Address => "IP:PORT",
            Self::Count { .. } => "N",
            Self::Duration { .. } => "DURATION",
            Self::Switch => "BOOL",
            Self::Choice(_) => "NAME",
            Self::Words => "NAME,…",
            Self::Networks => "CIDR,…",
            Self::Hashes => "HEX,…",
            Self::Key => "BASE64",
            Self::LogFilter => "DIRECTIVES",
        }
    }
}

/// What holds when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It must be set.
    Required {
        /// What it could look like.
        example: &'static str,
    },
    /// Nothing.
    Unset {
        /// What its absence means.
        means: &'static str,
        /// What it could look like.
        example: &'static str,
    },
    /// This.
    Value(&'static str),
    /// Another setting's value with something appended.
    Derived {
        /// The other setting.
        from: &'static str,
        /// What is appended, after one slash at the end was dropped; nothing keeps the value as it is.
        suffix: &'static str,
        /// A setting in whose presence there is no default.
        unless: Option<&'static str>,
    },
}

impl Setting {
    /// The setting of that key.
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// `NAS_CRON_<KEY>`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// `--<key>`, without its two dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The key that names a file with the secret in it.
    pub fn file_key(&self) -> String {
        format!("{}_file", self.key)
    }

    /// The default in words, for help and tables.
    pub fn default_in_words(&self) -> String {
        match self.default {
            Preset::Required { .. } => "required".to_owned(),
            Preset::Unset { means, .. } => means.to_owned(),
            Preset::Value(value) => value.to_owned(),
            Preset::Derived { from, suffix, .. } => format!("{{{from}}}{suffix}"),
        }
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn s(count: u64) -> Duration {
    Duration::from_secs(count)
}

const HOUR: Duration = s(3600);
const DAY: Duration = s(86_400);
const YEAR: Duration = s(365 * 86_400);

const fn between(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

const fn plain(
    section: Section,
    key: &'static str,
    kind: Kind,
    default: Preset,
    help: &'static str,
) -> Setting {
    Setting { key, section, kind, default, secret: false, help }
}

const fn secret(
    section: Section,
    key: &'static str,
    kind: Kind,
    default: Preset,
    help: &'static str,
) -> Setting {
    Setting { key, section, kind, default, secret: true, help }
}

use Preset::{Derived, Required, Unset, Value};
use Section::{
    Administration, Backends, Database, Fires, History, Identity, Keys, Listening, Logs, Portal, Retries,
    Scheduler, Stopping,
};

/// Every setting there is, in the order in which it is shown.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    secret(Database, "database_url", Kind::DatabaseUrl,
        Required { example: "postgres://nas_cron:PASSWORD@db.internal/nas_cron" },
        "The Postgres database that holds the truth. LISTEN needs a session: with PgBouncer, use session pooling or connect directly."),
    plain(Database, "database_max_connections", Kind::Count { min: 4, max: 10_000 },
        Value("20"),
        "Upper bound on this replica's connections."),
    plain(Database, "migrate", Kind::Switch,
        Value("false"),
        "Apply missing schema migrations before serving: for small set-ups. Elsewhere run `nas-cron migrate` before a roll-out."),

    plain(Listening, "listen", Kind::Address,
        Value("0.0.0.0:8080"),
        "Where agents, the portal's backend and hosted schedulers reach us. TLS ends in front of it."),
    plain(Listening, "metrics_listen", Kind::Address,
        Value("0.0.0.0:9090"),
        "Where Prometheus scrapes /metrics. Not for the public."),
    plain(Listening, "public_url", Kind::BaseUrl,
        Derived { from: "portal_url", suffix: "", unless: None },
        "Our own base URL as seen from outside: for relay and for the JWKS. On the portal's host by default, where we are routed by path."),

    plain(Portal, "portal_url", Kind::BaseUrl,
        Required { example: "https://portal.example" },
        "The portal's base URL: issuer of the agents' access tokens and `iss` of our fire tokens. Kept byte for byte: agents compare it as a string."),
    plain(Portal, "portal_jwks_url", Kind::Url,
        Derived { from: "portal_url", suffix: "/.well-known/jwks.json", unless: Some("portal_jwks_file") },
        "Where the keys of the portal's tokens are fetched."),
    plain(Portal, "portal_jwks_file", Kind::Path,
        Unset { means: "fetched by URL", example: "/etc/nas-cron/portal.jwks.json" },
        "The keys of the portal's tokens, pinned: a JWKS or a PEM file. Instead of portal_jwks_url."),
    plain(Portal, "portal_audiences", Kind::Words,
        Unset { means: "not judged", example: "hermes-cli-vps" },
        "Audiences (`aud`) that access tokens may have."),
    plain(Portal, "own_portal", Kind::Switch,
        Value("false"),
        "This service is its agents' portal: it issues their access tokens at {portal_url}/api/oauth/token, signed with its own keys, and takes no others. For self-hosters; see docs/self-hosting.md."),
    plain(Portal, "access_token_ttl", between(s(600), DAY),
        Value("1h"),
        "How long an access token lives that own_portal issues. Agents refresh theirs two minutes before its end."),
    plain(Portal, "directory", Kind::Choice(&["table", "lookup"]),
        Value("table"),
        "Where it is known which agent instances there are: in our own table, where they are registered, or at the portal, which is asked at lookup_url. See docs/portals.md."),
    plain(Portal, "lookup_url", Kind::Url,
        Unset { means: "needed with directory = lookup", example: "https://portal.example/api/agent-instances/lookup" },
        "Where the portal says which instance a client or a session is."),
    secret(Portal, "lookup_token", Kind::Text,
        Unset { means: "needed with directory = lookup", example: "TOKEN" },
        "The bearer token that opens lookup_url."),
    plain(Portal, "lookup_ttl", between(s(1), DAY),
        Value("60s"),
        "How long an answer of lookup_url is taken as it is; then it is asked again."),
    plain(Portal, "lookup_negative_ttl", between(ms(100), HOUR),
        Value("10s"),
        "How long an instance that lookup_url does not know is not asked for again."),
    plain(Portal, "lookup_stale", between(s(0), YEAR),
        Value("7d"),
        "How old an answer of lookup_url may be that is used while the portal is away."),
    plain(Portal, "introspection_url", Kind::Url,
        Unset { means: "opaque tokens are refused", example: "https://portal.example/oauth/introspect" },
        "Where the portal says what an access token that is no JWT stands for (RFC 7662)."),
    plain(Portal, "introspection_client_id", Kind::Text,
        Unset { means: "needed beside introspection_url", example: "nas-cron" },
        "The client as which we ask introspection_url, by HTTP Basic."),
    secret(Portal, "introspection_client_secret", Kind::Text,
        Unset { means: "needed beside introspection_url", example: "SECRET" },
        "That client's secret."),
    plain(Portal, "introspection_ttl", between(s(1), HOUR),
        Value("60s"),
        "How long an answer about an active token is taken as it is, and so how long a revoked one may still open something."),
    plain(Portal, "issuers_file", Kind::Path,
        Unset { means: "the portal alone", example: "/etc/nas-cron/issuers.toml" },
        "Further issuers of access tokens, each with its own rules: a TOML file with a table [[issuer]] for each. See docs/portals.md."),

    plain(Keys, "signing_alg", Kind::Choice(&["ES256", "RS256"]),
        Value("ES256"),
        "The algorithm of keys that are made from now on. ES256 signs about 28 times faster."),
    plain(Keys, "key_rotation_period", between(HOUR, s(3650 * 86_400)),
        Value("90d"),
        "How long one key signs before the next one takes over."),
    secret(Keys, "key_encryption_key", Kind::Key,
        Unset { means: "none: `serve` refuses to start while signing keys live in the database", example: "BASE64 OF 32 RANDOM BYTES" },
        "Encrypts the private signing keys at rest: 32 bytes in base64, the same on every replica. Make one with `openssl rand -base64 32`."),
    plain(Keys, "agents_jwks_url", Kind::Url,
        Derived { from: "public_url", suffix: "/api/agent-cron/jwks.json", unless: None },
        "Where agents fetch the keys of fire tokens. An imported key is activated only once it is seen there."),
    plain(Keys, "fire_token_ttl", between(s(60), s(120)),
        Value("90s"),
        "How long a fire token is good for, from its minting."),

    plain(Identity, "agent_identity", Kind::Switch,
        Value("false"),
        "Whether agents may register an Ed25519 key and call with `Authorization: AgentAssertion` beside the portal's tokens. See docs/agent-identity.md."),
    plain(Identity, "agent_task_lifetime", between(s(15 * 60), YEAR),
        Value("24h"),
        "How long a task that an agent has registered lives without being used; every use renews it."),
    plain(Identity, "agent_task_ids_encrypted", Kind::Switch,
        Value("false"),
        "Answer a task's name as `encrypted_task_id`: a sealed box that only the agent's own key opens."),

    plain(Administration, "admin_token_sha256", Kind::Hashes,
        Unset { means: "no admin API", example: "64 HEX DIGITS" },
        "SHA-256 of each bearer token that opens the admin API, in hex: `printf %s \"$TOKEN\" | sha256sum`."),

    plain(Fires, "callback_allow", Kind::Networks,
        Unset { means: "public addresses over https only", example: "10.0.0.0/8,192.0.2.7" },
        "Networks whose agents are called although they are not public, and also over plain http. A bare address is a network of one."),
    plain(Fires, "fire_timeout", between(ms(10), s(300)),
        Value("30s"),
        "An attempt's one deadline, over connecting, headers and body. An agent may have to boot in it."),
    plain(Fires, "connect_timeout", between(ms(10), s(300)),
        Value("10s"),
        "How long connecting to an agent may take, TLS included."),
    plain(Fires, "in_flight_max", Kind::Count { min: 1, max: 1_000_000 },
        Value("1024"),
        "How many attempts this replica has under way at once."),
    plain(Fires, "in_flight_per_instance", Kind::Count { min: 1, max: 1_000_000 },
        Value("16"),
        "How many of them may go to one agent instance, so that a slow one holds up nobody."),
    plain(Fires, "fire_floor", between(s(0), HOUR),
        Value("1s"),
        "The least time between two fires of one job; a fire that comes sooner is delayed."),

    plain(Retries, "retry_definite_base", between(ms(1), DAY),
        Value("1s"),
        "The first wait after a definite refusal (connection refused, a status); doubles with jitter."),
    plain(Retries, "retry_ambiguous_floor", between(ms(1), DAY),
        Value("10s"),
        "The least wait after an ambiguous end (timeout, reset, lost lease): time for the agent's re-arm to come first."),
    plain(Retries, "retry_cap", between(ms(1), YEAR),
        Value("1h"),
        "No wait between two attempts is longer, an agent's Retry-After included."),
    plain(Retries, "retry_give_up_after", between(ms(1), YEAR),
        Value("72h"),
        "How long a fire is tried before it becomes a dead letter."),
    plain(Retries, "second_fire_delay", between(ms(1), DAY),
        Value("60s"),
        "How long after its delivery a key that is provisioned again is fired once more."),
    plain(Retries, "second_fire_interval", between(ms(1), YEAR),
        Value("300s"),
        "The least time between two such second fires of one key."),
    plain(Retries, "second_fires_max", Kind::Count { min: 0, max: 1000 },
        Value("3"),
        "How many second fires a key gets before it is shown as stuck."),

    plain(Scheduler, "lease_horizon", between(ms(100), s(60)),
        Value("2s"),
        "How far ahead a replica leases what comes due."),
    plain(Scheduler, "lease_grace", between(ms(100), s(60)),
        Value("3s"),
        "How long after its instant an unstarted one-shot stays leased: what a killed replica had claimed is at most this much late, plus the next claim."),
    plain(Scheduler, "lease_margin", between(s(0), HOUR),
        Value("10s"),
        "What the lease of a started attempt has beyond the attempt's deadline: time to record how it ended."),
    plain(Scheduler, "lease_capacity", Kind::Count { min: 1, max: 1_000_000 },
        Value("8192"),
        "How many one-shots a replica leases at once."),

    plain(Backends, "backend", Kind::Choice(&["postgres", "qstash", "qstash_direct", "nats"]),
        Value("postgres"),
        "Who wakes us first at a fire's instant, when the service starts for the first time. From then on the database says it: `nas-cron backend switch`."),
    plain(Backends, "relay_url", Kind::Url,
        Derived { from: "public_url", suffix: "/api/agent-cron/relay", unless: None },
        "Where a hosted scheduler calls us, as it sees us: what its signatures are bound to."),
    plain(Backends, "watchdog_grace", between(ms(500), HOUR),
        Value("5s"),
        "How long after its instant our own loop leaves a fire to the hosted scheduler that is to wake us."),
    plain(Backends, "engine_timeout", between(ms(100), s(60)),
        Value("10s"),
        "How long one call to a hosted scheduler may take."),
    secret(Backends, "qstash_token", Kind::Text,
        Unset { means: "QStash is not configured", example: "TOKEN" },
        "The token that publishes to QStash. Its presence configures the backends qstash and qstash_direct."),
    secret(Backends, "qstash_current_signing_key", Kind::Text,
        Unset { means: "needed beside qstash_token", example: "sig_CURRENT" },
        "The key that QStash signs its calls with."),
    secret(Backends, "qstash_next_signing_key", Kind::Text,
        Unset { means: "none", example: "sig_NEXT" },
        "The key that QStash will sign with after a rotation: accepted too, so that rotating needs no downtime."),
    plain(Backends, "qstash_url", Kind::BaseUrl,
        Value("https://qstash.upstash.io"),
        "QStash's API, by region."),
    plain(Backends, "qstash_retries", Kind::Count { min: 0, max: 100 },
        Value("3"),
        "How often QStash calls again what was not accepted, by its plan. Retries towards the agent are ours anyway."),
    plain(Backends, "qstash_furthest", between(s(60), YEAR),
        Value("7d"),
        "How far ahead QStash takes a message, by its plan; what is later is handed over when it is near enough."),
    plain(Backends, "qstash_direct_grace", between(s(60), HOUR),
        Value("15m"),
        "With qstash_direct: how long after its instant a fire of which QStash's log says nothing is made by our own loop."),
    plain(Backends, "nats_urls", Kind::Words,
        Unset { means: "NATS is not configured", example: "tls://nats-1.internal:4222,tls://nats-2.internal:4222" },
        "The servers of a NATS JetStream, 2.12 or later. Their presence configures the backend nats."),
    plain(Backends, "nats_credentials_file", Kind::Path,
        Unset { means: "no authentication", example: "/etc/nas-cron/nats.creds" },
        "The account's credentials: a .creds file."),
    plain(Backends, "nats_ca_file", Kind::Path,
        Unset { means: "the system's authorities", example: "/etc/nas-cron/nats-ca.pem" },
        "Authorities that the servers' certificates may come from, as PEM."),
    plain(Backends, "nats_certificate_file", Kind::Path,
        Unset { means: "none", example: "/etc/nas-cron/nats-client.pem" },
        "Our own certificate, where the servers ask for one, as PEM; with nats_key_file."),
    plain(Backends, "nats_key_file", Kind::Path,
        Unset { means: "none", example: "/etc/nas-cron/nats-client.key" },
        "Our certificate's private key, as PEM."),
    plain(Backends, "nats_stream", Kind::Text,
        Value("NAS_CRON"),
        "The stream that holds the wake-ups; made where there is none."),
    plain(Backends, "nats_subject", Kind::Text,
        Value("nas-cron"),
        "What the stream's subjects begin with, and the name of its consumer. Another one, and another stream, for every service on the same account."),
    plain(Backends, "nats_replicas", Kind::Count { min: 1, max: 5 },
        Value("1"),
        "How many servers keep each wake-up; 3 in a cluster."),

    plain(History, "history_retention", between(HOUR, s(3650 * 86_400)),
        Value("30d"),
        "How long the rows of fires and attempts are kept."),

    plain(Stopping, "drain_delay", between(s(0), HOUR),
        Value("15s"),
        "How long agents are still served after the first SIGTERM, while /readyz answers 503 and no fire is claimed."),
    plain(Stopping, "shutdown_timeout", between(s(0), HOUR),
        Value("45s"),
        "How long attempts under way are then waited for. Give the orchestrator more than drain_delay and this together."),

    plain(Logs, "log_format", Kind::Choice(&["auto", "pretty", "json"]),
        Value("auto"),
        "How log lines look on stderr; auto is pretty on a terminal and JSON elsewhere."),
    plain(Logs, "log_filter", Kind::LogFilter,
        Value("info"),
        "Which log lines are written, such as `info,nas_cron::fire=debug`."),
];
