//! Forms that pages send, and the proof that they come from a page of the session.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header::HeaderName};
use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, InvalidField, JobId, OrgId, ScheduleId};
use subtle::ConstantTimeEq;
use url::Url;
use uuid::Uuid;

use crate::http::ApiError;
use crate::http::extract::body::{self, MAX_BODY};
use crate::http::extract::form;
use crate::operator_sessions::Bearing;

/// Field with the token of the session.
const FORM_TOKEN: &str = "form_token";
/// Field with the ID of the submission.
const SUBMISSION_ID: &str = "submission_id";
/// Field with the page to return to.
const BACK: &str = "back";

/// Maximum length of a form of a session, in bytes: that of 200 jobs whose agents and IDs have 255 bytes, each encoded as three.
const MAX_FORM: usize = 512 * 1024;

/// Maximum length of a path of the operators' page, in bytes.
const MAX_PATH: usize = 8_000;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A form that a page has sent: names and values, in their order. One of the values may be an admin token.
#[derive(Clone)]
pub(super) struct Form(Vec<(String, String)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Form")?;
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    /// Reads a form that this service's own page has sent, also without a session.
    pub(super) async fn read(request: Request) -> Result<Self, ApiError> {
        Self::read_up_to(request, MAX_BODY).await
    }

    /// Reads a form of a session. It may select all jobs of a page, with the longest IDs.
    pub(super) async fn read_of_session(request: Request) -> Result<Self, ApiError> {
        Self::read_up_to(request, MAX_FORM).await
    }

    async fn read_up_to(request: Request, max: usize) -> Result<Self, ApiError> {
        require_same_origin(request.headers())?;
        form::require(request.headers())?;
        Ok(Self::parse(&body::read_up_to(request, max).await?))
    }

    /// Parses a form. Every sequence of bytes is one.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// Fails unless the form carries the token of this session.
    pub(super) fn require_proof(&self, id: &Bearing) -> Result<(), ApiError> {
        let token = self.text(FORM_TOKEN).unwrap_or_default();
        if bool::from(token.as_bytes().ct_eq(id.form_token().as_bytes())) {
            return Ok(());
        }
        Err(ApiError::Forged(
            "the form is not from a page of this session, so nothing was changed: reload the page, and send its form again",
        ))
    }

    /// Returns a field; `None` if it is missing or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns all values of a field.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a required field.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, ApiError> {
        self.text(name).ok_or_else(|| InvalidField::new(name, "is missing").into())
    }

    /// Returns a field that is `true` or `false`; false if it is missing.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        let flag = self.text(name).map_or(Ok(false), str::parse);
        Ok(flag.map_err(|_| InvalidField::new(name, "must be true or false"))?)
    }

    /// Returns the instance that the form is about.
    pub(super) fn instance_id(&self) -> Result<InstanceId, ApiError> {
        Ok(InstanceId::new(self.required("instance_id")?)?)
    }

    /// Returns the org that the form is about.
    pub(super) fn org_id(&self) -> Result<OrgId, ApiError> {
        Ok(OrgId::new(self.required("org_id")?)?)
    }

    /// Returns the job that the form is about.
    pub(super) fn job(&self) -> Result<(InstanceId, JobId), ApiError> {
        Ok((self.instance_id()?, JobId::new(self.required("job_id")?)?))
    }

    /// Returns the one-shot that the operator has seen.
    pub(super) fn schedule_id(&self) -> Result<ScheduleId, ApiError> {
        Ok(ScheduleId::parse(self.required("schedule_id")?)?)
    }

    /// Returns the start of the latest attempt that the operator has seen; `None` if there was none.
    pub(super) fn last_started_at(&self) -> Result<Option<DateTime<Utc>>, ApiError> {
        let name = "last_started_at";
        let parsed = self.text(name).map(DateTime::parse_from_rfc3339).transpose();
        let found = parsed.map_err(|_| InvalidField::new(name, "must be the one that the page contains"))?;
        Ok(found.map(|at| at.to_utc()))
    }

    /// Returns the ID of the submission.
    pub(super) fn submission_id(&self) -> Result<Uuid, ApiError> {
        let text = self.required(SUBMISSION_ID)?;
        Uuid::try_parse(text)
            .map_err(|_| InvalidField::new(SUBMISSION_ID, "must be the one that the page contains").into())
    }

    /// Returns the page to return to: one of the operators' page, whatever the form says.
    pub(super) fn back(&self) -> &str {
        local(self.text(BACK)).unwrap_or("/ops")
    }
}

