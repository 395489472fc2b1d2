//! The keys that sign fire tokens: storage, rotation and publication.
//!
//! The rest of the service uses [`KeyRing`]: it mints tokens and serves the JWKS from a view in memory that is read from
//! the database every 6 s. [`rotation`] decides which steps are due (pure functions), and [`sweep`] takes them in one
//! transaction, on any replica. Private halves are stored encrypted in the database ([`encryption`]), or in PEM files.

pub mod access_token;
pub mod agents_jwks;
pub mod custody;
pub mod encryption;
pub mod fire_token;
pub mod jwks;
pub mod key_ring;
pub mod pem;
pub mod rotation;
pub mod signer;
pub mod sweep;

pub use access_token::AccessSubject;
pub use custody::KeyError;
pub use encryption::KeyEncryptionKeys;
pub use fire_token::{FireSubject, TokenTtl};
pub use jwks::Jwks;
pub use key_ring::{KeyRing, KeyRingOptions, MintError};
pub use rotation::RotationPolicy;
