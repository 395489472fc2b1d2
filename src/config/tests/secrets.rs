//! Secrets: from files, and never printed.

use insta::assert_snapshot;
use secrecy::ExposeSecret;

use super::*;

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
