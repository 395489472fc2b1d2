//! Texts with times in them, which each reader formats: the command line relative to now, a page also in UTC.

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{relative, span};

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Words of the service.
    Words(String),
    /// Words of an agent, shortened.
    Agents(String),
    /// An instant: "in 3 min", "3 min ago".
    At(DateTime<Utc>),
    /// The beginning of a state that lasts: "for 3 min".
    Since(DateTime<Utc>),
}

/// A text in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase(Vec<Part>);

impl From<String> for Phrase {
    fn from(words: String) -> Self {
        Self(vec![Part::Words(words)])
    }
}

impl From<&str> for Phrase {
    fn from(words: &str) -> Self {
        Self::from(words.to_owned())
    }
}

impl Phrase {
    /// Words of an agent.
    pub fn of_agent(words: String) -> Self {
        Self(vec![Part::Agents(words)])
    }

    /// Returns the parts in their order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Adds words of the service.
    #[must_use]
    pub fn words(self, words: &str) -> Self {
        self.followed_by(words)
    }

    /// Adds an instant.
    #[must_use]
    pub fn at(mut self, at: DateTime<Utc>) -> Self {
        self.0.push(Part::At(at));
        self
    }

    /// Adds an instant from which on something is due: "now" if it has passed, or if there is none.
    #[must_use]
    pub fn due(self, at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        match at.filter(|at| *at > now) {
            Some(at) => self.at(at),
            None => self.words("now"),
        }
    }

    /// Adds the beginning of a state that lasts.
    #[must_use]
    pub fn since(mut self, at: DateTime<Utc>) -> Self {
        self.0.push(Part::Since(at));
        self
    }

    /// Adds another text.
    #[must_use]
    pub fn followed_by(mut self, other: impl Into<Self>) -> Self {
        self.0.extend(other.into().0);
        self
    }

    /// Returns the text, with its times relative to `now`.
    pub fn in_words(&self, now: DateTime<Utc>) -> String {
        let words = |part: &Part| match part {
            Part::Words(words) | Part::Agents(words) => words.clone(),
            Part::At(at) => relative(now, *at),
            Part::Since(at) => format!("for {}", span(now - *at)),
        };
        self.0.iter().map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn times_are_relative_to_now_in_words() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let (before, after) = (now - TimeDelta::minutes(5), now + TimeDelta::seconds(3));
        let phrase = Phrase::from("on hold ").since(before).words(", fires ").at(after).followed_by(
            Phrase::from("; ended with: ")
                .followed_by(Phrase::of_agent("busy".to_owned()))
                .words(" ")
                .at(before),
        );
        assert_eq!(phrase.in_words(now), "on hold for 5 min, fires in 3 s; ended with: busy 5 min ago");
    }

    #[test]
    fn instant_that_has_passed_is_due_now() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        let signs = |at| Phrase::from("signs ").due(at, now).in_words(now);
        assert_eq!(signs(Some(now + TimeDelta::minutes(1))), "signs in 1 min");
        assert_eq!((signs(Some(now)), signs(None)), ("signs now".to_owned(), "signs now".to_owned()));
    }
}
