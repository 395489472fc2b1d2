//! The time that a step of the work took, for traces.

use std::time::Instant;

/// A step, by this process's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Its start.
    pub began: Instant,
    /// Its end.
    pub ended: Instant,
}

impl Stage {
    /// Returns the step that began then and ends now.
    pub fn since(began: Instant) -> Self {
        Self { began, ended: Instant::now() }
    }
}
