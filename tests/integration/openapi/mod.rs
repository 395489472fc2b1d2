//! The `OpenAPI` document: complete, true, and shown at `/docs`.

mod document;
mod page;
mod schemathesis;
