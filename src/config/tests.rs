//! The layers together, as a deployment meets them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, FromArgMatches};
use insta::assert_snapshot;
use secrecy::ExposeSecret;

use super::*;

const DATABASE: &str = "postgres://nas:hunter2@db.internal/nas";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A machine: what is typed, exported and on its disk.
#[derive(Default)]
struct Machine {
    arguments: Vec<&'static str>,
    environment: Vec<(&'static str, &'static str)>,
    files: BTreeMap<&'static str, String>,
}

impl Machine {
    /// With the two settings that `serve` cannot do without.
    fn sound() -> Self {
        Self {
            environment: vec![
                ("NAS_CRON_DATABASE_URL", DATABASE),
                ("NAS_CRON_PORTAL_URL", "https://portal.example/"),
            ],
            ..Self::default()
        }
    }

    fn arguments(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    fn set(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    fn unset(mut self, name: &'static str) -> Self {
        self.environment.retain(|variable| variable.0 != name);
        self
    }

    fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.insert(path, text.into());
        self
    }

    fn settings(&self) -> Settings {
        let command = Flags::<Everything>::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(&self.arguments).unwrap();
        let flags = Flags::<Everything>::from_arg_matches(&matches).unwrap();
        let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        flags.settings_from(environment, &|path: &Path| {
            let text = path.to_str().and_then(|path| self.files.get(path));
            text.cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }

    fn config(&self) -> Config {
        self.settings().config().unwrap()
    }

    fn error(&self) -> String {
        self.settings().config().unwrap_err().to_string()
    }

    fn value(&self, key: &str) -> String {
        let settings = self.settings();
        let setting = Setting::find(key).unwrap();
        let given = settings.effective(setting).unwrap();
        format!("{} from {}", given.shown(setting), given.origin)
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let machine = Machine::sound();
    assert_eq!(machine.value("fire_timeout"), "30s from default");
    let machine = machine.set("NAS_CRON_CONFIG", "a.toml").file("a.toml", "\n\nfire_timeout = \"31s\"\n");
    assert_eq!(machine.value("fire_timeout"), "31s from a.toml line 3");
    let machine = machine.set("NAS_CRON_FIRE_TIMEOUT", "32s");
    assert_eq!(machine.value("fire_timeout"), "32s from NAS_CRON_FIRE_TIMEOUT");
    let machine = machine.arguments(&["--fire-timeout", "33s"]);
    assert_eq!(machine.value("fire_timeout"), "33s from --fire-timeout");
    assert_eq!(machine.config().fire.timeout, Duration::from_secs(33));
}

#[test]
fn variables_of_the_agents_tools_are_none_of_its_business() {
    for (name, _) in OTHER_VARIABLES.iter().filter(|(name, _)| *name != "NAS_CRON_CONFIG") {
        let machine = Machine::sound().set(name, "whatever");
        assert_eq!(machine.value("fire_timeout"), "30s from default");
        machine.config();
    }
    let error = Machine::sound().set("NAS_CRON_SERVR", "x").error();
    assert!(error.contains("did you mean NAS_CRON_SERVER?"), "{error}");
}

#[test]
fn the_flag_config_wins_over_its_variable() {
    let machine = Machine::sound().set("NAS_CRON_CONFIG", "a.toml").file("a.toml", "log_filter = \"debug\"");
    let machine = machine.arguments(&["--config", "b.toml"]).file("b.toml", "log_filter = \"warn\"");
    assert_eq!(machine.value("log_filter"), "warn from b.toml line 1");
}

#[test]
fn every_setting_can_come_from_every_layer_and_is_read() {
    let text = |setting: &Setting| match (setting.key, setting.kind, setting.default) {
        ("database_url", ..) => DATABASE,
        ("key_encryption_key", ..) => KEY,
        ("admin_token_sha256", ..) => "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff",
        ("directory", ..) => "lookup",
        ("issuers_file", ..) => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/issuers.toml"),
        ("listen", ..) => "127.0.0.1:1",
        ("metrics_listen", ..) => "127.0.0.1:2",
        (_, Kind::BaseUrl | Kind::Url, _) => "https://x.example/y",
        (_, _, Preset::Value(value)) => value,
        (_, _, Preset::Required { example } | Preset::Unset { example, .. }) => example,
        (key, ..) => panic!("no text for {key}"),
    };
    // Either of the two is enough, and both are refused.
    let settings = || SETTINGS.iter().filter(|setting| setting.key != "portal_jwks_file");
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };

    let by_environment =
        settings().fold(Machine::default(), |machine, one| machine.set(leak(one.env()), text(one)));
    let by_flags = settings().fold(Machine::default(), |machine, one| {
        machine.arguments(&[leak(format!("--{}={}", one.flag(), text(one)))])
    });
    let toml: Vec<_> = settings().map(|one| format!("{} = '{}'", one.key, text(one))).collect();
    let toml = toml.join("\n");
    let by_file = Machine::default().arguments(&["--config=a.toml"]).file("a.toml", toml);

    let expected = format!("{:?}", by_environment.config());
    for machine in [&by_environment, &by_flags, &by_file] {
        for setting in settings() {
            assert!(!machine.value(setting.key).ends_with("default"), "{}", machine.value(setting.key));
        }
        assert_eq!(format!("{:?}", machine.config()), expected);
    }
}

#[test]
fn defaults_are_those_that_deployments_rely_on() {
    let config = Machine::sound().config();
    assert_eq!(config.portal.url.as_str(), "https://portal.example/", "byte for byte");
    assert_eq!(config.http.public_url.as_str(), "https://portal.example/");
    assert_eq!(
        config.portal.jwks,
        PortalJwks::Url("https://portal.example/.well-known/jwks.json".parse().unwrap())
    );
    assert_eq!(config.keys.agents_jwks_url.as_str(), "https://portal.example/api/agent-cron/jwks.json");
    assert_eq!(config.http.listen, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.http.metrics_listen, "0.0.0.0:9090".parse().unwrap());
    assert_eq!(config.keys.signing_alg, SigningAlg::Es256);
    assert_eq!(config.keys.rotation_period, Duration::from_hours(90 * 24));
    assert_eq!(config.keys.fire_token_ttl, Duration::from_secs(90));
    assert_eq!(config.retry.give_up_after, Duration::from_hours(72));
    assert_eq!(config.lease.margin, Duration::from_secs(10));
    assert_eq!(config.history_retention, Duration::from_hours(30 * 24));
    assert!(config.portal.audiences.is_empty() && config.fire.callback_allow.is_empty());
    assert!(config.portal.lookup.is_none() && config.portal.introspection.is_none());
    assert!(config.admin_token_sha256.is_empty() && !config.database.migrate);
}

#[test]
fn the_jwks_at_the_public_url_follow_it() {
    let config = Machine::sound().set("NAS_CRON_PUBLIC_URL", "https://cron.example/base").config();
    assert_eq!(config.keys.agents_jwks_url.as_str(), "https://cron.example/base/api/agent-cron/jwks.json");
}

#[test]
fn lists_are_commas_outside_and_arrays_in_toml() {
    let networks =
        |config: &Config| config.fire.callback_allow.iter().map(ToString::to_string).collect::<Vec<_>>();
    let machine = Machine::sound().set("NAS_CRON_CALLBACK_ALLOW", "10.0.0.0/8, 192.0.2.7,");
    assert_eq!(networks(&machine.config()), ["10.0.0.0/8", "192.0.2.7/32"]);
    let machine = machine.arguments(&["--callback-allow", "::1", "--callback-allow=fd00::/8,127.0.0.1"]);
    assert_eq!(networks(&machine.config()), ["::1/128", "fd00::/8", "127.0.0.1/32"]);
    let machine =
        machine.arguments(&["--config", "a.toml"]).file("a.toml", "portal_audiences = [\"a\", \"b\"]");
    assert_eq!(machine.config().portal.audiences, ["a", "b"]);
    // A flag can also take away what the environment gives.
    let machine =
        Machine::sound().set("NAS_CRON_CALLBACK_ALLOW", "10.0.0.0/8").arguments(&["--callback-allow="]);
    assert!(machine.config().fire.callback_allow.is_empty());
}

#[test]
fn the_migrate_flag_needs_no_value() {
    assert!(Machine::sound().arguments(&["--migrate"]).config().database.migrate);
    assert!(
        !Machine::sound()
            .set("NAS_CRON_MIGRATE", "1")
            .arguments(&["--migrate=false"])
            .config()
            .database
            .migrate
    );
    let machine = Machine::sound()
        .arguments(&["--config=a.toml"])
        .file("a.toml", "migrate = true\nsecond_fires_max = 5");
    assert!(machine.config().database.migrate);
    assert_eq!(machine.config().second_fire.max, 5);
}

#[test]
fn secrets_also_come_from_files_without_their_last_newline() {
    let machine =
        Machine::sound().unset("NAS_CRON_DATABASE_URL").set("NAS_CRON_DATABASE_URL_FILE", "/run/db");
    let machine = machine.file("/run/db", format!("{DATABASE}\n")).file("/run/kek", format!("{KEY}\r\n"));
    let machine = machine.arguments(&["--key-encryption-key-file", "/run/kek"]);
    let config = machine.config();
    assert_eq!(config.database.url.expose_secret(), DATABASE);
    assert_eq!(config.require_key_encryption_key().unwrap().expose_secret()[31], 31);
    assert_eq!(machine.value("database_url"), "*** from /run/db named by NAS_CRON_DATABASE_URL_FILE");
}

#[test]
fn a_secret_set_twice_in_one_layer_is_refused_and_a_higher_layer_wins() {
    let machine = Machine::sound().set("NAS_CRON_DATABASE_URL_FILE", "/run/db").file("/run/db", DATABASE);
    assert_snapshot!(machine.error(), @"the configuration is wrong: database_url (NAS_CRON_DATABASE_URL) and database_url_file (NAS_CRON_DATABASE_URL_FILE): both are set; keep one of them");
    let machine = Machine::sound().arguments(&["--database-url-file=/run/db"]);
    let machine = machine.file("/run/db", "postgres://other.internal/nas");
    assert_eq!(machine.config().database.url.expose_secret(), "postgres://other.internal/nas");
}

#[test]
fn secret_files_that_cannot_be_used() {
    let machine =
        Machine::sound().unset("NAS_CRON_DATABASE_URL").set("NAS_CRON_DATABASE_URL_FILE", "/run/db");
    let machine = machine.set("NAS_CRON_KEY_ENCRYPTION_KEY_FILE", "/run/kek").file("/run/kek", "\n");
    assert_snapshot!(machine.error(), @"
    the configuration is wrong in 2 places:
      - database_url (/run/db named by NAS_CRON_DATABASE_URL_FILE): the file cannot be read: entity not found; mend the path or its permissions for the user that nas-cron runs as
      - key_encryption_key (/run/kek named by NAS_CRON_KEY_ENCRYPTION_KEY_FILE): the file is empty; write the secret into it
    ");
}

#[test]
fn what_is_missing_is_told_with_all_three_ways_to_set_it() {
    assert_snapshot!(Machine::default().error(), @"
    the configuration is wrong in 2 places:
      - database_url: is not set; set NAS_CRON_DATABASE_URL or NAS_CRON_DATABASE_URL_FILE, --database-url, or database_url in the configuration file
      - portal_url: is not set; set NAS_CRON_PORTAL_URL, --portal-url, or portal_url in the configuration file
    ");
}

#[test]
fn unknown_names_are_refused_with_the_one_that_was_meant() {
    let machine = Machine::sound()
        .set("NAS_CRON_LISEN", "0.0.0.0:1")
        .set("NAS_CRON_CONFG", "x")
        .set("NAS_CRON_LISTEN_PORT", "8080")
        .set("NAS_CRON_ZZZ", "x")
        .arguments(&["--config=a.toml"])
        .file("a.toml", "portal-url = \"https://x.example\"\nfire_timeuot = \"3s\"\n[http]\nlisten = 1\n");
    assert_snapshot!(machine.error(), @"
    the configuration is wrong in 7 places:
      - http (a.toml line 3): is a table, and settings have no sections; write the settings flat, `key = value`
      - fire_timeuot (a.toml line 2): there is no such setting; did you mean fire_timeout?
      - portal-url (a.toml line 1): there is no such setting; did you mean portal_url?
      - NAS_CRON_CONFG: there is no such setting; did you mean NAS_CRON_CONFIG?
      - NAS_CRON_LISEN: there is no such setting; did you mean NAS_CRON_LISTEN?
      - NAS_CRON_LISTEN_PORT: there is no such setting; remove it, or see `nas-cron config table` for all settings
      - NAS_CRON_ZZZ: there is no such setting; remove it, or see `nas-cron config table` for all settings
    ");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let machine = Machine::default()
        .set("NAS_CRON_PORTAL_URL", "portal.example")
        .set("NAS_CRON_LISTEN", "localhost:80")
        .set("NAS_CRON_FIRE_TIMEOUT", "30")
        .set("NAS_CRON_CALLBACK_ALLOW", "10.0.0.1/8,nowhere")
        .set("NAS_CRON_BACKEND", "redis")
        .set("NAS_CRON_LOG_FILTER", "nas_cron=loud")
        .arguments(&["--config=a.toml", "--fire-token-ttl=59s", "--database-url=mysql://root:hunter2@db/x"])
        .file("a.toml", "in_flight_max = 0\nmigrate = 'perhaps'\nlease_grace = 3\nportal_audiences = [1.5]\nretry_cap = 1979-05-27\n");
    assert_snapshot!(machine.error(), @r#"
    the configuration is wrong in 14 places:
      - portal_audiences (a.toml line 4): is a list of other than text; put quotes around its values
      - retry_cap (a.toml line 5): is a datetime, which no setting is; put quotes around it
      - database_url (--database-url): is no Postgres URL; write it like postgres://user:password@host:5432/database, special characters percent-encoded
      - migrate = `perhaps` (a.toml line 2): is neither true nor false; set true or false
      - listen = `localhost:80` (NAS_CRON_LISTEN): is no address to listen at; write IP and port, like 0.0.0.0:8080 or [::]:8080
      - portal_url = `portal.example` (NAS_CRON_PORTAL_URL): is no absolute URL; write it like https://portal.example/path
      - fire_token_ttl = `59s` (--fire-token-ttl): is too short; set something like 500ms, 30s, 5m, 12h or 90d, from 1m to 2m
      - callback_allow = `10.0.0.1/8` (NAS_CRON_CALLBACK_ALLOW): has address bits beyond its prefix; write 10.0.0.0/8 for the network or 10.0.0.1 for the one address
      - callback_allow = `nowhere` (NAS_CRON_CALLBACK_ALLOW): is no network; write addresses and networks like 10.0.0.0/8, 192.0.2.7 or fd00::/8
      - fire_timeout = `30` (NAS_CRON_FIRE_TIMEOUT): is a length of time without its unit; set something like 500ms, 30s, 5m, 12h or 90d, from 10ms to 5m
      - in_flight_max = `0` (a.toml line 1): is too small; set a whole number from 1 to 1000000
      - backend = `redis` (NAS_CRON_BACKEND): is not known; set postgres or qstash or qstash_direct or nats
      - lease_grace = `3` (a.toml line 3): is a length of time without its unit; set something like 500ms, 30s, 5m, 12h or 90d, from 100ms to 1m
      - log_filter = `nas_cron=loud` (NAS_CRON_LOG_FILTER): is no log filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); set something like info or info,nas_cron::fire=debug
    "#);
}

#[test]
fn settings_that_do_not_go_together() {
    let machine = Machine::sound()
        .set("NAS_CRON_METRICS_LISTEN", "127.0.0.1:8080")
        .set("NAS_CRON_PORTAL_JWKS_URL", "https://portal.example/keys")
        .set("NAS_CRON_LEASE_MARGIN", "500ms")
        .set("NAS_CRON_LEASE_CAPACITY", "1000")
        .set("NAS_CRON_CONNECT_TIMEOUT", "31s")
        .set("NAS_CRON_RETRY_DEFINITE_BASE", "2h")
        .set("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "3h")
        .set("NAS_CRON_RETRY_GIVE_UP_AFTER", "30m")
        .set("NAS_CRON_SECOND_FIRE_DELAY", "10m")
        .arguments(&["--portal-jwks-file=/etc/portal.pem"]);
    assert_snapshot!(machine.error(), @"
    the configuration is wrong in 9 places:
      - listen = `0.0.0.0:8080` (default) and metrics_listen = `127.0.0.1:8080` (NAS_CRON_METRICS_LISTEN): cannot both have that port, and metrics are not for the public; give metrics_listen another port
      - portal_jwks_url = `https://portal.example/keys` (NAS_CRON_PORTAL_JWKS_URL) and portal_jwks_file = `/etc/portal.pem` (--portal-jwks-file): both are set, and the portal's keys come from one place; keep the URL to have them refreshed, or the file to pin them
      - lease_margin = `500ms` (NAS_CRON_LEASE_MARGIN): a lease could end before its attempt's deadline, and a second attempt start beside it; set lease_margin to 1s or more
      - lease_capacity = `1000` (NAS_CRON_LEASE_CAPACITY) and in_flight_max = `1024` (default): a replica could never have that many attempts under way, as each needs a lease; raise lease_capacity or lower in_flight_max
      - connect_timeout = `31s` (NAS_CRON_CONNECT_TIMEOUT) and fire_timeout = `30s` (default): connecting is a part of the attempt; lower connect_timeout or raise fire_timeout
      - retry_definite_base = `2h` (NAS_CRON_RETRY_DEFINITE_BASE) and retry_cap = `1h` (default): the first wait would be longer than the longest; lower retry_definite_base or raise retry_cap
      - retry_ambiguous_floor = `3h` (NAS_CRON_RETRY_AMBIGUOUS_FLOOR) and retry_cap = `1h` (default): the least wait would be longer than the longest; lower retry_ambiguous_floor or raise retry_cap
      - retry_cap = `1h` (default) and retry_give_up_after = `30m` (NAS_CRON_RETRY_GIVE_UP_AFTER): a fire could be given up before its next attempt; lower retry_cap or raise retry_give_up_after
      - second_fire_delay = `10m` (NAS_CRON_SECOND_FIRE_DELAY) and second_fire_interval = `300s` (default): the second fire would wait longer than the third; lower second_fire_delay or raise second_fire_interval
    ");
    let slow = Machine::sound().set("NAS_CRON_FIRE_TIMEOUT", "91s");
    assert_snapshot!(slow.error(), @"the configuration is wrong: fire_timeout = `91s` (NAS_CRON_FIRE_TIMEOUT) and fire_token_ttl = `90s` (default): an agent that boots during the attempt could find its token expired; lower fire_timeout or raise fire_token_ttl (at most 120s)");
    assert!(slow.set("NAS_CRON_FIRE_TOKEN_TTL", "91s").settings().config().is_ok());
}

#[test]
fn a_portal_of_one_s_own_takes_no_other_s_keys_and_needs_one_key() {
    let own = Machine::sound().set("NAS_CRON_OWN_PORTAL", "true").set("NAS_CRON_KEY_ENCRYPTION_KEY", KEY);
    assert_eq!(own.config().portal.jwks, PortalJwks::Own);
    assert_eq!(own.config().portal.access_token_ttl, Duration::from_hours(1));
    let portal = own.settings().own_portal().unwrap();
    assert_eq!(portal.agents_jwks_url.as_str(), "https://portal.example/api/agent-cron/jwks.json");
    let wrong = own
        .set("NAS_CRON_PORTAL_JWKS_FILE", "/etc/portal.pem")
        .set("NAS_CRON_PORTAL_AUDIENCES", "cron")
        .set("NAS_CRON_ACCESS_TOKEN_TTL", "9m")
        .unset("NAS_CRON_KEY_ENCRYPTION_KEY");
    assert_snapshot!(wrong.error(), @"
    the configuration is wrong in 4 places:
      - access_token_ttl = `9m` (NAS_CRON_ACCESS_TOKEN_TTL): is too short; set something like 500ms, 30s, 5m, 12h or 90d, from 10m to 1day
      - own_portal = `true` (NAS_CRON_OWN_PORTAL) and portal_jwks_file = `/etc/portal.pem` (NAS_CRON_PORTAL_JWKS_FILE): access tokens are verified with our own keys, and no others; leave it out, or set own_portal to false if another portal issues the tokens
      - own_portal = `true` (NAS_CRON_OWN_PORTAL): the agents' refresh tokens are made of the key-encryption key, and it is not set; set NAS_CRON_KEY_ENCRYPTION_KEY, or NAS_CRON_KEY_ENCRYPTION_KEY_FILE, everywhere to the same key; make one with: openssl rand -base64 32
      - own_portal = `true` (NAS_CRON_OWN_PORTAL) and portal_audiences = `cron` (NAS_CRON_PORTAL_AUDIENCES): the audience of our own access tokens is not among them; add hermes-cli-vps to portal_audiences, or leave it out
    ");
    let asks = Machine::sound()
        .set("NAS_CRON_OWN_PORTAL", "true")
        .set("NAS_CRON_KEY_ENCRYPTION_KEY", KEY)
        .set("NAS_CRON_INTROSPECTION_URL", "https://portal.example/introspect")
        .set("NAS_CRON_INTROSPECTION_CLIENT_ID", "cron")
        .set("NAS_CRON_INTROSPECTION_CLIENT_SECRET", "secret");
    assert!(asks.error().contains("nobody to ask about them"), "{}", asks.error());
    let off = Machine::sound().settings().own_portal().unwrap_err();
    assert_snapshot!(off, @"the configuration is wrong: own_portal = `false` (default): the agents' tokens come from another portal, and so do their logins; set own_portal to true for this command and for `serve`, or register the agent with `nas-cron agents add`");
}

#[test]
fn a_rule_is_not_judged_where_one_of_its_settings_is_wrong() {
    let error = Machine::sound().set("NAS_CRON_FIRE_TIMEOUT", "forever").error();
    assert!(error.starts_with("the configuration is wrong: fire_timeout = `forever`"), "{error}");
}

#[test]
fn configuration_files_that_cannot_be_used() {
    let machine = Machine::sound().arguments(&["--config=/etc/none.toml"]);
    assert_snapshot!(machine.error(), @"the configuration is wrong: /etc/none.toml: the configuration file cannot be read: entity not found; mend --config or NAS_CRON_CONFIG; `nas-cron config example` prints a file to start from");
    let machine =
        Machine::sound().arguments(&["--config=a.toml"]).file("a.toml", "\ndatabase_url = \"hunter2\n");
    assert_snapshot!(machine.error(), @r#"the configuration is wrong: a.toml line 2: is not TOML: invalid basic string, expected `"`; write one `key = value` a line, text in quotes"#);
}

#[test]
fn no_secret_is_ever_printed() {
    let token = "sk-very-secret-token";
    let machine = Machine::default()
        .set("NAS_CRON_DATABASE_URL", "mysql://root:hunter2@db/x")
        .set("NAS_CRON_KEY_ENCRYPTION_KEY", "hunter2")
        .set("NAS_CRON_ADMIN_TOKEN_SHA256", token)
        .set("NAS_CRON_PORTAL_URL", "https://root:hunter2@portal.example");
    let settings = machine.settings();
    let printed = [
        machine.error(),
        format!("{settings:?}"),
        show::table(&settings),
        show::json(&settings).to_string(),
        format!("{:?}", settings.config().unwrap_err()),
    ];
    let machine = Machine::sound().set("NAS_CRON_KEY_ENCRYPTION_KEY", KEY);
    let sound = [format!("{:?}", machine.config()), show::table(&machine.settings())];
    for text in printed.iter().chain(&sound) {
        assert!(!text.contains("hunter2") && !text.contains(token) && !text.contains(KEY), "{text}");
    }
}

#[test]
fn serve_is_told_how_to_make_a_key_encryption_key() {
    let config = Machine::sound().config();
    assert_snapshot!(config.require_key_encryption_key().unwrap_err(), @"the configuration is wrong: key_encryption_key: is not set, and private signing keys are stored in the database only encrypted; set NAS_CRON_KEY_ENCRYPTION_KEY, or NAS_CRON_KEY_ENCRYPTION_KEY_FILE, on every replica to the same key; make one with: openssl rand -base64 32");
}

#[test]
fn migrate_needs_the_database_only() {
    let machine =
        Machine::default().set("NAS_CRON_DATABASE_URL", DATABASE).set("NAS_CRON_FIRE_TIMEOUT", "30");
    assert_eq!(machine.settings().database().unwrap().max_connections, 20);
    assert!(machine.settings().log().is_ok());
    // A misspelt name is refused all the same.
    assert!(machine.set("NAS_CRON_LISEN", "x").settings().database().is_err());
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let machine = Machine::sound().set("NAS_CRON_FIRE_TIMEOUT", "").set("NAS_CRON_PORTAL_JWKS_FILE", "");
    assert_eq!(machine.config().fire.timeout, Duration::from_secs(30));
}

#[test]
fn what_kubernetes_says_about_a_service_called_nas_cron_is_no_setting() {
    let machine = Machine::sound()
        .set("NAS_CRON_SERVICE_HOST", "10.0.0.1")
        .set("NAS_CRON_SERVICE_PORT", "80")
        .set("NAS_CRON_SERVICE_PORT_HTTP", "80")
        .set("NAS_CRON_PORT", "tcp://10.0.0.1:80")
        .set("NAS_CRON_PORT_80_TCP", "tcp://10.0.0.1:80")
        .set("NAS_CRON_PORT_80_TCP_ADDR", "10.0.0.1")
        .set("NAS_CRON_METRICS_SERVICE_HOST", "10.0.0.1")
        .set("NAS_CRON_METRICS_PORT_9090_TCP_PROTO", "tcp");
    assert!(machine.settings().config().is_ok());
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let environment = vec![("NAS_CRON_LISTEN".into(), OsString::from_vec(vec![0xff]))];
    let read = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let sources = Sources { flags: Vec::new(), config: None, environment, read: &read };
    let error = Settings::gather(&sources).log().unwrap_err();
    assert_snapshot!(error, @"the configuration is wrong: NAS_CRON_LISTEN: is not valid UTF-8; set it to text");
}

#[test]
fn the_table_is_consistent() {
    for (at, setting) in SETTINGS.iter().enumerate() {
        let key = setting.key;
        assert!(
            SETTINGS[..at].iter().all(|other| other.key != key && other.file_key() != key),
            "{key} twice"
        );
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{key}");
        assert!(setting.help.ends_with(['.', '`']), "{key}: help is a sentence");
        if let Preset::Derived { from, unless, .. } = setting.default {
            assert!(Setting::find(from).is_some() && unless.is_none_or(|key| Setting::find(key).is_some()));
        }
    }
    // Headings are not repeated.
    let mut sections: Vec<_> = SETTINGS.iter().map(|setting| setting.section).collect();
    sections.dedup();
    let titles: std::collections::BTreeSet<_> = sections.iter().map(|section| section.title()).collect();
    assert_eq!(titles.len(), sections.len());
}

#[test]
#[expect(clippy::too_many_lines, reason = "they are the lines of the help")]
fn the_flags_are_sound_and_their_help_teaches() {
    let mut command = Flags::<Everything>::augment_args(Command::new("serve").term_width(110));
    command.clone().debug_assert();
    assert_snapshot!(command.render_help(), @r#"
    Usage: serve [OPTIONS]

    Options:
          --config <FILE>  TOML file with settings, `key = value` [env: NAS_CRON_CONFIG]
      -h, --help           Print help

    Database:
          --database-url <URL>            The Postgres database that holds the truth. LISTEN needs a session: with
                                          PgBouncer, use session pooling or connect directly. Other users of the
                                          machine can see it in the process list. [env: NAS_CRON_DATABASE_URL]
                                          [required]
          --database-url-file <FILE>      The same, read from this file [env: NAS_CRON_DATABASE_URL_FILE]
          --database-max-connections <N>  Upper bound on this replica's connections. [env:
                                          NAS_CRON_DATABASE_MAX_CONNECTIONS] [default: 20]
          --migrate[=<BOOL>]              Apply missing schema migrations before serving: for small set-ups.
                                          Elsewhere run `nas-cron migrate` before a roll-out. [env:
                                          NAS_CRON_MIGRATE] [default: false]

    Listening:
          --listen <IP:PORT>          Where agents, the portal's backend and hosted schedulers reach us. TLS ends
                                      in front of it. [env: NAS_CRON_LISTEN] [default: 0.0.0.0:8080]
          --metrics-listen <IP:PORT>  Where Prometheus scrapes /metrics. Not for the public. [env:
                                      NAS_CRON_METRICS_LISTEN] [default: 0.0.0.0:9090]
          --public-url <URL>          Our own base URL as seen from outside: for relay and for the JWKS. On the
                                      portal's host by default, where we are routed by path. [env:
                                      NAS_CRON_PUBLIC_URL] [default: {portal_url}]

    Portal:
          --portal-url <URL>
              The portal's base URL: issuer of the agents' access tokens and `iss` of our fire tokens. Kept byte
              for byte: agents compare it as a string. [env: NAS_CRON_PORTAL_URL] [required]
          --portal-jwks-url <URL>
              Where the keys of the portal's tokens are fetched. [env: NAS_CRON_PORTAL_JWKS_URL] [default:
              {portal_url}/.well-known/jwks.json]
          --portal-jwks-file <FILE>
              The keys of the portal's tokens, pinned: a JWKS or a PEM file. Instead of portal_jwks_url. [env:
              NAS_CRON_PORTAL_JWKS_FILE] [default: fetched by URL]
          --portal-audiences <NAME,…>
              Audiences (`aud`) that access tokens may have. [env: NAS_CRON_PORTAL_AUDIENCES] [default: not
              judged]
          --own-portal[=<BOOL>]
              This service is its agents' portal: it issues their access tokens at {portal_url}/api/oauth/token,
              signed with its own keys, and takes no others. For self-hosters; see docs/self-hosting.md. [env:
              NAS_CRON_OWN_PORTAL] [default: false]
          --access-token-ttl <DURATION>
              How long an access token lives that own_portal issues. Agents refresh theirs two minutes before its
              end. [env: NAS_CRON_ACCESS_TOKEN_TTL] [default: 1h]
          --directory <NAME>
              Where it is known which agent instances there are: in our own table, where they are registered, or
              at the portal, which is asked at lookup_url. See docs/portals.md. [env: NAS_CRON_DIRECTORY]
              [default: table]
          --lookup-url <URL>
              Where the portal says which instance a client or a session is. [env: NAS_CRON_LOOKUP_URL] [default:
              needed with directory = lookup]
          --lookup-token <TEXT>
              The bearer token that opens lookup_url. Other users of the machine can see it in the process list.
              [env: NAS_CRON_LOOKUP_TOKEN] [default: needed with directory = lookup]
          --lookup-token-file <FILE>
              The same, read from this file [env: NAS_CRON_LOOKUP_TOKEN_FILE]
          --lookup-ttl <DURATION>
              How long an answer of lookup_url is taken as it is; then it is asked again. [env:
              NAS_CRON_LOOKUP_TTL] [default: 60s]
          --lookup-negative-ttl <DURATION>
              How long an instance that lookup_url does not know is not asked for again. [env:
              NAS_CRON_LOOKUP_NEGATIVE_TTL] [default: 10s]
          --lookup-stale <DURATION>
              How old an answer of lookup_url may be that is used while the portal is away. [env:
              NAS_CRON_LOOKUP_STALE] [default: 7d]
          --introspection-url <URL>
              Where the portal says what an access token that is no JWT stands for (RFC 7662). [env:
              NAS_CRON_INTROSPECTION_URL] [default: opaque tokens are refused]
          --introspection-client-id <TEXT>
              The client as which we ask introspection_url, by HTTP Basic. [env: NAS_CRON_INTROSPECTION_CLIENT_ID]
              [default: needed beside introspection_url]
          --introspection-client-secret <TEXT>
              That client's secret. Other users of the machine can see it in the process list. [env:
              NAS_CRON_INTROSPECTION_CLIENT_SECRET] [default: needed beside introspection_url]
          --introspection-client-secret-file <FILE>
              The same, read from this file [env: NAS_CRON_INTROSPECTION_CLIENT_SECRET_FILE]
          --introspection-ttl <DURATION>
              How long an answer about an active token is taken as it is, and so how long a revoked one may still
              open something. [env: NAS_CRON_INTROSPECTION_TTL] [default: 60s]
          --issuers-file <FILE>
              Further issuers of access tokens, each with its own rules: a TOML file with a table [[issuer]] for
              each. See docs/portals.md. [env: NAS_CRON_ISSUERS_FILE] [default: the portal alone]

    Keys:
          --signing-alg <NAME>              The algorithm of keys that are made from now on. ES256 signs about 28
                                            times faster. [env: NAS_CRON_SIGNING_ALG] [default: ES256]
          --key-rotation-period <DURATION>  How long one key signs before the next one takes over. [env:
                                            NAS_CRON_KEY_ROTATION_PERIOD] [default: 90d]
          --key-encryption-key <BASE64>     Encrypts the private signing keys at rest: 32 bytes in base64, the
                                            same on every replica. Make one with `openssl rand -base64 32`. Other
                                            users of the machine can see it in the process list. [env:
                                            NAS_CRON_KEY_ENCRYPTION_KEY] [default: none: `serve` refuses to start
                                            while signing keys live in the database]
          --key-encryption-key-file <FILE>  The same, read from this file [env: NAS_CRON_KEY_ENCRYPTION_KEY_FILE]
          --agents-jwks-url <URL>           Where agents fetch the keys of fire tokens. An imported key is
                                            activated only once it is seen there. [env: NAS_CRON_AGENTS_JWKS_URL]
                                            [default: {public_url}/api/agent-cron/jwks.json]
          --fire-token-ttl <DURATION>       How long a fire token is good for, from its minting. [env:
                                            NAS_CRON_FIRE_TOKEN_TTL] [default: 90s]

    Agent identity:
          --agent-identity[=<BOOL>]            Whether agents may register an Ed25519 key and call with
                                               `Authorization: AgentAssertion` beside the portal's tokens. See
                                               docs/agent-identity.md. [env: NAS_CRON_AGENT_IDENTITY] [default:
                                               false]
          --agent-task-lifetime <DURATION>     How long a task that an agent has registered lives without being
                                               used; every use renews it. [env: NAS_CRON_AGENT_TASK_LIFETIME]
                                               [default: 24h]
          --agent-task-ids-encrypted[=<BOOL>]  Answer a task's name as `encrypted_task_id`: a sealed box that only
                                               the agent's own key opens. [env: NAS_CRON_AGENT_TASK_IDS_ENCRYPTED]
                                               [default: false]

    Administration:
          --admin-token-sha256 <HEX,…>  SHA-256 of each bearer token that opens the admin API, in hex: `printf %s
                                        "$TOKEN" | sha256sum`. [env: NAS_CRON_ADMIN_TOKEN_SHA256] [default: no
                                        admin API]

    Fires:
          --callback-allow <CIDR,…>     Networks whose agents are called although they are not public, and also
                                        over plain http. A bare address is a network of one. [env:
                                        NAS_CRON_CALLBACK_ALLOW] [default: public addresses over https only]
          --fire-timeout <DURATION>     An attempt's one deadline, over connecting, headers and body. An agent may
                                        have to boot in it. [env: NAS_CRON_FIRE_TIMEOUT] [default: 30s]
          --connect-timeout <DURATION>  How long connecting to an agent may take, TLS included. [env:
                                        NAS_CRON_CONNECT_TIMEOUT] [default: 10s]
          --in-flight-max <N>           How many attempts this replica has under way at once. [env:
                                        NAS_CRON_IN_FLIGHT_MAX] [default: 1024]
          --in-flight-per-instance <N>  How many of them may go to one agent instance, so that a slow one holds up
                                        nobody. [env: NAS_CRON_IN_FLIGHT_PER_INSTANCE] [default: 16]
          --fire-floor <DURATION>       The least time between two fires of one job; a fire that comes sooner is
                                        delayed. [env: NAS_CRON_FIRE_FLOOR] [default: 1s]

    Retries and repeats:
          --retry-definite-base <DURATION>    The first wait after a definite refusal (connection refused, a
                                              status); doubles with jitter. [env: NAS_CRON_RETRY_DEFINITE_BASE]
                                              [default: 1s]
          --retry-ambiguous-floor <DURATION>  The least wait after an ambiguous end (timeout, reset, lost lease):
                                              time for the agent's re-arm to come first. [env:
                                              NAS_CRON_RETRY_AMBIGUOUS_FLOOR] [default: 10s]
          --retry-cap <DURATION>              No wait between two attempts is longer, an agent's Retry-After
                                              included. [env: NAS_CRON_RETRY_CAP] [default: 1h]
          --retry-give-up-after <DURATION>    How long a fire is tried before it becomes a dead letter. [env:
                                              NAS_CRON_RETRY_GIVE_UP_AFTER] [default: 72h]
          --second-fire-delay <DURATION>      How long after its delivery a key that is provisioned again is fired
                                              once more. [env: NAS_CRON_SECOND_FIRE_DELAY] [default: 60s]
          --second-fire-interval <DURATION>   The least time between two such second fires of one key. [env:
                                              NAS_CRON_SECOND_FIRE_INTERVAL] [default: 300s]
          --second-fires-max <N>              How many second fires a key gets before it is shown as stuck. [env:
                                              NAS_CRON_SECOND_FIRES_MAX] [default: 3]

    Scheduler and leases:
          --lease-horizon <DURATION>  How far ahead a replica leases what comes due. [env: NAS_CRON_LEASE_HORIZON]
                                      [default: 2s]
          --lease-grace <DURATION>    How long after its instant an unstarted one-shot stays leased: what a killed
                                      replica had claimed is at most this much late, plus the next claim. [env:
                                      NAS_CRON_LEASE_GRACE] [default: 3s]
          --lease-margin <DURATION>   What the lease of a started attempt has beyond the attempt's deadline: time
                                      to record how it ended. [env: NAS_CRON_LEASE_MARGIN] [default: 10s]
          --lease-capacity <N>        How many one-shots a replica leases at once. [env: NAS_CRON_LEASE_CAPACITY]
                                      [default: 8192]

    Scheduler backends:
          --backend <NAME>
              Who wakes us first at a fire's instant, when the service starts for the first time. From then on the
              database says it: `nas-cron backend switch`. [env: NAS_CRON_BACKEND] [default: postgres]
          --relay-url <URL>
              Where a hosted scheduler calls us, as it sees us: what its signatures are bound to. [env:
              NAS_CRON_RELAY_URL] [default: {public_url}/api/agent-cron/relay]
          --watchdog-grace <DURATION>
              How long after its instant our own loop leaves a fire to the hosted scheduler that is to wake us.
              [env: NAS_CRON_WATCHDOG_GRACE] [default: 5s]
          --engine-timeout <DURATION>
              How long one call to a hosted scheduler may take. [env: NAS_CRON_ENGINE_TIMEOUT] [default: 10s]
          --qstash-token <TEXT>
              The token that publishes to QStash. Its presence configures the backends qstash and qstash_direct.
              Other users of the machine can see it in the process list. [env: NAS_CRON_QSTASH_TOKEN] [default:
              QStash is not configured]
          --qstash-token-file <FILE>
              The same, read from this file [env: NAS_CRON_QSTASH_TOKEN_FILE]
          --qstash-current-signing-key <TEXT>
              The key that QStash signs its calls with. Other users of the machine can see it in the process list.
              [env: NAS_CRON_QSTASH_CURRENT_SIGNING_KEY] [default: needed beside qstash_token]
          --qstash-current-signing-key-file <FILE>
              The same, read from this file [env: NAS_CRON_QSTASH_CURRENT_SIGNING_KEY_FILE]
          --qstash-next-signing-key <TEXT>
              The key that QStash will sign with after a rotation: accepted too, so that rotating needs no
              downtime. Other users of the machine can see it in the process list. [env:
              NAS_CRON_QSTASH_NEXT_SIGNING_KEY] [default: none]
          --qstash-next-signing-key-file <FILE>
              The same, read from this file [env: NAS_CRON_QSTASH_NEXT_SIGNING_KEY_FILE]
          --qstash-url <URL>
              QStash's API, by region. [env: NAS_CRON_QSTASH_URL] [default: https://qstash.upstash.io]
          --qstash-retries <N>
              How often QStash calls again what was not accepted, by its plan. Retries towards the agent are ours
              anyway. [env: NAS_CRON_QSTASH_RETRIES] [default: 3]
          --qstash-furthest <DURATION>
              How far ahead QStash takes a message, by its plan; what is later is handed over when it is near
              enough. [env: NAS_CRON_QSTASH_FURTHEST] [default: 7d]
          --qstash-direct-grace <DURATION>
              With qstash_direct: how long after its instant a fire of which QStash's log says nothing is made by
              our own loop. [env: NAS_CRON_QSTASH_DIRECT_GRACE] [default: 15m]
          --nats-urls <NAME,…>
              The servers of a NATS JetStream, 2.12 or later. Their presence configures the backend nats. [env:
              NAS_CRON_NATS_URLS] [default: NATS is not configured]
          --nats-credentials-file <FILE>
              The account's credentials: a .creds file. [env: NAS_CRON_NATS_CREDENTIALS_FILE] [default: no
              authentication]
          --nats-ca-file <FILE>
              Authorities that the servers' certificates may come from, as PEM. [env: NAS_CRON_NATS_CA_FILE]
              [default: the system's authorities]
          --nats-certificate-file <FILE>
              Our own certificate, where the servers ask for one, as PEM; with nats_key_file. [env:
              NAS_CRON_NATS_CERTIFICATE_FILE] [default: none]
          --nats-key-file <FILE>
              Our certificate's private key, as PEM. [env: NAS_CRON_NATS_KEY_FILE] [default: none]
          --nats-stream <TEXT>
              The stream that holds the wake-ups; made where there is none. [env: NAS_CRON_NATS_STREAM] [default:
              NAS_CRON]
          --nats-subject <TEXT>
              What the stream's subjects begin with, and the name of its consumer. Another one, and another
              stream, for every service on the same account. [env: NAS_CRON_NATS_SUBJECT] [default: nas-cron]
          --nats-replicas <N>
              How many servers keep each wake-up; 3 in a cluster. [env: NAS_CRON_NATS_REPLICAS] [default: 1]

    History:
          --history-retention <DURATION>  How long the rows of fires and attempts are kept. [env:
                                          NAS_CRON_HISTORY_RETENTION] [default: 30d]

    Stopping:
          --drain-delay <DURATION>       How long agents are still served after the first SIGTERM, while /readyz
                                         answers 503 and no fire is claimed. [env: NAS_CRON_DRAIN_DELAY] [default:
                                         15s]
          --shutdown-timeout <DURATION>  How long attempts under way are then waited for. Give the orchestrator
                                         more than drain_delay and this together. [env: NAS_CRON_SHUTDOWN_TIMEOUT]
                                         [default: 45s]

    Logs:
          --log-format <NAME>        How log lines look on stderr; auto is pretty on a terminal and JSON
                                     elsewhere. [env: NAS_CRON_LOG_FORMAT] [default: auto]
          --log-filter <DIRECTIVES>  Which log lines are written, such as `info,nas_cron::fire=debug`. [env:
                                     NAS_CRON_LOG_FILTER] [default: info]
    "#);
}

#[test]
fn the_example_file_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("nas-cron.example.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == show::example(),
        "{} is stale: cargo run -- config example > nas-cron.example.toml",
        path.display()
    );
}

#[test]
fn the_example_file_changes_nothing_and_says_the_defaults() {
    let example = show::example();
    let as_it_is = Machine::sound().arguments(&["--config=a.toml"]).file("a.toml", example.clone());
    assert_eq!(format!("{:?}", as_it_is.config()), format!("{:?}", Machine::sound().config()));

    // With the comment signs taken off every line that shows a default, it still says the same.
    let mut uncommented = String::new();
    for line in example.lines() {
        let key = line.strip_prefix('#').and_then(|line| line.split(" = ").next()).and_then(Setting::find);
        let shows_default = key.is_some_and(|setting| matches!(setting.default, Preset::Value(_)));
        uncommented.push_str(if shows_default { &line[1..] } else { line });
        uncommented.push('\n');
    }
    let count = SETTINGS.iter().filter(|setting| matches!(setting.default, Preset::Value(_))).count();
    assert_eq!(uncommented.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count(), count);
    let uncommented = Machine::sound().arguments(&["--config=a.toml"]).file("a.toml", uncommented);
    assert_eq!(format!("{:?}", uncommented.config()), format!("{:?}", Machine::sound().config()));
}

#[test]
fn what_config_show_prints() {
    let machine = Machine::sound()
        .set("NAS_CRON_CALLBACK_ALLOW", "10.0.0.0/8,::1")
        .set("NAS_CRON_KEY_ENCRYPTION_KEY_FILE", "/run/kek")
        .file("/run/kek", KEY)
        .arguments(&["--portal-jwks-file=/etc/portal.pem", "--second-fires-max=2"]);
    assert_snapshot!(show::table(&machine.settings()), @"
    setting                      value                                            from
    database_url                 ***                                              NAS_CRON_DATABASE_URL
    database_max_connections     20                                               default
    migrate                      false                                            default
    listen                       0.0.0.0:8080                                     default
    metrics_listen               0.0.0.0:9090                                     default
    public_url                   https://portal.example/                          default, by portal_url
    portal_url                   https://portal.example/                          NAS_CRON_PORTAL_URL
    portal_jwks_url              (unused: portal_jwks_file)
    portal_jwks_file             /etc/portal.pem                                  --portal-jwks-file
    portal_audiences             (not judged)
    own_portal                   false                                            default
    access_token_ttl             1h                                               default
    directory                    table                                            default
    lookup_url                   (needed with directory = lookup)
    lookup_token                 (needed with directory = lookup)
    lookup_ttl                   60s                                              default
    lookup_negative_ttl          10s                                              default
    lookup_stale                 7d                                               default
    introspection_url            (opaque tokens are refused)
    introspection_client_id      (needed beside introspection_url)
    introspection_client_secret  (needed beside introspection_url)
    introspection_ttl            60s                                              default
    issuers_file                 (the portal alone)
    signing_alg                  ES256                                            default
    key_rotation_period          90d                                              default
    key_encryption_key           ***                                              /run/kek named by NAS_CRON_KEY_ENCRYPTION_KEY_FILE
    agents_jwks_url              https://portal.example/api/agent-cron/jwks.json  default, by public_url
    fire_token_ttl               90s                                              default
    agent_identity               false                                            default
    agent_task_lifetime          24h                                              default
    agent_task_ids_encrypted     false                                            default
    admin_token_sha256           (no admin API)
    callback_allow               10.0.0.0/8,::1                                   NAS_CRON_CALLBACK_ALLOW
    fire_timeout                 30s                                              default
    connect_timeout              10s                                              default
    in_flight_max                1024                                             default
    in_flight_per_instance       16                                               default
    fire_floor                   1s                                               default
    retry_definite_base          1s                                               default
    retry_ambiguous_floor        10s                                              default
    retry_cap                    1h                                               default
    retry_give_up_after          72h                                              default
    second_fire_delay            60s                                              default
    second_fire_interval         300s                                             default
    second_fires_max             2                                                --second-fires-max
    lease_horizon                2s                                               default
    lease_grace                  3s                                               default
    lease_margin                 10s                                              default
    lease_capacity               8192                                             default
    backend                      postgres                                         default
    relay_url                    https://portal.example/api/agent-cron/relay      default, by public_url
    watchdog_grace               5s                                               default
    engine_timeout               10s                                              default
    qstash_token                 (QStash is not configured)
    qstash_current_signing_key   (needed beside qstash_token)
    qstash_next_signing_key      (none)
    qstash_url                   https://qstash.upstash.io                        default
    qstash_retries               3                                                default
    qstash_furthest              7d                                               default
    qstash_direct_grace          15m                                              default
    nats_urls                    (NATS is not configured)
    nats_credentials_file        (no authentication)
    nats_ca_file                 (the system's authorities)
    nats_certificate_file        (none)
    nats_key_file                (none)
    nats_stream                  NAS_CRON                                         default
    nats_subject                 nas-cron                                         default
    nats_replicas                1                                                default
    history_retention            30d                                              default
    drain_delay                  15s                                              default
    shutdown_timeout             45s                                              default
    log_format                   auto                                             default
    log_filter                   info                                             default
    ");
    let json = show::json(&machine.settings());
    assert_snapshot!(json["callback_allow"], @r#"{"origin":"NAS_CRON_CALLBACK_ALLOW","value":["10.0.0.0/8","::1"]}"#);
    assert_snapshot!(json["database_url"], @r#"{"origin":"NAS_CRON_DATABASE_URL","value":"***"}"#);
    assert_snapshot!(json["key_encryption_key"], @r#"{"origin":"/run/kek named by NAS_CRON_KEY_ENCRYPTION_KEY_FILE","value":"***"}"#);
    assert_snapshot!(json["portal_jwks_url"], @r#"{"origin":null,"value":null}"#);
    assert_snapshot!(json["second_fires_max"], @r#"{"origin":"--second-fires-max","value":2}"#);
    assert_snapshot!(json["migrate"], @r#"{"origin":"default","value":false}"#);
    assert_eq!(json.as_object().unwrap().len(), SETTINGS.len());
}

#[test]
fn the_table_for_the_readme() {
    let table = show::markdown();
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
    assert!(table.lines().all(|line| line.starts_with('|') && line.ends_with('|')));
    assert_snapshot!(table.lines().take(4).collect::<Vec<_>>().join("\n"), @"
    | Variable | Default | What it is |
    |---|---|---|
    | `NAS_CRON_DATABASE_URL` (or `NAS_CRON_DATABASE_URL_FILE`) | **required** | The Postgres database that holds the truth. LISTEN needs a session: with PgBouncer, use session pooling or connect directly. |
    | `NAS_CRON_DATABASE_MAX_CONNECTIONS` | `20` | Upper bound on this replica's connections. |
    ");
}

#[test]
fn no_file_is_read_that_nobody_named() {
    let read = |path: &Path| -> io::Result<String> { panic!("{} was read", path.display()) };
    let sources =
        Sources { flags: Vec::new(), config: None::<PathBuf>, environment: Vec::new(), read: &read };
    assert!(Settings::gather(&sources).log().is_ok());
}
