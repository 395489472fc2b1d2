//! Keys of settings that code outside the configuration refers to.

pub use super::sections::database::DATABASE_URL;
pub use super::sections::fires::{CALLBACK_ALLOW, CALLBACK_CA_FILE};
pub use super::sections::keys::{AGENTS_JWKS_URL, KEY_ENCRYPTION_KEY, KEY_ENCRYPTION_KEY_FALLBACKS};
pub use super::sections::listening::PUBLIC_URL;
pub use super::sections::logs::LOG_FILTER;
pub use super::sections::portal::issuer::{PORTAL_JWKS_FILE, PORTAL_JWKS_URL, PORTAL_URL};
pub use super::sections::portal::own::OWN_PORTAL;
