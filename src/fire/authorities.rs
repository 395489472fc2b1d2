//! Certificate authorities of agents, in addition to the system's.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::Certificate;

/// Reasons for which the certificates of `callback_ca_file` are unusable. The texts name the fix.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The file is missing or not readable.
    #[error("reading callback_ca_file {} failed: {error}; check the path, and the rights of this user", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        error: io::Error,
    },
    /// The file contains no certificate, or a damaged one.
    #[error(
        "callback_ca_file {} contains no usable certificate: put the authorities' certificates into it as PEM \
         (-----BEGIN CERTIFICATE-----)",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// Reads one or more certificates from a PEM file.
pub fn read(path: &Path) -> Result<Vec<Certificate>, AuthoritiesError> {
    let path = || path.to_owned();
    let pem = std::fs::read(path()).map_err(|error| AuthoritiesError::Unreadable { path: path(), error })?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(AuthoritiesError::NoCertificate { path: path() });
    }
    Ok(certificates)
}
