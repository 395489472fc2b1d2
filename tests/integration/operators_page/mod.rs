//! The operators' page: as HTTP, and in a real browser.

mod browser;
mod fixture;
mod forms;
mod pages;
mod sessions;
