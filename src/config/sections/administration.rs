//! Access to the admin API, and its audit log.

use std::time::Duration;

use crate::config::setting::Preset;
use crate::config::typed_key::{Key, ListKey, settings};
use crate::config::values;

settings! { Administration:
    ADMIN_TOKEN_SHA256: ListKey<[u8; 32]> = "admin_token_sha256", values::HASHES,
        Preset::Unset { means: "none", example: "64 HEX DIGITS" },
        "SHA-256 hashes (hex) of bearer tokens of the admin API, with all rights, beside those of `nas-cron admin-tokens`. To compute one: `printf %s \"$TOKEN\" | sha256sum`.";
    AUDIT_RETENTION: Key<Duration> = "audit_retention", values::duration(values::DAY, values::DECADE),
        Preset::Value("400d"),
        "Retention period of the audit log, and of revoked and expired admin tokens.";
}
