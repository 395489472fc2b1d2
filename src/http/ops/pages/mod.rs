//! The pages, one file each.

mod job_view;

pub(super) mod audit;
pub(super) mod job;
pub(super) mod jobs;
