//! The head of a page about one job, agent or webhook: what it is, its state, what can be done about it, and its facts.

use crate::http::ops::actions::Action;
use crate::http::ops::frame::Tone;
use crate::http::ops::view::Html;

/// The head, as `subject.html` shows it.
pub(super) struct Subject {
    /// Its kind: Job, Agent or Webhook.
    pub(super) kind: &'static str,
    /// Its name.
    pub(super) name: Html,
    /// Its owner, in words.
    pub(super) of: Html,
    /// Path of the page, which the script loads again; `None` for a page that does not refresh itself.
    pub(super) here: Option<String>,
    /// Heading of its state.
    pub(super) question: &'static str,
    pub(super) badges: Vec<(Tone, String)>,
    /// Its state in words, beside the badges.
    pub(super) state: Html,
    pub(super) actions: Vec<Action>,
    /// Heading, names and values.
    pub(super) facts: (&'static str, Vec<(&'static str, Html)>),
    /// Path of its lines in the audit log.
    pub(super) audit: String,
    /// The same on the command line.
    pub(super) command: Html,
}
