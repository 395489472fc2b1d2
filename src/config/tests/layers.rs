//! Precedence of the layers, and the values that each may contain.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

#[test]
fn a_flag_overrides_the_environment_the_file_and_the_default() {
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
fn variables_of_the_agents_tools_are_ignored() {
    for (name, _) in OTHER_VARIABLES.iter().filter(|(name, _)| *name != "NAS_CRON_CONFIG") {
        let machine = Machine::sound().set(name, "whatever");
        assert_eq!(machine.value("fire_timeout"), "30s from default");
        machine.config();
    }
    let error = Machine::sound().set("NAS_CRON_SERVR", "x").error();
    assert!(error.contains("did you mean NAS_CRON_SERVER?"), "{error}");
}

#[test]
fn the_flag_config_overrides_its_variable() {
    let machine = Machine::sound().set("NAS_CRON_CONFIG", "a.toml").file("a.toml", "log_filter = \"debug\"");
    let machine = machine.arguments(&["--config", "b.toml"]).file("b.toml", "log_filter = \"warn\"");
    assert_eq!(machine.value("log_filter"), "warn from b.toml line 1");
}

#[test]
fn every_setting_can_come_from_every_layer_and_is_read() {
    let text = |setting: &Setting| match (setting.key, setting.kind, setting.default) {
        ("database_url", ..) => DATABASE,
        ("key_encryption_key", ..) => KEY,
        ("key_encryption_key_fallbacks", ..) => "ZmFsbGJhY2tmYWxsYmFja2ZhbGxiYWNrZmFsbGJhY2s=",
        ("admin_token_sha256", ..) => "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff",
        ("directory", ..) => "lookup",
        ("issuers_file", ..) => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/issuers.toml"),
        ("listen", ..) => "127.0.0.1:1",
        ("metrics_listen", ..) => "127.0.0.1:2",
        ("error_text_retention", ..) => "7d",
        (_, Kind::BaseUrl | Kind::Url, _) => "https://x.example/y",
        (_, _, Preset::Value(value)) => value,
        (_, _, Preset::Required { example } | Preset::Unset { example, .. }) => example,
        (key, ..) => panic!("no text for {key}"),
    };
    // Either of the two is enough, and setting both is an error.
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
fn lists_are_comma_separated_or_toml_arrays() {
    let networks =
        |config: &Config| config.fire.callback_allow.iter().map(ToString::to_string).collect::<Vec<_>>();
    let machine = Machine::sound().set("NAS_CRON_CALLBACK_ALLOW", "10.0.0.0/8, 192.0.2.7,");
    assert_eq!(networks(&machine.config()), ["10.0.0.0/8", "192.0.2.7/32"]);
    let machine = machine.arguments(&["--callback-allow", "::1", "--callback-allow=fd00::/8,127.0.0.1"]);
    assert_eq!(networks(&machine.config()), ["::1/128", "fd00::/8", "127.0.0.1/32"]);
    let machine =
        machine.arguments(&["--config", "a.toml"]).file("a.toml", "portal_audiences = [\"a\", \"b\"]");
    assert_eq!(machine.config().portal.audiences, ["a", "b"]);
    // A flag can also switch off what the environment sets.
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
fn an_empty_variable_counts_as_unset() {
    let machine = Machine::sound().set("NAS_CRON_FIRE_TIMEOUT", "").set("NAS_CRON_PORTAL_JWKS_FILE", "");
    assert_eq!(machine.config().fire.timeout, Duration::from_secs(30));
}

#[test]
fn service_variables_of_kubernetes_are_not_settings() {
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
fn a_file_is_read_only_if_it_is_named() {
    let read = |path: &Path| -> io::Result<String> { panic!("{} was read", path.display()) };
    let sources =
        Sources { flags: Vec::new(), config: None::<PathBuf>, environment: Vec::new(), read: &read };
    assert!(Settings::gather(&sources).log().is_ok());
}
