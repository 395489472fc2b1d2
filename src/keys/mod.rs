//! The keys that sign fire tokens: how they are kept, when they come and go, and what everybody may know of them.
//!
//! [`KeyRing`] is what the rest of the service holds: it mints tokens and serves the JWKS from a view in memory
//! that is read from the database every 5 s. [`rotation`] decides, purely, what is due; [`sweep`] does it, on
//! any replica, in one transaction at a time. Private halves are in the database only sealed ([`encryption`]),
//! or in a PEM file outside of it.

pub mod access_token;
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
pub use encryption::KeyEncryptionKey;
pub use fire_token::{FireSubject, TokenTtl};
pub use jwks::Jwks;
pub use key_ring::{KeyRing, KeyRingOptions, MintError};
pub use rotation::RotationPolicy;
