//! Defaults, and rules between settings.

use std::time::Duration;

use insta::assert_snapshot;

use super::*;
use crate::domain::qstash_region::QstashRegion;

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
fn conflicting_settings_are_reported() {
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
    invalid configuration, 9 problems:
      - listen = `0.0.0.0:8080` (default) and metrics_listen = `127.0.0.1:8080` (NAS_CRON_METRICS_LISTEN): both use the same port, and metrics must not be public; give metrics_listen another port
      - portal_jwks_url = `https://portal.example/keys` (NAS_CRON_PORTAL_JWKS_URL) and portal_jwks_file = `/etc/portal.pem` (--portal-jwks-file): only one of them can be set; keep the URL for keys that refresh, or the file for pinned keys
      - lease_margin = `500ms` (NAS_CRON_LEASE_MARGIN): a lease could end before its attempt's deadline, and a second attempt could start meanwhile; set lease_margin to 1s or more
      - lease_capacity = `1000` (NAS_CRON_LEASE_CAPACITY) and in_flight_max = `1024` (default): each attempt in flight needs a lease, so in_flight_max could never be reached; raise lease_capacity or lower in_flight_max
      - connect_timeout = `31s` (NAS_CRON_CONNECT_TIMEOUT) and fire_timeout = `30s` (default): connecting is part of the attempt and cannot have more time than the whole attempt; lower connect_timeout or raise fire_timeout
      - retry_definite_base = `2h` (NAS_CRON_RETRY_DEFINITE_BASE) and retry_cap = `1h` (default): the first retry delay would exceed the maximum; lower retry_definite_base or raise retry_cap
      - retry_ambiguous_floor = `3h` (NAS_CRON_RETRY_AMBIGUOUS_FLOOR) and retry_cap = `1h` (default): the minimum retry delay would exceed the maximum; lower retry_ambiguous_floor or raise retry_cap
      - retry_cap = `1h` (default) and retry_give_up_after = `30m` (NAS_CRON_RETRY_GIVE_UP_AFTER): the retry budget could be spent before the next attempt; lower retry_cap or raise retry_give_up_after
      - second_fire_delay = `10m` (NAS_CRON_SECOND_FIRE_DELAY) and second_fire_interval = `300s` (default): the first second fire would be delayed for longer than later ones; lower second_fire_delay or raise second_fire_interval
    ");
    let crossed = Machine::sound().set("NAS_CRON_ADMIN_LISTEN", "127.0.0.1:9090");
    assert_snapshot!(crossed.error(), @"invalid configuration: metrics_listen = `0.0.0.0:9090` (default) and admin_listen = `127.0.0.1:9090` (NAS_CRON_ADMIN_LISTEN): both use the same port; give admin_listen another port, or leave it out to serve the admin API on listen");
    let slow = Machine::sound().set("NAS_CRON_FIRE_TIMEOUT", "91s");
    assert_snapshot!(slow.error(), @"invalid configuration: fire_timeout = `91s` (NAS_CRON_FIRE_TIMEOUT) and fire_token_ttl = `90s` (default): the token could expire while the agent is still booting; lower fire_timeout or raise fire_token_ttl (at most 120s)");
    assert!(slow.set("NAS_CRON_FIRE_TOKEN_TTL", "91s").settings().config().is_ok());
}

#[test]
fn the_built_in_portal_rejects_other_keys_and_needs_a_key_encryption_key() {
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
    invalid configuration, 4 problems:
      - access_token_ttl = `9m` (NAS_CRON_ACCESS_TOKEN_TTL) is too short; set a duration from 10m to 1d, such as 500ms, 30s, 5m, 12h or 90d
      - own_portal = `true` (NAS_CRON_OWN_PORTAL) and portal_jwks_file = `/etc/portal.pem` (NAS_CRON_PORTAL_JWKS_FILE): the built-in portal verifies access tokens with its own keys only; remove it, or set own_portal to false if another portal issues the tokens
      - own_portal = `true` (NAS_CRON_OWN_PORTAL): the built-in portal derives refresh tokens from the key-encryption key, which is not set; set NAS_CRON_KEY_ENCRYPTION_KEY or NAS_CRON_KEY_ENCRYPTION_KEY_FILE to the same key on every replica; only for a new database, generate one with: openssl rand -base64 32
      - own_portal = `true` (NAS_CRON_OWN_PORTAL) and portal_audiences = `cron` (NAS_CRON_PORTAL_AUDIENCES): the audience of the built-in portal's own access tokens is missing; add hermes-cli-vps to portal_audiences, or remove portal_audiences
    ");
    let asks = Machine::sound()
        .set("NAS_CRON_OWN_PORTAL", "true")
        .set("NAS_CRON_KEY_ENCRYPTION_KEY", KEY)
        .set("NAS_CRON_INTROSPECTION_URL", "https://portal.example/introspect")
        .set("NAS_CRON_INTROSPECTION_CLIENT_ID", "cron")
        .set("NAS_CRON_INTROSPECTION_CLIENT_SECRET", "secret");
    assert!(asks.error().contains("does not introspect them"), "{}", asks.error());
    let off = Machine::sound().settings().own_portal().unwrap_err();
    assert_snapshot!(off, @"invalid configuration: own_portal = `false` (default): another portal issues the agents' tokens and logins; set own_portal to true for this command and for `serve`, or register the agent with `nas-cron agents add`");
}

