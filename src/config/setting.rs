//! A row of the table of settings, and its names in the environment, on the command line and in the TOML file.

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
#[derive(Clone, Copy, Debug)]
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
        from: &'static Setting,
        /// What is appended, after one slash at the end was dropped; nothing keeps the value as it is.
        suffix: &'static str,
        /// A setting in whose presence there is no default.
        unless: Option<&'static Setting>,
    },
}

impl Setting {
    /// Whether it is this one.
    pub fn is(&self, other: &Self) -> bool {
        self.key == other.key
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
            Preset::Derived { from, suffix, .. } => format!("{{{}}}{suffix}", from.key),
        }
    }
}
