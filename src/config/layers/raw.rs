//! A value as written, and its origin.

use super::super::parse;
use super::super::problem::Origin;
use super::super::setting::{Kind, Setting};
use super::super::urls;

/// A value as written.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) enum Raw {
    One(String),
    Many(Vec<String>),
}

/// A value and its origin.
#[derive(Clone)]
pub(in crate::config) struct Given {
    pub(in crate::config) raw: Raw,
    pub(in crate::config) origin: Origin,
}

impl Raw {
    /// Returns the value as one text.
    pub(in crate::config) fn flat(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(parts) => parts.join(","),
        }
    }

    pub(super) fn trimmed(self) -> Self {
        match self {
            Self::One(text) => Self::One(text.trim().to_owned()),
            many @ Self::Many(_) => many,
        }
    }

    /// Returns the value as a list, split at commas and line breaks.
    pub(in crate::config) fn parts(&self) -> Vec<String> {
        let texts = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        };
        let parts = texts.iter().flat_map(|text| text.split([',', '\n']));
        parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }
}

impl Given {
    /// Returns the value for display.
    pub(in crate::config) fn shown(&self, setting: &Setting) -> String {
        let text = self.raw.flat();
        match setting.kind {
            _ if setting.secret => "***".to_owned(),
            // The operator may have entered the token instead of its hash.
            Kind::Hashes => {
                let shown = |part: String| if parse::hash(&part).is_ok() { part } else { "***".to_owned() };
                self.raw.parts().into_iter().map(shown).collect::<Vec<_>>().join(",")
            }
            Kind::BaseUrl | Kind::Url => urls::without_credentials(&text),
            // Some lists are of URLs.
            Kind::Words => text.split_inclusive([',', '\n']).map(urls::without_credentials).collect(),
            _ => text,
        }
    }
}
