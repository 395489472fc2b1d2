//! Groups dead letters by their error.

use crate::db::jobs;
use crate::domain::dead_letters::DeadLetters;
use crate::operations::{OperationResult, Operations};

impl Operations {
    /// Groups the dead letters and stuck one-shots that the caller sees by their error. Examines a limited number of them.
    pub async fn dead_letters(&self) -> OperationResult<DeadLetters> {
        Ok(jobs::dead_letters(&self.db, self.org()).await?)
    }
}
