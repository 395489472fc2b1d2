//! Texts with times in them as HTML.

use chrono::{DateTime, Utc};

use super::html::Html;
use super::pieces::{agents_words, text};
use super::times::{lasting, when};
use crate::operations::phrase::{Part, Phrase};

/// A text of the service. Its times are also in UTC, and what is an agent's in it is marked as the agent's.
pub(in crate::http::ops) fn phrase(of: &Phrase, now: DateTime<Utc>) -> Html {
    Html::joined(of.parts().iter().map(|part| match part {
        Part::Words(words) => text(words),
        Part::Agents(words) => agents_words(words),
        Part::At(at) => when(*at, now),
        Part::Since(at) => lasting(*at, now),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_shown_and_escaped() {
        let (begin, now) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(5));
        let error = Phrase::of_agent("<b>busy".to_owned());
        let of = Phrase::from("job <i> on hold ")
            .since(begin)
            .words(": ")
            .followed_by(error)
            .words("; ")
            .at(begin);
        let time = "<time class=\"when\" datetime=\"1970-01-01T00:00:00.000Z\"><span class=\"rel\">5 min ago</span> \
                    <span class=\"utc\">1970-01-01 00:00:00.000&nbsp;UTC</span></time>";
        let lasting = time.replace("when", "when lasting").replace("5 min ago", "for 5 min");
        let error = "<q class=\"theirs\">&lt;b&gt;busy</q>";
        assert_eq!(phrase(&of, now).to_string(), format!("job &lt;i&gt; on hold {lasting}: {error}; {time}"));
    }
}
