//! Fields of an HTML form (`application/x-www-form-urlencoded`), each at most once (RFC 6749, 3.2).

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use nas_cron_protocol::InvalidField;
use secrecy::SecretString;

use crate::http::ApiError;

/// Fails with 400 unless the content type is that of a form.
pub(in crate::http) fn require(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(());
    }
    Err(InvalidField::new("Content-Type", "must be application/x-www-form-urlencoded").into())
}

/// The known fields of one form. Any of them may be a secret.
#[derive(Debug)]
pub(in crate::http) struct FormFields(Vec<(&'static str, SecretString)>);

impl FormFields {
    /// Reads the known fields. An empty field counts as missing; unknown fields are ignored. Fails with 400 if a known
    /// field occurs more than once.
    pub(in crate::http) fn parse(body: &[u8], known: &[&'static str]) -> Result<Self, ApiError> {
        let mut fields = Vec::with_capacity(known.len());
        for (name, value) in url::form_urlencoded::parse(body) {
            let Some(name) = known.iter().copied().find(|known| *known == name) else { continue };
            if value.is_empty() {
                continue;
            }
            if fields.iter().any(|(earlier, _)| *earlier == name) {
                return Err(InvalidField::new(name, "must be sent only once").into());
            }
            fields.push((name, value.into_owned().into()));
        }
        Ok(Self(fields))
    }

    /// Returns a field as text.
    pub(in crate::http) fn text(&self, name: &str) -> Option<&SecretString> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns a required field. Fails with 400 if it is missing.
    pub(in crate::http) fn required(&self, name: &'static str) -> Result<&SecretString, ApiError> {
        self.text(name).ok_or_else(|| InvalidField::new(name, "is missing").into())
    }
}
