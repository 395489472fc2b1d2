//! From gathered texts to what they mean. Reads everything before it complains, so that all is told at once.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{SecretBox, SecretString};
use url::Url;

use super::check;
use super::gather::{Raw, Settings};
use super::issuers;
use super::parse::{self, BaseUrl};
use super::problem::{ConfigError, Origin, Problem, Wrong};
use super::settings::{Kind, Preset, Setting};
use super::{
    BackendName, Backends, Config, Database, Fire, Http, Identity, Introspection, Keys, Lease, Log,
    LogFormat, Lookup, Nats, OwnPortal, Portal, PortalJwks, Qstash, Retry, SecondFire, SigningAlg, Stop,
};

impl Settings {
    /// Everything `serve` needs, cross-checked.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut reader = Reader::new(self);
        let config = config(&mut reader);
        check::all(&config, &mut reader);
        reader.end(config)
    }

    /// What a command needs that only talks to the database.
    pub fn database(&self) -> Result<Database, ConfigError> {
        let mut reader = Reader::new(self);
        let database = database(&mut reader);
        reader.end(database)
    }

    /// What a command needs that talks to hosted engines, but is not the service.
    pub fn backends(&self) -> Result<Backends, ConfigError> {
        let mut reader = Reader::new(self);
        let backends = backends(&mut reader);
        check::backends(&backends, &mut reader);
        reader.end(backends)
    }

    /// What a command needs that makes logins at our own portal. Wrong where there is no such portal.
    pub fn own_portal(&self) -> Result<OwnPortal, ConfigError> {
        let mut reader = Reader::new(self);
        let own = reader.one("own_portal", false, parse::switch);
        let portal = OwnPortal {
            url: reader.base_url("portal_url"),
            agents_jwks_url: reader.url("agents_jwks_url"),
            key_encryption_key: key_encryption_key(&mut reader)
                .unwrap_or_else(|| SecretBox::new(Box::new([0; 32]))),
        };
        check::own_portal(own, &mut reader);
        reader.rule(
            &["own_portal"],
            own,
            "the agents' tokens come from another portal, and so do their logins",
            "set own_portal to true for this command and for `serve`, or register the agent with `nas-cron agents add`",
        );
        reader.end(portal)
    }

    /// What logging needs.
    pub fn log(&self) -> Result<Log, ConfigError> {
        let mut reader = Reader::new(self);
        let log = log(&mut reader);
        reader.end(log)
    }
}

/// Reads settings and collects what is wrong. In the place of a value that is wrong it gives a stand-in, which
/// never gets out: [`Reader::end`] gives nothing where there was a problem.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
    unsound: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: settings.problems().to_vec(), unsound: BTreeSet::new() }
    }

    fn end<T>(self, value: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(value) } else { Err(ConfigError { problems: self.problems }) }
    }

    /// A rule between settings, judged only where each of them is sound.
    pub(super) fn rule(&mut self, keys: &[&'static str], holds: bool, wrong: &str, mend: &str) {
        if holds || keys.iter().any(|key| self.unsound.contains(key)) {
            return;
        }
        let part = |key: &&'static str| {
            let given = self.settings.effective(setting(key));
            let shown = given.as_ref().map(|given| given.shown(setting(key)));
            (*key, shown, given.map_or(Origin::Default, |given| given.origin))
        };
        let parts: Vec<_> = keys.iter().map(part).collect();
        self.problems.push(Problem::between(&parts, Wrong::new(wrong, mend)));
    }

    /// Whether somebody set it.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.settings.is_given(key)
    }

    /// Whether what somebody set it to is this word, in any case.
    pub(super) fn is_word(&self, key: &str, word: &str) -> bool {
        let given = self.settings.effective(setting(key));
        given.is_some_and(|given| matches!(&given.raw, Raw::One(text) if text.eq_ignore_ascii_case(word)))
    }

    /// Whether it has a value, by whatever way.
    pub(super) fn has(&self, key: &str) -> bool {
        self.settings.effective(setting(key)).is_some()
    }

    fn fault(&mut self, setting: &'static Setting, shown: Option<&str>, origin: &Origin, wrong: Wrong) {
        // What a derived value is wrong about was said of the setting that it is derived from.
        if !matches!(origin, Origin::Derived(_)) {
            self.problems.push(Problem::about(setting.key, shown, origin, wrong));
        }
        self.unsound.insert(setting.key);
    }

    /// One value, if there is one.
    fn maybe<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let setting = setting(key);
        let Some(given) = self.settings.effective(setting) else {
            // A secret file that could not be read has been told; that nothing is set would be the second half.
            let told = || self.problems.iter().any(|problem| problem.keys.iter().any(|told| told == key));
            if matches!(setting.default, Preset::Required { .. }) && !told() {
                self.problems.push(Problem::missing(setting));
            }
            self.unsound.insert(setting.key);
            return None;
        };
        let result = match &given.raw {
            Raw::One(text) => parse(text),
            Raw::Many(_) => Err(Wrong::new("is a list", "set one value")),
        };
        match result {
            Ok(value) => Some(value),
            Err(wrong) => {
                let shown = given.shown(setting);
                self.fault(setting, (!setting.secret).then_some(&shown), &given.origin, wrong);
                None
            }
        }
    }

    fn one<T>(&mut self, key: &str, stand_in: T, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> T {
        self.maybe(key, parse).unwrap_or(stand_in)
    }

    fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Vec<T> {
        let setting = setting(key);
        let Some(given) = self.settings.effective(setting) else { return Vec::new() };
        let mut values = Vec::new();
        for part in given.raw.parts() {
            match parse(&part) {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    // What should be a hash may be the token itself.
                    let shown = (setting.kind != Kind::Hashes).then_some(part.as_str());
                    self.fault(setting, shown, &given.origin, wrong);
                }
            }
        }
        values
    }

    fn duration(&mut self, key: &str) -> Duration {
        let Kind::Duration { min, max } = setting(key).kind else { unreachable!("{key} is no duration") };
        self.one(key, Duration::ZERO, |text| parse::duration(text, min, max))
    }

    /// Counts are bounded by the table far below any integer type's end.
    fn count<T: TryFrom<u64> + Default>(&mut self, key: &str) -> T {
        let Kind::Count { min, max } = setting(key).kind else { unreachable!("{key} is no count") };
        let count = self.one(key, 0, |text| parse::count(text, min, max));
        T::try_from(count).unwrap_or_default()
    }

    fn choice<T: Copy>(&mut self, key: &str, values: &[(&'static str, T)]) -> T {
        let Kind::Choice(words) = setting(key).kind else { unreachable!("{key} is no choice") };
        self.one(key, values[0].1, |text| {
            let word = parse::choice(text, words)?;
            Ok(values.iter().find(|value| value.0 == word).map_or(values[0].1, |value| value.1))
        })
    }

    fn address(&mut self, key: &str) -> SocketAddr {
        self.one(key, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), parse::address)
    }

    fn url(&mut self, key: &str) -> Url {
        let stand_in = parse::base_url(NO_URL).expect("the stand-in is a URL").url().clone();
        self.one(key, stand_in, parse::url)
    }

    fn base_url(&mut self, key: &str) -> BaseUrl {
        self.one(key, parse::base_url(NO_URL).expect("the stand-in is a URL"), parse::base_url)
    }
}

