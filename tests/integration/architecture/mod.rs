//! Checks the code against the rules of docs/ARCHITECTURE.md, and the references to the documents.

mod code;
mod crates;
mod documents;
mod imports;
mod migrations;
pub(crate) mod tables;