/// Returns a path if it is one of the operators' page, also after a browser has resolved it: `/ops/../x` is not.
pub(super) fn local(path: Option<&str>) -> Option<&str> {
    path.filter(|path| {
        path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic()) && is_below_ops(path)
    })
}

fn is_below_ops(path: &str) -> bool {
    let written = path.split(['?', '#']).next().unwrap_or_default();
    let resolved = Url::parse("https://ops.invalid").and_then(|page| page.join(path));
    // A path that is resolved to itself is one of this host.
    resolved.is_ok_and(|url| url.path() == written)
        && written.strip_prefix("/ops").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !written.contains("//")
}

/// Fails if a browser reports that another site has sent the request.
///
/// The pages' referrer policy makes browsers send the origin `null` with forms, which proves nothing; `Sec-Fetch-Site` does.
fn require_same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let same = match (text(SEC_FETCH_SITE), text(ORIGIN)) {
        (Some(site), _) => site == b"same-origin",
        (None, None | Some(b"null")) => true,
        (None, Some(origin)) => {
            let host = text(HOST).unwrap_or_default();
            [&b"https://"[..], b"http://"].iter().any(|scheme| origin.strip_prefix(*scheme) == Some(host))
        }
    };
    if same {
        return Ok(());
    }
    Err(ApiError::Forged(
        "another site has sent the form, so nothing was changed: use the form of the operators' page",
    ))
}

/// The form, as the gate has checked it.
impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The gate reads the form of every request that changes something.
        Ok(parts.extensions.get::<Self>().cloned().expect("the gate has read the form"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_form_has_no_value() {
        let form =
            Form(vec![("token".to_owned(), "nca_secret".to_owned()), ("next".to_owned(), "/ops".to_owned())]);
        assert_eq!(format!("{form:?}"), r#"Form["token", "next"]"#);
    }

    #[test]
    fn only_pages_of_the_operators_page_are_returned_to() {
        let good = [
            "/ops",
            "/ops/jobs#top",
            "/ops?sent=1",
            "/ops/job?instance_id=a%2F%2Fb&job_id=//",
            "/ops/job?job_id=../x'#a",
        ];
        for good in good {
            assert_eq!(local(Some(good)), Some(good));
        }
        let bad = [
            "",
            "/",
            "/opsx",
            "//ops",
            "https://evil.example/ops",
            "/ops//evil",
            "/ops/\\evil",
            "/ops/a b",
            "/ops/\n",
            "/ops/../api/cron/fire",
            "/ops/jobs/%2e%2E/.%2e/x",
            "/ops/.",
        ];
        for bad in bad {
            assert_eq!(local(Some(bad)), None, "{bad:?}");
        }
        assert_eq!(local(None), None);
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let refused = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            require_same_origin(&headers).is_err()
        };
        let host = ("host", "ops.example:8081");
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(
                refused(&[host, ("sec-fetch-site", site), ("origin", "https://ops.example:8081")]),
                "{site}"
            );
        }
        assert!(!refused(&[host, ("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(!refused(&[host]));
        assert!(!refused(&[host, ("origin", "null")]));
        assert!(!refused(&[host, ("origin", "https://ops.example:8081")]));
        for origin in [
            "https://evil.example",
            "https://ops.example",
            "https://ops.example:8081.evil.example",
            "ftp://ops.example:8081",
        ] {
            assert!(refused(&[host, ("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn fields_may_repeat_and_may_be_missing() {
        let form = Form(vec![
            ("job".into(), "a".into()),
            ("empty".into(), String::new()),
            ("job".into(), "b".into()),
        ]);
        assert_eq!(form.text("job"), Some("a"));
        assert_eq!(form.all("job").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(form.text("empty"), None);
        assert!(form.required("job_id").is_err());
        assert_eq!(form.back(), "/ops");
    }
}
