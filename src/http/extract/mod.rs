//! What requests carry: body, form, query and path, read with one set of bounds and refused with one error.
//!
//! Whatever cannot be read is an [`ApiError`] of 400, 408 or 413 whose description begins with the name of the field or
//! parameter, where there is one, and repeats nothing else of what came.

pub(super) mod body;
pub(super) mod form;
pub(super) mod json;
pub(super) mod path;
pub(super) mod query;
mod strict_json;
pub(super) mod unread_body;

pub use self::json::JsonBody;
pub(super) use self::path::PathNames;
pub(super) use self::query::QueryParams;
use super::ApiError;

/// 400 for a field or parameter that cannot be accepted. Its name, which may be the sender's, is shortened.
pub(super) fn refuse(name: &str, problem: impl std::fmt::Display) -> ApiError {
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    ApiError::Body(format!("{name}: {problem}"))
}