#[test]
fn headers_for_the_collector_are_not_sent_unencrypted() {
    let to = |endpoint: &'static str| {
        Machine::sound()
            .set("NAS_CRON_OTLP_HEADERS", "authorization=Bearer%20x")
            .set("NAS_CRON_OTLP_ENDPOINT", endpoint)
    };
    assert_snapshot!(to("http://collector:4318").error(), @"invalid configuration: otlp_headers = `***` (NAS_CRON_OTLP_HEADERS): the headers would be sent unencrypted; use an https URL in otlp_endpoint (http is allowed for loopback only), or leave the headers out");
    for allowed in ["https://collector:4318", "http://127.0.0.1:4318"] {
        assert!(to(allowed).config().traces.is_some(), "{allowed}");
    }
    for endpoint in ["grpc://collector:4317", "collector:4317"] {
        let error = Machine::sound().set("NAS_CRON_OTLP_ENDPOINT", endpoint).error();
        assert!(error.contains("is not an http(s) URL"), "{error}");
    }
}

#[test]
fn a_rule_is_not_checked_if_one_of_its_settings_is_invalid() {
    let error = Machine::sound().set("NAS_CRON_FIRE_TIMEOUT", "forever").error();
    assert!(error.starts_with("invalid configuration: fire_timeout = `forever`"), "{error}");
}

#[test]
fn qstash_publishes_to_the_chosen_region_and_knows_the_others() {
    let plain = |machine: Machine| {
        machine.set("NAS_CRON_QSTASH_TOKEN", "token").set("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", "sig_a")
    };
    let eu = |machine: Machine| {
        machine
            .set("NAS_CRON_EU_CENTRAL_1_QSTASH_TOKEN", "token")
            .set("NAS_CRON_EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_a")
    };
    let us = |machine: Machine| {
        machine
            .set("NAS_CRON_US_EAST_1_QSTASH_TOKEN", "token")
            .set("NAS_CRON_US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", "sig_a")
    };
    let regions = |machine: &Machine| {
        let qstash = machine.config().backends.qstash.expect("it is configured");
        qstash.accounts.iter().map(|account| account.region.map(QstashRegion::as_str)).collect::<Vec<_>>()
    };
    assert_eq!(regions(&plain(Machine::sound())), [None]);
    let alone = eu(Machine::sound()).set("NAS_CRON_BACKEND", "qstash");
    assert_eq!(regions(&alone), [Some("eu-central-1")]);
    let both = us(eu(Machine::sound()));
    assert_snapshot!(both.error(), @"invalid configuration: eu_central_1_qstash_token = `***` (NAS_CRON_EU_CENTRAL_1_QSTASH_TOKEN) and us_east_1_qstash_token = `***` (NAS_CRON_US_EAST_1_QSTASH_TOKEN): both regions could be published to; set qstash_region to one of them");
    // As in the variables of the official SDK.
    let chosen = both.set("NAS_CRON_QSTASH_REGION", "US_EAST_1");
    assert_eq!(regions(&chosen), [Some("us-east-1"), Some("eu-central-1")]);
    let all = plain(chosen);
    assert_eq!(regions(&all), [Some("us-east-1"), None, Some("eu-central-1")]);
    assert_eq!(
        regions(&all.unset("NAS_CRON_QSTASH_REGION")),
        [None, Some("eu-central-1"), Some("us-east-1")]
    );
    let wrong = Machine::sound()
        .set("NAS_CRON_QSTASH_REGION", "eu-central-1")
        .set("NAS_CRON_US_EAST_1_QSTASH_TOKEN", "token");
    assert_snapshot!(wrong.error(), @"
    invalid configuration, 2 problems:
      - us_east_1_qstash_token = `***` (NAS_CRON_US_EAST_1_QSTASH_TOKEN): QStash's calls could not be authenticated; set us_east_1_qstash_current_signing_key too
      - qstash_region = `eu-central-1` (NAS_CRON_QSTASH_REGION): there is no account in this region; set eu_central_1_qstash_token
    ");
    let plaintext = us(Machine::sound()).set("NAS_CRON_US_EAST_1_QSTASH_URL", "http://qstash.example");
    assert!(plaintext.error().contains("us_east_1_qstash_url"), "{}", plaintext.error());
    assert_snapshot!(Machine::sound().set("NAS_CRON_QSTASH_REGION", "ap-1").error(), @"invalid configuration: qstash_region = `ap-1` (NAS_CRON_QSTASH_REGION) is not a known value; set eu-central-1 or us-east-1");
}

#[test]
fn every_external_backend_has_variables_and_a_grace() {
    let configured = Machine::sound().config().backends;
    for backend in BackendName::ALL.iter().copied().filter(|one| *one != BackendName::Postgres) {
        assert!(!backends::variables_of(backend).is_empty(), "{backend}");
        assert!(configured.grace(backend) > Duration::ZERO, "{backend}");
        assert!(!configured.is_configured(backend), "{backend}");
    }
    assert_eq!(backends::variables_of(BackendName::Postgres), "");
    assert!(
        configured.is_configured(BackendName::Postgres) && configured.grace(BackendName::Postgres).is_zero()
    );
}