const NO_URL: &str = "https://stand-in.invalid";

fn setting(key: &str) -> &'static Setting {
    Setting::find(key).expect("only keys of the table are read, and a test reads all of them")
}

fn config(reader: &mut Reader<'_>) -> Config {
    Config {
        database: database(reader),
        http: Http {
            listen: reader.address("listen"),
            metrics_listen: reader.address("metrics_listen"),
            public_url: reader.base_url("public_url"),
        },
        portal: Portal {
            url: reader.base_url("portal_url"),
            jwks: portal_jwks(reader),
            audiences: reader.list("portal_audiences", |text| Ok(text.to_owned())),
            access_token_ttl: reader.duration("access_token_ttl"),
            lookup: lookup(reader),
            introspection: introspection(reader),
            introspection_ttl: reader.duration("introspection_ttl"),
            issuers: reader.maybe("issuers_file", issuers::read).unwrap_or_default(),
        },
        keys: keys(reader),
        identity: Identity {
            on: reader.one("agent_identity", false, parse::switch),
            task_lifetime: reader.duration("agent_task_lifetime"),
            task_ids_encrypted: reader.one("agent_task_ids_encrypted", false, parse::switch),
        },
        admin_token_sha256: reader.list("admin_token_sha256", parse::hash),
        fire: Fire {
            callback_allow: reader.list("callback_allow", parse::network),
            timeout: reader.duration("fire_timeout"),
            connect_timeout: reader.duration("connect_timeout"),
            in_flight_max: reader.count("in_flight_max"),
            in_flight_per_instance: reader.count("in_flight_per_instance"),
            floor: reader.duration("fire_floor"),
        },
        retry: Retry {
            definite_base: reader.duration("retry_definite_base"),
            ambiguous_floor: reader.duration("retry_ambiguous_floor"),
            cap: reader.duration("retry_cap"),
            give_up_after: reader.duration("retry_give_up_after"),
        },
        second_fire: SecondFire {
            delay: reader.duration("second_fire_delay"),
            interval: reader.duration("second_fire_interval"),
            max: reader.count("second_fires_max"),
        },
        backends: backends(reader),
        lease: Lease {
            horizon: reader.duration("lease_horizon"),
            grace: reader.duration("lease_grace"),
            margin: reader.duration("lease_margin"),
            capacity: reader.count("lease_capacity"),
        },
        history_retention: reader.duration("history_retention"),
        stop: Stop {
            drain_delay: reader.duration("drain_delay"),
            shutdown_timeout: reader.duration("shutdown_timeout"),
        },
        log: log(reader),
    }
}

