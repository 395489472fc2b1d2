//! The operations of operators, above SQL: the admin API and the command line call the same functions and show the same
//! results.
//!
//! [`Operations`] may be limited to an org. Whatever belongs to another one is then unknown, by the same statements as
//! something that does not exist.

pub mod agents;
pub mod auth_profiles;
pub mod backends;
mod cursor;
pub mod holds;
pub mod jobs;
pub mod keys;
pub mod logins;
pub mod orgs;
pub mod overview;
pub mod phrase;
pub mod quotas;

pub use self::cursor::Cursor;

use nas_cron_protocol::{InvalidField, OrgId};

use crate::db::{Db, DbError};
use crate::directory::DirectoryError;
use crate::domain::actor::Denied;
use crate::domain::quota::DefaultQuotas;

/// An operation could not be carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The subject does not exist, or belongs to another org than the caller may see.
    #[error("{0}")]
    Unknown(String),
    /// The subject is in another state than the operation needs.
    #[error("{0}")]
    Conflict(String),
    /// The caller is limited to an org, and may not do this to the whole service.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A parameter is invalid.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// An agent could not be found or changed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The result of an operation.
pub type OperationResult<T> = Result<T, OperationError>;

/// The operations on the service of one database.
#[derive(Clone, Debug)]
pub struct Operations {
    db: Db,
    org_id: Option<OrgId>,
    default_quotas: DefaultQuotas,
}

impl Operations {
    /// The operations on the whole service, whose instances and orgs have these quotas by default.
    pub fn new(db: Db, default_quotas: DefaultQuotas) -> Self {
        Self { db, org_id: None, default_quotas }
    }

    /// The operations of a caller that sees this org only; `None` for one that sees everything.
    #[must_use]
    pub fn within(&self, org_id: Option<&OrgId>) -> Self {
        Self { org_id: org_id.cloned(), ..self.clone() }
    }

    /// The org that the caller is limited to.
    fn org(&self) -> Option<&OrgId> {
        self.org_id.as_ref()
    }

    /// True if the caller sees this org.
    fn sees(&self, org_id: &str) -> bool {
        self.org().is_none_or(|own| own.as_str() == org_id)
    }
}
