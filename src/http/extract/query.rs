//! Query parameters: each known by name, each at most once, so that a typo is not taken for "all of them".

use super::refuse;
use crate::http::ApiError;

/// The parameters of one request.
pub(in crate::http) struct QueryParams(Vec<(String, String)>);

impl QueryParams {
    /// `query` is what follows the `?`.
    pub(in crate::http) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(refuse(name, format_args!("unknown parameter; known are {}", known.join(", "))));
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(refuse(name, "must not be there twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter as text.
    pub(in crate::http) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is true or false.
    pub(in crate::http) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| refuse(name, "must be true or false")))
            .transpose()
    }

    /// A parameter that is a number from 1 to `max`.
    pub(in crate::http) fn number(&self, name: &str, max: u32) -> Result<Option<u32>, ApiError> {
        let wrong = || refuse(name, format_args!("must be a number from 1 to {max}"));
        self.text(name)
            .map(|text| text.parse().ok().filter(|number| (1..=max).contains(number)).ok_or_else(wrong))
            .transpose()
    }
}
