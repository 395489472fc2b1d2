//! Secrets: from files, and never printed.

use insta::assert_snapshot;
use secrecy::ExposeSecret;

use super::*;

#[test]
fn secrets_are_read_from_files_without_the_final_newline() {
    let machine =
        Machine::sound().unset("NAS_CRON_DATABASE_URL").set("NAS_CRON_DATABASE_URL_FILE", "/run/db");
    let machine = machine.file("/run/db", format!("{DATABASE}\n")).file("/run/kek", format!("{KEY}\r\n"));
    let machine = machine.arguments(&["--key-encryption-key-file", "/run/kek"]);
    let config = machine.config();
    assert_eq!(config.database.url.expose_secret(), DATABASE);
    assert_eq!(config.require_key_encryption().unwrap().key.expose_secret()[31], 31);
    assert_eq!(machine.value("database_url"), "*** from /run/db named by NAS_CRON_DATABASE_URL_FILE");
}

#[test]
fn a_secret_set_twice_in_one_layer_is_rejected_and_a_higher_layer_overrides() {
    let machine = Machine::sound().set("NAS_CRON_DATABASE_URL_FILE", "/run/db").file("/run/db", DATABASE);
    assert_snapshot!(machine.error(), @"invalid configuration: database_url (NAS_CRON_DATABASE_URL) and database_url_file (NAS_CRON_DATABASE_URL_FILE): both are set; keep one of them");
    let machine = Machine::sound().arguments(&["--database-url-file=/run/db"]);
    let machine = machine.file("/run/db", "postgres://other.internal/nas");
    assert_eq!(machine.config().database.url.expose_secret(), "postgres://other.internal/nas");
}

/// 31 bytes of 255 and one of 15, and 32 bytes of 1.
const OTHERS: [&str; 2] =
    ["/////////////////////////////////////////w8=", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="];

#[test]
fn fallbacks_are_a_list_also_in_a_file_with_one_on_each_line() {
    let fallbacks = |machine: Machine| {
        let config = machine.set("NAS_CRON_KEY_ENCRYPTION_KEY", KEY).config();
        let fallbacks = &config.require_key_encryption().unwrap().fallbacks;
        fallbacks.iter().map(|key| key.expose_secret()[0]).collect::<Vec<_>>()
    };
    assert!(fallbacks(Machine::sound()).is_empty());
    let listed = "/////////////////////////////////////////w8=, AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    assert_eq!(fallbacks(Machine::sound().set("NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS", listed)), [255, 1]);
    let in_file = Machine::sound().set("NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS_FILE", "/run/old");
    assert_eq!(fallbacks(in_file.file("/run/old", OTHERS.join("\n") + "\n")), [255, 1]);
}

#[test]
fn invalid_fallbacks_are_reported_without_their_values() {
    for (key, fallbacks, problem) in [
        (Some(KEY), KEY, "one key is there twice"),
        (
            Some(KEY),
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            "one key is there twice",
        ),
        (Some(KEY), "c2VjcmV0", "is 6 bytes long instead of 32"),
        (Some(KEY), "not base64!", "is not base64"),
        (None, OTHERS[0], "a fallback only decrypts"),
    ] {
        let machine = Machine::sound().set("NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS", fallbacks);
        let machine =
            key.into_iter().fold(machine, |machine, key| machine.set("NAS_CRON_KEY_ENCRYPTION_KEY", key));
        let error = machine.error();
        assert!(error.contains(problem) && !error.contains(fallbacks), "{error}");
    }
}

#[test]
fn unusable_secret_files_are_reported() {
    let machine =
        Machine::sound().unset("NAS_CRON_DATABASE_URL").set("NAS_CRON_DATABASE_URL_FILE", "/run/db");
    let machine = machine.set("NAS_CRON_KEY_ENCRYPTION_KEY_FILE", "/run/kek").file("/run/kek", "\n");
    assert_snapshot!(machine.error(), @"
    invalid configuration, 2 problems:
      - database_url (/run/db named by NAS_CRON_DATABASE_URL_FILE) could not be read: entity not found; fix the path, or let the user that runs nas-cron read the file
      - key_encryption_key (/run/kek named by NAS_CRON_KEY_ENCRYPTION_KEY_FILE) is empty; write the secret into it
    ");
}

#[test]
fn no_secret_is_ever_printed() {
    let token = "sk-very-secret-token";
    let machine = Machine::default()
        .set("NAS_CRON_DATABASE_URL", "mysql://root:hunter2@db/x")
        .set("NAS_CRON_KEY_ENCRYPTION_KEY", "hunter2")
        .set("NAS_CRON_ADMIN_TOKEN_SHA256", token)
        .set("NAS_CRON_PORTAL_URL", "https://root:hunter2@portal.example")
        .set("NAS_CRON_QSTASH_URL", "root:hunter2@qstash.example")
        .set(
            "NAS_CRON_NATS_URLS",
            "nats://nats-1.internal:4222,nats://nas-cron:hunter2@nats-2.internal,x:hunter2@y",
        );
    let settings = machine.settings();
    let printed = [
        machine.error(),
        format!("{settings:?}"),
        show::table(&settings),
        show::json(&settings).to_string(),
        format!("{:?}", settings.config().unwrap_err()),
    ];
    assert!(
        printed[0]
            .contains("nats_urls = `nats://***@nats-2.internal` (NAS_CRON_NATS_URLS) contains credentials")
    );
    assert!(printed[0].contains("nats_urls = `***@y`"), "{}", printed[0]);
    let machine = Machine::sound().set("NAS_CRON_KEY_ENCRYPTION_KEY", KEY);
    let sound = [format!("{:?}", machine.config()), show::table(&machine.settings())];
    for text in printed.iter().chain(&sound) {
        assert!(!text.contains("hunter2") && !text.contains(token) && !text.contains(KEY), "{text}");
    }
}

#[test]
fn serve_explains_how_to_generate_a_key_encryption_key() {
    let config = Machine::sound().config();
    assert_snapshot!(config.require_key_encryption().unwrap_err(), @"invalid configuration: key_encryption_key is not set, but private signing keys are stored in the database only in encrypted form; set NAS_CRON_KEY_ENCRYPTION_KEY or NAS_CRON_KEY_ENCRYPTION_KEY_FILE to the same key on every replica; only for a new database, generate one with: openssl rand -base64 32");
}
