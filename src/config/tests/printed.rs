//! The printed table: `config show`, the example file, the table in docs/configuration.md.

use insta::assert_snapshot;

use super::*;

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
            assert!(
                [Some(from), unless].into_iter().flatten().all(|other| Setting::find(other.key).is_some())
            );
        }
    }
    // Headings are not repeated.
    let mut sections: Vec<_> = SETTINGS.iter().map(|setting| setting.section).collect();
    sections.dedup();
    let titles: std::collections::BTreeSet<_> = sections.iter().map(|section| section.title()).collect();
    assert_eq!(titles.len(), sections.len());
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

    // Uncommenting every line that shows a default changes nothing.
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
#[expect(clippy::too_many_lines, reason = "they are the lines of the table")]
fn config_show_prints_values_and_origins() {
    let machine = Machine::sound()
        .set("NAS_CRON_CALLBACK_ALLOW", "10.0.0.0/8,::1")
        .set("NAS_CRON_KEY_ENCRYPTION_KEY_FILE", "/run/kek")
        .file("/run/kek", KEY)
        .arguments(&["--portal-jwks-file=/etc/portal.pem", "--second-fires-max=2"]);
    assert_snapshot!(show::table(&machine.settings()), @"
    SETTING                                  VALUE                                                                      FROM
    database_url                             ***                                                                        NAS_CRON_DATABASE_URL
    database_max_connections                 20                                                                         default
    migrate                                  false                                                                      default
    listen                                   0.0.0.0:8080                                                               default
    metrics_listen                           0.0.0.0:9090                                                               default
    admin_listen                             (on listen)
    public_url                               https://portal.example/                                                    default, from portal_url
    connection_idle_timeout                  75s                                                                        default
    portal_url                               https://portal.example/                                                    NAS_CRON_PORTAL_URL
    portal_jwks_url                          (unused: portal_jwks_file)
    portal_jwks_file                         /etc/portal.pem                                                            --portal-jwks-file
    portal_audiences                         (any audience)
    own_portal                               false                                                                      default
    access_token_ttl                         1h                                                                         default
    directory                                table                                                                      default
    lookup_url                               (required with directory = lookup)
    lookup_token                             (required with directory = lookup)
    lookup_ttl                               60s                                                                        default
    lookup_negative_ttl                      10s                                                                        default
    lookup_stale                             7d                                                                         default
    introspection_url                        (opaque tokens are refused)
    introspection_client_id                  (required with introspection_url)
    introspection_client_secret              (required with introspection_url)
    introspection_ttl                        60s                                                                        default
    issuers_file                             (only the portal)
    signing_alg                              ES256                                                                      default
    key_rotation_period                      90d                                                                        default
    key_encryption_key                       ***                                                                        /run/kek named by NAS_CRON_KEY_ENCRYPTION_KEY_FILE
    key_encryption_key_fallbacks             (none)
    agents_jwks_url                          https://portal.example/api/agent-cron/jwks.json                            default, from public_url
    fire_token_ttl                           90s                                                                        default
    agent_identity                           false                                                                      default
    agent_task_lifetime                      24h                                                                        default
    agent_task_ids_encrypted                 false                                                                      default
    admin_token_sha256                       (none)
    audit_retention                          400d                                                                       default
    jobs_per_instance                        10000                                                                      default
    jobs_per_org                             1000000                                                                    default
    callback_allow                           10.0.0.0/8,::1                                                             NAS_CRON_CALLBACK_ALLOW
    callback_ca_file                         (the system's certificate authorities only)
    fire_timeout                             30s                                                                        default
    connect_timeout                          10s                                                                        default
    in_flight_max                            1024                                                                       default
    in_flight_per_instance                   16                                                                         default
    fire_floor                               1s                                                                         default
    retry_definite_base                      1s                                                                         default
    retry_ambiguous_floor                    10s                                                                        default
    retry_cap                                1h                                                                         default
    retry_give_up_after                      72h                                                                        default
    second_fire_delay                        60s                                                                        default
    second_fire_interval                     300s                                                                       default
    second_fires_max                         2                                                                          --second-fires-max
    claim_lifetime                           300s                                                                       default
    duplicate_delay                          330s                                                                       default
    lease_horizon                            2s                                                                         default
    lease_grace                              3s                                                                         default
    lease_margin                             10s                                                                        default
    lease_capacity                           8192                                                                       default
    backend                                  postgres                                                                   default
    relay_url                                https://portal.example/api/agent-cron/relay                                default, from public_url
    watchdog_grace                           5s                                                                         default
    engine_timeout                           10s                                                                        default
    qstash_token                             (QStash is not configured)
    qstash_current_signing_key               (required with qstash_token)
    qstash_next_signing_key                  (none)
    qstash_url                               https://qstash.upstash.io                                                  default
    qstash_region                            (the account of qstash_token, or else that of the only configured region)
    eu_central_1_qstash_token                (no account in this region)
    eu_central_1_qstash_current_signing_key  (required with eu_central_1_qstash_token)
    eu_central_1_qstash_next_signing_key     (none)
    eu_central_1_qstash_url                  https://qstash-eu-central-1.upstash.io                                     default
    us_east_1_qstash_token                   (no account in this region)
    us_east_1_qstash_current_signing_key     (required with us_east_1_qstash_token)
    us_east_1_qstash_next_signing_key        (none)
    us_east_1_qstash_url                     https://qstash-us-east-1.upstash.io                                        default
    qstash_retries                           3                                                                          default
    qstash_furthest                          7d                                                                         default
    qstash_direct_grace                      15m                                                                        default
    nats_urls                                (NATS is not configured)
    nats_credentials_file                    (no authentication)
    nats_ca_file                             (the system's certificate authorities)
    nats_certificate_file                    (none)
    nats_key_file                            (none)
    nats_stream                              NAS_CRON                                                                   default
    nats_subject                             nas-cron                                                                   default
    nats_replicas                            1                                                                          default
    event_group_wait                         30s                                                                        default
    event_group_interval                     5m                                                                         default
    history_retention                        30d                                                                        default
    error_text_retention                     30d                                                                        default, from history_retention
    drain_delay                              15s                                                                        default
    shutdown_timeout                         45s                                                                        default
    log_format                               auto                                                                       default
    log_filter                               info                                                                       default
    otlp_endpoint                            (no traces)
    otlp_headers                             (none)
    traces_sample_ratio                      1                                                                          default
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
    | Variable | Default | Description |
    |---|---|---|
    | `NAS_CRON_DATABASE_URL` (or `NAS_CRON_DATABASE_URL_FILE`) | **required** | URL of the Postgres database. It may list several hosts (`host1:5432,host2:5432`); the writable one is used. Without a user it means `PGUSER`, else the operating system's user. A connection pooler must run in session mode. |
    | `NAS_CRON_DATABASE_MAX_CONNECTIONS` | `20` | Maximum database connections per replica. Three tenths are reserved for fires, the rest serve requests. Two additional connections receive notifications and keep the replica registered. |
    ");
}
