//! Database failures for the layers above SQL.

use crate::db::DbError;

/// A database statement failed. Callers only need to know if a retry may succeed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] DbError);

impl StoreError {
    /// True if a retry of the same request may succeed.
    pub fn is_transient(&self) -> bool {
        self.0.is_transient()
    }
}

#[cfg(test)]
impl StoreError {
    /// A transient error.
    pub(crate) fn unavailable() -> Self {
        Self(DbError::Unavailable("no connection in time from the pool".into()))
    }

    /// A permanent error that contains an internal detail.
    pub(crate) fn defect(inside: &str) -> Self {
        Self(DbError::Defect(inside.into()))
    }
}
