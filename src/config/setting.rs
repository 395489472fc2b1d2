//! A row of the table of settings, and its names in the environment, on the command line and in the TOML file.

use std::time::Duration;

/// Prefix of every environment variable of nas-cron.
pub const ENV_PREFIX: &str = "NAS_CRON_";

/// Variables with the prefix that are not settings, and their purpose. Any other name is rejected.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("NAS_CRON_CONFIG", "path of the configuration file"),
    ("NAS_CRON_SERVER", "base URL of the server, for `nas-cron cron` and `nas-cron mcp`"),
    ("NAS_CRON_ADMIN_TOKEN", "admin token, for the operator's commands with `--server`"),
    ("NAS_CRON_ACCESS_TOKEN", "portal access token, for `nas-cron cron` and `nas-cron mcp`"),
    ("NAS_CRON_AUTH_STORE", "path of the auth store, for `nas-cron cron` and `nas-cron mcp`"),
    ("NAS_CRON_CALLBACK_URL", "callback URL of the agent, for `nas-cron cron` and `nas-cron mcp`"),
    (
        "NAS_CRON_USE_AGENT_IDENTITY",
        "`on` or `off`: use the agent's own identity, for `nas-cron cron` and `nas-cron mcp`",
    ),
];

/// One setting of the service.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in the TOML file, from which the other spellings are derived.
    pub key: &'static str,
    /// Heading in help and tables.
    pub section: Section,
    /// Kind of its value.
    pub kind: Kind,
    /// Default.
    pub default: Preset,
    /// True if the value is never printed and may also be read from the file named by `<key>_file`.
    pub secret: bool,
    /// Description: one or two sentences for operators.
    pub help: &'static str,
}

/// Headings of the help, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Connection to Postgres.
    Database,
    /// Listeners and the public URL.
    Listening,
    /// Issuers of access tokens.
    Portal,
    /// Keys that sign fire tokens.
    Keys,
    /// Keys of agents.
    Identity,
    /// Access to the admin API.
    Administration,
    /// Delivery attempts.
    Fires,
    /// Retries and second fires.
    Retries,
    /// Leases of the scheduler.
    Scheduler,
    /// Scheduler backends.
    Backends,
    /// Events and webhooks.
    Events,
    /// Retention.
    History,
    /// Graceful shutdown.
    Stopping,
    /// Logging.
    Logs,
    /// Traces for an OpenTelemetry collector.
    Traces,
}

impl Section {
    /// Returns the heading.
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
            Self::Events => "Events",
            Self::History => "History",
            Self::Stopping => "Stopping",
            Self::Logs => "Logs",
            Self::Traces => "Traces",
        }
    }
}

/// Kind of a setting's value. Bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `postgres://…`
    DatabaseUrl,
    /// An absolute http(s) URL that paths are appended to: no query, no fragment, kept byte for byte.
    BaseUrl,
    /// An absolute http(s) URL.
    Url,
    /// Path of a file.
    Path,
    /// Any text.
    Text,
    /// IP and port.
    Address,
    /// A whole number.
    Count {
        /// Minimum.
        min: u64,
        /// Maximum.
        max: u64,
    },
    /// Duration with units, such as `90s`.
    Duration {
        /// Minimum.
        min: Duration,
        /// Maximum.
        max: Duration,
    },
    /// A number from 0 to 1.
    Ratio,
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
    /// A list of keys: 32 bytes in base64 each.
    Keys,
    /// Directives of `tracing_subscriber::EnvFilter`.
    LogFilter,
}

impl Kind {
    /// True if it takes several values: separated by commas in environment and flags, an array in TOML.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Words | Self::Networks | Self::Hashes | Self::Keys)
    }

    /// Returns the placeholder of the value in help.
    pub const fn placeholder(self) -> &'static str {
        match self {
            Self::DatabaseUrl | Self::BaseUrl | Self::Url => "URL",
            Self::Path => "FILE",
            Self::Text => "TEXT",
            Self::Address => "IP:PORT",
            Self::Count { .. } => "N",
            Self::Duration { .. } => "DURATION",
            Self::Ratio => "RATIO",
            Self::Switch => "BOOL",
            Self::Choice(_) => "NAME",
            Self::Words => "NAME,…",
            Self::Networks => "CIDR,…",
            Self::Hashes => "HEX,…",
            Self::Key => "BASE64",
            Self::Keys => "BASE64,…",
            Self::LogFilter => "DIRECTIVES",
        }
    }
}

/// Default.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// None: the setting is required.
    Required {
        /// Example value.
        example: &'static str,
    },
    /// Unset.
    Unset {
        /// Effect of leaving it unset.
        means: &'static str,
        /// Example value.
        example: &'static str,
    },
    /// A fixed value.
    Value(&'static str),
    /// Another setting's value with a suffix.
    Derived {
        /// The other setting.
        from: &'static Setting,
        /// Suffix, appended after dropping one trailing slash; empty keeps the value unchanged.
        suffix: &'static str,
        /// Setting that disables this default when it is set.
        unless: Option<&'static Setting>,
    },
}

impl Setting {
    /// True if both are the same setting.
    pub fn is(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// Returns the environment variable, `NAS_CRON_<KEY>`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Returns the flag's name without the leading dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Returns the key of the setting that names a file with the secret.
    pub fn file_key(&self) -> String {
        format!("{}_file", self.key)
    }

    /// Returns the default as text for help and tables.
    pub fn default_in_words(&self) -> String {
        match self.default {
            Preset::Required { .. } => "required".to_owned(),
            Preset::Unset { means, .. } => means.to_owned(),
            Preset::Value(value) => value.to_owned(),
            Preset::Derived { from, suffix, .. } => format!("{{{}}}{suffix}", from.key),
        }
    }
}
