//! The pages, one file each.

mod agent_view;
mod job_view;
mod parts;
mod subject;
mod timeline;
mod webhook_view;

pub(super) mod agent;
pub(super) mod agents;
pub(super) mod audit;
pub(super) mod backends;
pub(super) mod batch;
mod batch_commands;
pub(super) mod dead_letters;
pub(super) mod events;
pub(super) mod holds;
pub(super) mod job;
pub(super) mod jobs;
pub(super) mod load;
pub(super) mod now;
mod recurrence;
pub(super) mod switch;
pub(super) mod webhook;
