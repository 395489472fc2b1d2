//! Problems of one setting, one name or one file.

use std::ffi::OsString;

use insta::assert_snapshot;

use super::*;

#[test]
fn a_missing_setting_is_reported_with_all_three_ways_to_set_it() {
    assert_snapshot!(Machine::default().error(), @"
    invalid configuration, 2 problems:
      - database_url is not set; set NAS_CRON_DATABASE_URL or NAS_CRON_DATABASE_URL_FILE, --database-url, or database_url in the configuration file
      - portal_url is not set; set NAS_CRON_PORTAL_URL, --portal-url, or portal_url in the configuration file
    ");
}

#[test]
fn unknown_names_are_rejected_with_a_suggestion() {
    let machine = Machine::sound()
        .set("NAS_CRON_LISEN", "0.0.0.0:1")
        .set("NAS_CRON_CONFG", "x")
        .set("NAS_CRON_LISTEN_PORT", "8080")
        .set("NAS_CRON_ZZZ", "x")
        .arguments(&["--config=a.toml"])
        .file("a.toml", "portal-url = \"https://x.example\"\nfire_timeuot = \"3s\"\n[http]\nlisten = 1\n");
    assert_snapshot!(machine.error(), @"
    invalid configuration, 7 problems:
      - http (a.toml line 3) is a table, but settings have no sections; write `key = value` at the top level
      - fire_timeuot (a.toml line 2) is not a setting; did you mean fire_timeout?
      - portal-url (a.toml line 1) is not a setting; did you mean portal_url?
      - NAS_CRON_CONFG is not a setting; did you mean NAS_CRON_CONFIG?
      - NAS_CRON_LISEN is not a setting; did you mean NAS_CRON_LISTEN?
      - NAS_CRON_LISTEN_PORT is not a setting; remove it; `nas-cron config table` lists all settings
      - NAS_CRON_ZZZ is not a setting; remove it; `nas-cron config table` lists all settings
    ");
}

#[test]
fn all_problems_are_reported_at_once() {
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
    invalid configuration, 14 problems:
      - portal_audiences (a.toml line 4) is a list with values other than text; put quotes around each value
      - retry_cap (a.toml line 5) is of the type datetime, which no setting has; put quotes around it
      - database_url (--database-url) is not a Postgres URL; set a URL such as postgres://user:password@host:5432/database, with special characters percent-encoded
      - migrate = `perhaps` (a.toml line 2) is not a boolean; set true or false
      - listen = `localhost:80` (NAS_CRON_LISTEN) is not a listen address; set an IP address and a port, such as 0.0.0.0:8080 or [::]:8080
      - portal_url = `portal.example` (NAS_CRON_PORTAL_URL) is not an absolute URL; set an absolute URL such as https://portal.example/path
      - fire_token_ttl = `59s` (--fire-token-ttl) is too short; set a duration from 1m to 2m, such as 500ms, 30s, 5m, 12h or 90d
      - callback_allow = `10.0.0.1/8` (NAS_CRON_CALLBACK_ALLOW) has host bits set; set 10.0.0.0/8 for the network or 10.0.0.1 for the single address
      - callback_allow = `nowhere` (NAS_CRON_CALLBACK_ALLOW) is not a network; set addresses and networks such as 10.0.0.0/8, 192.0.2.7 or fd00::/8
      - fire_timeout = `30` (NAS_CRON_FIRE_TIMEOUT) is a duration without a unit; set a duration from 10ms to 5m, such as 500ms, 30s, 5m, 12h or 90d
      - in_flight_max = `0` (a.toml line 1) is too small; set a whole number from 1 to 1000000
      - backend = `redis` (NAS_CRON_BACKEND) is not a known value; set one of postgres, qstash, qstash_direct, nats
      - lease_grace = `3` (a.toml line 3) is a duration without a unit; set a duration from 100ms to 1m, such as 500ms, 30s, 5m, 12h or 90d
      - log_filter = `nas_cron=loud` (NAS_CRON_LOG_FILTER) is not a valid log filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); set a filter such as info or info,nas_cron::fire=debug
    "#);
}

#[test]
fn unusable_configuration_files_are_reported() {
    let machine = Machine::sound().arguments(&["--config=/etc/none.toml"]);
    assert_snapshot!(machine.error(), @"invalid configuration: /etc/none.toml could not be read: entity not found; fix --config or NAS_CRON_CONFIG; `nas-cron config example` prints a file to start from");
    let machine =
        Machine::sound().arguments(&["--config=a.toml"]).file("a.toml", "\ndatabase_url = \"hunter2\n");
    assert_snapshot!(machine.error(), @r#"invalid configuration: a.toml line 2 is not valid TOML: invalid basic string, expected `"`; write one `key = value` per line, with text in quotes"#);
}

#[test]
fn a_variable_that_is_not_utf8_is_rejected() {
    use std::os::unix::ffi::OsStringExt;
    let environment = vec![("NAS_CRON_LISTEN".into(), OsString::from_vec(vec![0xff]))];
    let read = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let sources = Sources { flags: Vec::new(), config: None, environment, read: &read };
    let error = Settings::gather(&sources).log().unwrap_err();
    assert_snapshot!(error, @"invalid configuration: NAS_CRON_LISTEN is not valid UTF-8; set it to UTF-8 text");
}

#[test]
fn migrate_needs_only_the_database() {
    let machine =
        Machine::default().set("NAS_CRON_DATABASE_URL", DATABASE).set("NAS_CRON_FIRE_TIMEOUT", "30");
    assert_eq!(machine.settings().database().unwrap().max_connections, 20);
    assert!(machine.settings().log().is_ok());
    // A misspelt name is rejected nevertheless.
    assert!(machine.set("NAS_CRON_LISEN", "x").settings().database().is_err());
}
