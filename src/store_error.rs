//! A database failure as the layers above the rooms see it.

use crate::db::DbError;

/// The database did not do what a request needed. Whether it may later is all that callers have to know.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] DbError);

impl StoreError {
    /// Whether the same request may succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        self.0.is_transient()
    }
}

#[cfg(test)]
impl StoreError {
    /// One that passes.
    pub(crate) fn unavailable() -> Self {
        Self(DbError::Unavailable("no connection in time from the pool".into()))
    }

    /// One that does not, and names something of the inside.
    pub(crate) fn defect(inside: &str) -> Self {
        Self(DbError::Defect(inside.into()))
    }
}
