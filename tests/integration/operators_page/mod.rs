//! The operators' page: as HTTP, and in a real browser.

mod batches;
mod browser;
mod commands;
pub(crate) mod fixture;
mod forms;
mod history;
mod lists;
mod live;
mod matrix;
mod now;
mod pages;
mod search;
mod service;
mod sessions;
mod story;
mod times;
