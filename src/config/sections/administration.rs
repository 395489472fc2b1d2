//! Access to the admin API.

use crate::config::setting::Preset;
use crate::config::typed_key::{ListKey, settings};
use crate::config::values;

settings! { Administration:
    ADMIN_TOKEN_SHA256: ListKey<[u8; 32]> = "admin_token_sha256", values::HASHES,
        Preset::Unset { means: "no admin API", example: "64 HEX DIGITS" },
        "SHA-256 of each bearer token that opens the admin API, in hex: `printf %s \"$TOKEN\" | sha256sum`.";
}
