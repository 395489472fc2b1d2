//! The documentation does what it promises: shell blocks run, pages are listed, links resolve.
//!
//! `cargo test --test integration docs::` runs it; `docs::pages::readme` is one page. CONTRIBUTING.md explains how to
//! write a block that can be executed.

pub(crate) mod page;
mod pages;
mod performance;
mod python;
mod scaling;
mod session;
mod summary;
