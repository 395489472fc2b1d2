//! The text of a search for agents.

use nas_cron_protocol::InvalidField;
use nas_cron_protocol::schema::TextSchema;

/// Maximum length of the text of a search, in bytes.
const MAX_SEARCH: usize = 255;
/// Schemes of callbacks.
const SCHEMES: [&str; 2] = ["https://", "http://"];

/// The beginning of an instance's ID, or of its callback with or without the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSearch(String);

nas_cron_protocol::text_schema!(
    AgentSearch,
    TextSchema {
        description: "Beginning of an agent's ID, or of its callback with or without the scheme.",
        max_bytes: Some(MAX_SEARCH),
        pattern: Some("^[^\\u0000-\\u001f\\u007f-\\u009f]+$"),
        format: None,
        example: "agent-1.example",
    }
);

impl AgentSearch {
    /// Checks the text of a search.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidField> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_SEARCH || text.chars().any(char::is_control) {
            let problem = format!("must have 1 to {MAX_SEARCH} bytes, and no control characters");
            return Err(InvalidField::new("search", problem));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The beginnings of callbacks that match.
    pub fn callbacks(&self) -> Vec<String> {
        if SCHEMES.iter().any(|scheme| self.0.starts_with(scheme)) {
            return vec![self.0.clone()];
        }
        // A host may begin with `http`, and so does a scheme that is not complete yet.
        let whole = self.0.starts_with("http").then(|| self.0.clone());
        let hosts = SCHEMES.iter().map(|scheme| format!("{scheme}{}", self.0));
        whole.into_iter().chain(hosts).collect()
    }
}

impl std::str::FromStr for AgentSearch {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_limited_in_bytes() {
        assert!(AgentSearch::new("ü".repeat(127)).is_ok());
        for text in [String::new(), "ü".repeat(128), "a\nb".to_owned(), "\u{85}".to_owned()] {
            let problem = AgentSearch::new(text).unwrap_err().to_string();
            assert_eq!(problem, "search: must have 1 to 255 bytes, and no control characters");
        }
    }

    #[test]
    fn callback_is_found_with_and_without_its_scheme() {
        let callbacks = |text: &str| AgentSearch::new(text).unwrap().callbacks();
        assert_eq!(callbacks("gateway."), ["https://gateway.", "http://gateway."]);
        assert_eq!(callbacks("https://gateway."), ["https://gateway."]);
        assert_eq!(callbacks("http:/"), ["http:/", "https://http:/", "http://http:/"]);
        assert_eq!(callbacks("httpbin"), ["httpbin", "https://httpbin", "http://httpbin"]);
    }
}
