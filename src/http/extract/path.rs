//! Names in the path of a request.

use std::convert::Infallible;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use nas_cron_protocol::InvalidField;
use serde::de::DeserializeOwned;

use super::refuse;
use crate::http::ApiError;

/// The names in a path, as they came. Extracting them never fails: what is wrong with them is reported by the handler,
/// after what is wrong with the caller and the body.
#[derive(Debug)]
pub(in crate::http) struct PathNames<T>(Result<T, PathRejection>);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathNames<T> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(names)| names)))
    }
}

impl<T> PathNames<T> {
    /// What `read` makes of them; `None` also where they are not UTF-8. For names that we gave: any other is unknown.
    pub(in crate::http) fn known<N>(self, read: impl FnOnce(T) -> Option<N>) -> Option<N> {
        self.0.ok().and_then(read)
    }
}

impl PathNames<String> {
    /// The one name of the path, checked by `new`. Fails with 400.
    pub(in crate::http) fn name<N>(
        self,
        parameter: &str,
        new: impl FnOnce(String) -> Result<N, InvalidField>,
    ) -> Result<N, ApiError> {
        let name = self.0.map_err(|_| refuse(parameter, "must be percent-encoded UTF-8"))?;
        Ok(new(name)?)
    }
}
