//! Reads the body, form, query and path of requests, within common limits.
//!
//! Invalid input is an [`ApiError`] with status 400, 408 or 413. Its description begins with the name of the field or
//! parameter, if known, and repeats nothing else of the input.

pub(super) mod body;
pub(super) mod form;
pub(super) mod json;
pub(super) mod path;
pub(super) mod query;
pub(super) mod unread_body;
pub(super) mod whole;

pub use self::json::JsonBody;
pub(super) use self::path::PathNames;
pub(super) use self::query::QueryParams;
use super::ApiError;

/// 400 for an invalid field or parameter. The name is shortened, because the sender may have chosen it.
pub(super) fn refuse(name: &str, problem: impl std::fmt::Display) -> ApiError {
    let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    ApiError::Body(format!("{name}: {problem}"))
}
