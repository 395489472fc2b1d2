//! The pages, one file each.

mod job_view;
mod parts;

pub(super) mod audit;
pub(super) mod backends;
pub(super) mod job;
pub(super) mod jobs;
pub(super) mod load;
pub(super) mod now;