fn database(reader: &mut Reader<'_>) -> Database {
    Database {
        url: SecretString::from(reader.one("database_url", String::new(), parse::database_url)),
        max_connections: reader.count("database_max_connections"),
        migrate: reader.one("migrate", false, parse::switch),
    }
}

fn portal_jwks(reader: &mut Reader<'_>) -> PortalJwks {
    if reader.one("own_portal", false, parse::switch) {
        PortalJwks::Own
    } else if reader.is_given("portal_jwks_file") {
        PortalJwks::File(reader.one("portal_jwks_file", PathBuf::new(), |text| Ok(PathBuf::from(text))))
    } else {
        PortalJwks::Url(reader.url("portal_jwks_url"))
    }
}

fn lookup(reader: &mut Reader<'_>) -> Option<Lookup> {
    let asked = reader.choice("directory", &[("table", false), ("lookup", true)]);
    let (ttl, negative_ttl) = (reader.duration("lookup_ttl"), reader.duration("lookup_negative_ttl"));
    let stale = reader.duration("lookup_stale");
    let url = reader.maybe("lookup_url", parse::url);
    let token = reader.maybe("lookup_token", parse::header);
    // What is missing is told by the rules.
    let (url, token) = url.zip(token)?;
    asked.then(|| Lookup { url, token: SecretString::from(token), ttl, negative_ttl, stale })
}

fn introspection(reader: &mut Reader<'_>) -> Option<Introspection> {
    let url = reader.maybe("introspection_url", parse::url);
    let client_id = reader.maybe("introspection_client_id", |text| Ok(text.to_owned()));
    let client_secret = reader.maybe("introspection_client_secret", |text| Ok(SecretString::from(text)));
    let ((url, client_id), client_secret) = url.zip(client_id).zip(client_secret)?;
    Some(Introspection { url, client_id, client_secret })
}

fn keys(reader: &mut Reader<'_>) -> Keys {
    Keys {
        signing_alg: reader
            .choice("signing_alg", &[("ES256", SigningAlg::Es256), ("RS256", SigningAlg::Rs256)]),
        rotation_period: reader.duration("key_rotation_period"),
        key_encryption_key: key_encryption_key(reader),
        agents_jwks_url: reader.url("agents_jwks_url"),
        fire_token_ttl: reader.duration("fire_token_ttl"),
    }
}

fn key_encryption_key(reader: &mut Reader<'_>) -> Option<SecretBox<[u8; 32]>> {
    reader.maybe("key_encryption_key", parse::key).map(|bytes| SecretBox::new(Box::new(bytes)))
}

fn backends(reader: &mut Reader<'_>) -> Backends {
    Backends {
        first: reader
            .choice("backend", &BackendName::ALL.iter().map(|one| (one.as_str(), *one)).collect::<Vec<_>>()),
        relay_url: reader.url("relay_url"),
        watchdog_grace: reader.duration("watchdog_grace"),
        engine_timeout: reader.duration("engine_timeout"),
        qstash: qstash(reader),
        nats: nats(reader),
        qstash_direct_grace: reader.duration("qstash_direct_grace"),
    }
}

fn qstash(reader: &mut Reader<'_>) -> Option<Qstash> {
    let secret = |text: &str| Ok(SecretString::from(text));
    let url = reader.base_url("qstash_url");
    let (retries, furthest) = (reader.count("qstash_retries"), reader.duration("qstash_furthest"));
    let token = reader.maybe("qstash_token", secret);
    let current_signing_key = reader.maybe("qstash_current_signing_key", secret);
    let next_signing_key = reader.maybe("qstash_next_signing_key", secret);
    // One without the other is told by the rules.
    let (token, current_signing_key) = token.zip(current_signing_key)?;
    Some(Qstash { url, token, current_signing_key, next_signing_key, retries, furthest })
}

fn nats(reader: &mut Reader<'_>) -> Option<Nats> {
    let text = |text: &str| Ok(text.to_owned());
    let path = |text: &str| Ok(PathBuf::from(text));
    let nats = Nats {
        urls: reader.list("nats_urls", text),
        credentials_file: reader.maybe("nats_credentials_file", path),
        ca_file: reader.maybe("nats_ca_file", path),
        certificate_file: reader.maybe("nats_certificate_file", path),
        key_file: reader.maybe("nats_key_file", path),
        stream: reader.one("nats_stream", String::new(), parse::token),
        subject: reader.one("nats_subject", String::new(), parse::token),
        replicas: reader.count("nats_replicas"),
    };
    (!nats.urls.is_empty()).then_some(nats)
}

fn log(reader: &mut Reader<'_>) -> Log {
    Log {
        format: reader.choice(
            "log_format",
            &[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)],
        ),
        filter: reader.one("log_filter", String::new(), parse::log_filter),
    }
}
