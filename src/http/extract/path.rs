//! Parameters in the path of a request.

use std::convert::Infallible;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use nas_cron_protocol::{InstanceId, InvalidField, JobId};
use serde::de::DeserializeOwned;

use super::refuse;
use crate::http::ApiError;

/// The unchecked parameters of a path. Extracting them never fails: the handler reports invalid ones, after errors of
/// the credential and the body.
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
    /// Parses IDs that the service created, with `read`. Returns `None` for IDs that it cannot have created, and for
    /// invalid UTF-8.
    pub(in crate::http) fn known<N>(self, read: impl FnOnce(T) -> Option<N>) -> Option<N> {
        self.0.ok().and_then(read)
    }
}

impl PathNames<String> {
    /// Parses the only parameter of the path with `new`. Fails with 400.
    pub(in crate::http) fn name<N>(
        self,
        parameter: &str,
        new: impl FnOnce(String) -> Result<N, InvalidField>,
    ) -> Result<N, ApiError> {
        let name = self.0.map_err(|_| refuse(parameter, "must be percent-encoded UTF-8"))?;
        Ok(new(name)?)
    }
}

impl PathNames<(String, String)> {
    /// Parses the agent and the job in the path. Fails with 400.
    pub(in crate::http) fn job(self) -> Result<(InstanceId, JobId), ApiError> {
        let (instance_id, job_id) =
            self.0.map_err(|_| refuse("instance_id, job_id", "must be percent-encoded UTF-8"))?;
        Ok((InstanceId::new(instance_id)?, JobId::new(job_id)?))
    }
}
