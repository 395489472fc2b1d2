//! What is wrong with one setting, one name or one file.

use std::ffi::OsString;

use insta::assert_snapshot;

use super::*;

#[test]
fn a_missing_setting_is_reported_with_all_three_ways_to_set_it() {
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
fn configuration_files_that_cannot_be_used() {
    let machine = Machine::sound().arguments(&["--config=/etc/none.toml"]);
    assert_snapshot!(machine.error(), @"the configuration is wrong: /etc/none.toml: the configuration file cannot be read: entity not found; mend --config or NAS_CRON_CONFIG; `nas-cron config example` prints a file to start from");
    let machine =
        Machine::sound().arguments(&["--config=a.toml"]).file("a.toml", "\ndatabase_url = \"hunter2\n");
    assert_snapshot!(machine.error(), @r#"the configuration is wrong: a.toml line 2: is not TOML: invalid basic string, expected `"`; write one `key = value` a line, text in quotes"#);
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
fn migrate_needs_the_database_only() {
    let machine =
        Machine::default().set("NAS_CRON_DATABASE_URL", DATABASE).set("NAS_CRON_FIRE_TIMEOUT", "30");
    assert_eq!(machine.settings().database().unwrap().max_connections, 20);
    assert!(machine.settings().log().is_ok());
    // A misspelt name is refused all the same.
    assert!(machine.set("NAS_CRON_LISEN", "x").settings().database().is_err());
}
