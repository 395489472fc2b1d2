//! Access to the admin API.

use crate::config::setting::Preset;
use crate::config::typed_key::{ListKey, settings};
use crate::config::values;

settings! { Administration:
    ADMIN_TOKEN_SHA256: ListKey<[u8; 32]> = "admin_token_sha256", values::HASHES,
        Preset::Unset { means: "admin API disabled", example: "64 HEX DIGITS" },
        "SHA-256 hashes (hex) of the bearer tokens accepted by the admin API. To compute one: `printf %s \"$TOKEN\" | sha256sum`.";
}
