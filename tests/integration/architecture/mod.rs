//! The rules of `docs/ARCHITECTURE.md`, and the references to the documents, checked by reading the code.

mod code;
mod crates;
mod documents;
mod imports;
mod tables;
