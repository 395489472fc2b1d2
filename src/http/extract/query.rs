//! Query parameters. Unknown and repeated ones are rejected, so that a typo in a filter does not select everything.

use super::refuse;
use crate::http::ApiError;

/// The parameters of one request.
#[derive(Clone, Debug)]
pub(in crate::http) struct QueryParams(Vec<(String, String)>);

impl QueryParams {
    /// Parses a query string (without the `?`).
    pub(in crate::http) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let others = if known.is_empty() { "there is none" } else { "use " };
                let problem = format_args!("unknown parameter; {others}{}", known.join(", "));
                return Err(refuse(name, problem));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(refuse(name, "must occur only once"));
            }
        }
        Ok(Self(pairs))
    }

    /// Returns a parameter as text.
    pub(in crate::http) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a boolean parameter. Fails with 400 unless it is `true` or `false`.
    pub(in crate::http) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| refuse(name, "must be true or false")))
            .transpose()
    }

    /// Returns a numeric parameter. Fails with 400 unless it is a number from 1 to `max`.
    pub(in crate::http) fn number(&self, name: &str, max: u32) -> Result<Option<u32>, ApiError> {
        self.number_from(name, 1, max)
    }

    /// Returns a numeric parameter. Fails with 400 unless it is a number from `min` to `max`.
    pub(in crate::http) fn number_from(
        &self,
        name: &str,
        min: u32,
        max: u32,
    ) -> Result<Option<u32>, ApiError> {
        let wrong = || refuse(name, format_args!("must be a number from {min} to {max}"));
        self.text(name)
            .map(|text| text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(wrong))
            .transpose()
    }
}
