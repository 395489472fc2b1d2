//! Pieces of HTML that are safe as they are: built in this folder and nowhere else, with every text escaped.

use std::fmt;

use askama::filters::HtmlSafe;

/// A piece of HTML. Templates insert it unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http::ops) struct Html(String);

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Html {}

impl Html {
    /// A piece of HTML whose texts are escaped already.
    pub(super) const fn built(html: String) -> Self {
        Self(html)
    }

    /// Pieces of HTML, one after the other. Each is one that this module has built.
    pub(in crate::http::ops) fn joined(pieces: impl IntoIterator<Item = Html>) -> Self {
        Self(pieces.into_iter().map(|piece| piece.0).collect())
    }

    /// A dash, for a value that does not exist.
    pub(in crate::http::ops) fn dash() -> Self {
        Self("<span class=\"none\">–</span>".to_owned())
    }
}

/// Escapes a text for elements and attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            // They would show another text than the one that is there.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
    html
}
